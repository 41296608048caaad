// The page at /: shows the place that the address names, and starts everything once.

import { byId, notice, title } from "./dom.js";
import { loadUnits, pageFor, showHome, showPlace } from "./library.js";
import { startLive, watch } from "./live.js";
import * as notes from "./notes.js";
import { read, startReader } from "./reader.js";
import { current, toPage, toSearch } from "./routes.js";
import { showResults } from "./search.js";
import { startSession } from "./session.js";

// Between two looks at the index: while it grows, and at most while nothing happens.
const PROGRESS_MILLISECONDS = 1500;
const LONGEST_MILLISECONDS = 60_000;

const stages = { home: "home", search: "results", read: "reader" };

let index = { indexed: 0, pages: 0 };

async function showCurrent() {
  const place = current();
  for (const [kind, id] of Object.entries(stages)) byId(id).hidden = kind !== place.kind;
  byId("notes").hidden = place.kind !== "read";
  byId("layout").dataset.kind = place.kind;
  try {
    await { home: showStart, search: showSearch, read: showPage }[place.kind](place);
  } catch (problem) {
    notice(problem.message);
  }
}

async function showStart() {
  notice("");
  title("");
  showHome(index);
  await showPlace("");
}

async function showSearch({ term, unit }) {
  notice("");
  title(`“${term}”`);
  await showResults(term, unit);
}

async function showPage({ path, anchor }) {
  const page = await pageFor(path);
  if (page !== path || !page) {
    location.replace(page ? toPage(page, anchor) : "#/");
    return;
  }
  read(path, anchor);
  notes.open(path);
  watch(path);
  await showPlace(path);
}

function search(event) {
  event.preventDefault();
  const term = byId("query").value.trim();
  if (term) location.hash = toSearch(term, byId("scope").value);
}

// While the index is being made, say how far it is; titles come with it.
async function followIndex() {
  let pause = PROGRESS_MILLISECONDS;
  while (index.indexed < index.pages || index.pages === 0) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      const before = index.indexed;
      index = await loadUnits();
      const grows = index.indexed !== before;
      pause = grows ? PROGRESS_MILLISECONDS : Math.min(1.5 * pause, LONGEST_MILLISECONDS);
      if (current().kind === "home") showHome(index);
    } catch {
      // The connection's state is shown already.
    }
  }
}

async function start() {
  byId("search").addEventListener("submit", search);
  startReader();
  notes.startNotes();
  await startSession(() => notes.show());
  startLive(notes.heard, notes.catchUp);
  try {
    index = await loadUnits();
  } catch (problem) {
    notice(problem.message);
  }
  window.addEventListener("hashchange", showCurrent);
  await showCurrent();
  followIndex();
}

start();
