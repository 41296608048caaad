// The units: the contents at the side, the cards of the first page, the search's scope.

import { get } from "./api.js";
import { byId, make, notice, replace, reveal, title } from "./dom.js";
import { toPage } from "./routes.js";

const HUES = 6;

let units = [];
let openUnit = null;
let currentPath = "";

const pagesOf = new Map();
const byTitle = new Intl.Collator(undefined, { numeric: true });

export const unitTitle = (unit) => units.find((each) => each.unit === unit)?.title ?? unit;

const isIndex = (page) => /(^|\/)index\.html?$/i.test(page.page);

// Chapter 10 comes after chapter 9, and a unit's index before all.
const inOrder = (a, b) => isIndex(b) - isIndex(a) || byTitle.compare(a.title, b.title);

async function pages(unit) {
  if (!pagesOf.has(unit.unit)) {
    const items = (await get(`${unit.href}?count=2000`)).Items;
    pagesOf.set(unit.unit, items.sort(inOrder));
  }
  return pagesOf.get(unit.unit);
}

const unitOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

// Where a unit is opened; `pageFor` finds its first page.
const toUnit = (unit) => toPage(unit.unit && `${unit.unit}/`);

// The page that an address of a folder stands for.
export async function pageFor(path) {
  if (path && !path.endsWith("/")) return path;
  const unit = units.find((each) => each.unit === unitOf(path));
  return unit ? (await pages(unit))[0].page : path;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

// -- the side

async function toggle(unit) {
  const before = openUnit;
  openUnit = openUnit === unit.unit ? null : unit.unit;
  try {
    await showUnits();
  } catch (problem) {
    openUnit = before;
    notice(problem.message);
  }
}

async function unitEntry(unit) {
  const open = unit.unit === openUnit;
  const entry = make(
    "li",
    {},
    make(
      "button",
      {
        type: "button",
        class: "unit",
        "aria-expanded": String(open),
        "data-key": `unit ${unit.unit}`,
        onclick: () => toggle(unit),
      },
      make("span", { class: "name" }, unit.title),
      make("span", { class: "count" }, String(unit.pages)),
    ),
  );
  if (open) entry.append(make("ol", { class: "pages" }, ...(await pages(unit)).map(pageEntry)));
  return entry;
}

function pageEntry(page) {
  const here = page.page === currentPath;
  return make(
    "li",
    {},
    make(
      "a",
      {
        href: toPage(page.page),
        "aria-current": here && "page",
        "data-key": page.page,
        title: page.page,
      },
      page.title,
      page.notes ? notesDot(page.notes) : null,
    ),
  );
}

function notesDot(number) {
  const told = count(number, "note");
  return make("span", { class: "dot", role: "img", "aria-label": told, title: told });
}

async function showUnits() {
  const entries = await Promise.all(units.map(unitEntry));
  replace(byId("units"), make("ol", {}, ...entries));
}

// Open the contents at the page that is being read.
export async function showPlace(path) {
  currentPath = path;
  if (path) openUnit = unitOf(path);
  await showUnits();
  const here = byId("units").querySelector("[aria-current]");
  reveal(byId("units"), here);
  if (path) title(here?.firstChild.data ?? path);
}

// -- the first page

function card(unit, number) {
  const href = toUnit(unit);
  return make(
    "a",
    { class: "card", "data-hue": String(number % HUES), "data-key": href, href },
    make("strong", {}, unit.title),
    make("span", {}, [unit.unit || "the library's own pages", count(unit.pages, "page")].join(" · ")),
  );
}

export function showHome(index) {
  const total = units.reduce((sum, unit) => sum + unit.pages, 0);
  const lead = units.length
    ? `${count(units.length, "unit")} with ${count(total, "page")}.`
    : "Nothing yet: the library has no HTML pages. They appear here when its folder gets some.";
  replace(
    byId("home"),
    make("h1", {}, "What would you like to read?"),
    make("p", { class: "lead" }, lead),
    make("p", { id: "progress", class: "progress", role: "status" }),
    make("div", { class: "cards" }, ...units.map(card)),
  );
  showProgress(index);
}

function showProgress({ indexed, pages: all }) {
  const place = byId("progress");
  if (!place) return;
  place.hidden = indexed >= all;
  place.replaceChildren(
    make("span", {}, `Preparing the search: ${indexed} of ${all} pages`),
    make("progress", { value: String(indexed), max: String(all) }),
  );
}

// Ask for the units; how far the search's index has come is returned.
export async function loadUnits() {
  const library = await get("/library");
  units = library.Items;
  pagesOf.clear();
  const scope = byId("scope");
  const chosen = scope.value;
  scope.replaceChildren(
    make("option", { value: "" }, "Everywhere"),
    ...units.filter((unit) => unit.unit).map((unit) => make("option", { value: unit.unit }, unit.title)),
  );
  scope.value = chosen;
  await showUnits();
  return library.index;
}
