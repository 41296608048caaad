// The notes on the page that is being read: shown, told live, written, changed, deleted.

import { get, request } from "./api.js";
import { byId, make, notice, reveal, settle } from "./dom.js";
import { reader } from "./session.js";

const LIMIT = 10_000;
const HINT_FROM = 9_000;

const RESOURCE = "/dataserver2/notes";

let page = "";
let editing = null;
const notes = new Map();
const gone = new Set();
const entries = new Map(); // a note's id -> what is shown of it, and of which state

const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

const etag = (note) => `"${note.id}.${note.version}"`;

// -- showing

// The same element for as long as it would look the same: it may have the focus. An editor stays
// whatever becomes of the note meanwhile: somebody is typing in it.
function entry(note) {
  const state = editing === note.id ? "editing" : `${note.version} ${note.author === reader}`;
  const known = entries.get(note.id);
  if (known?.state === state) return known.element;
  const element = newEntry(note);
  entries.set(note.id, { state, element });
  return element;
}

function newEntry(note) {
  const changed = note.version > 1 ? " · changed" : "";
  const date = new Date(note.modified * 1000);
  return make(
    "li",
    { "data-id": note.id },
    make(
      "p",
      { class: "byline" },
      make("strong", {}, note.author),
      make("time", { datetime: date.toISOString() }, when.format(date) + changed),
    ),
    ...(editing === note.id ? [editor(note)] : [make("p", { class: "text" }, note.text)]),
    note.author === reader && editing !== note.id ? actions(note) : null,
  );
}

function actions(note) {
  const act = (label, onclick) => make("button", { type: "button", class: "quiet", onclick }, label);
  return make(
    "p",
    { class: "actions" },
    act("Edit", () => edit(note.id)),
    act("Delete", () => remove(note)),
  );
}

function editor(note) {
  const text = make("textarea", { rows: "4", maxlength: String(LIMIT), "aria-label": "The note" });
  text.value = note.text;
  let seen = note;
  const save = async (event) => {
    event.preventDefault();
    await change(seen, text.value);
    // Refused because the note has changed: the reader was told, and saving again means it.
    seen = notes.get(note.id) ?? seen;
  };
  return make(
    "form",
    { class: "editor", onsubmit: save },
    text,
    make(
      "div",
      { class: "row" },
      make("button", { type: "button", class: "quiet", onclick: () => close(note.id) }, "Cancel"),
      make("button", {}, "Save"),
    ),
  );
}

function edit(id) {
  editing = id;
  show();
  byId("notes-list").querySelector("textarea")?.focus();
}

function close(id) {
  editing = null;
  show();
  entries.get(id)?.element.querySelector("button")?.focus();
}

export function show(fresh = null) {
  const all = [...notes.values()].sort((a, b) => a.created - b.created);
  for (const id of [...entries.keys()]) if (!notes.has(id)) entries.delete(id);
  settle(byId("notes-list"), all.map(entry));
  byId("notes-count").textContent = all.length ? String(all.length) : "";
  byId("compose").hidden = !reader;
  byId("invite").hidden = Boolean(reader);
  if (fresh) {
    const place = entries.get(fresh)?.element;
    place?.classList.add("fresh");
    reveal(byId("notes-list"), place);
  }
}

// -- keeping up: answers and live events come in any order, so a version never goes back

function take(note) {
  if (note.page !== page || gone.has(note.id)) return false;
  const known = notes.get(note.id);
  if (known && known.version >= note.version) return false;
  notes.set(note.id, note);
  return true;
}

function forget(id) {
  gone.add(id);
  if (editing === id) editing = null;
  return notes.delete(id);
}

export function heard(event, note) {
  if (note.page !== page) return;
  if (event === "deleted" ? forget(note.id) : take(note)) {
    show(event === "created" ? note.id : null);
  }
}

async function all(path) {
  const found = [];
  let next = `${RESOURCE}?page=${encodeURIComponent(path)}&count=1000`;
  while (next) {
    const part = await get(next);
    found.push(...part.Items);
    next = part.Links.find((link) => link.rel === "next")?.href;
  }
  return found;
}

// Read the page's notes anew: what was missed is made up for.
export async function catchUp(path) {
  let found;
  try {
    found = await all(path);
  } catch (problem) {
    notice(problem.message);
    return;
  }
  if (path !== page) return;
  const there = new Set(found.map((note) => note.id));
  for (const id of [...notes.keys()]) if (!there.has(id)) notes.delete(id);
  found.forEach(take);
  show();
}

export function open(path) {
  if (path === page) return;
  page = path;
  editing = null;
  notes.clear();
  gone.clear();
  show();
}

// -- writing

const CHANGED = "The note has been changed elsewhere meanwhile. Do it again to go ahead all the same.";

async function attempt(work) {
  try {
    const done = await work();
    notice("");
    return done;
  } catch (problem) {
    notice(problem.status === 412 ? CHANGED : problem.message);
    if (problem.status === 412 || problem.status === 404) await catchUp(page);
    return null;
  }
}

async function add(event) {
  event.preventDefault();
  const field = byId("compose-text");
  const note = await attempt(() =>
    request("POST", RESOURCE, { body: { page, text: field.value } }),
  );
  if (!note) return;
  field.value = "";
  hint();
  if (take(note)) show(note.id);
}

async function change(note, text) {
  const headers = { "If-Match": etag(note) };
  const changed = await attempt(() => request("PUT", note.href, { body: { text }, headers }));
  if (!changed) return;
  take(changed);
  close(changed.id);
}

async function remove(note) {
  const done = await attempt(async () => {
    await request("DELETE", note.href, { headers: { "If-Match": etag(note) } });
    return true;
  });
  if (!done) return;
  if (forget(note.id)) show();
  byId("compose-text").focus();
}

function hint() {
  const length = byId("compose-text").value.length;
  byId("compose-hint").textContent = length > HINT_FROM ? `${LIMIT - length} characters left` : "";
}

export function startNotes() {
  byId("compose").addEventListener("submit", add);
  byId("compose-text").addEventListener("input", hint);
  byId("compose-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("compose").requestSubmit();
  });
}
