// A search's results, a screenful at a time.

import { get } from "./api.js";
import { byId, make, notice } from "./dom.js";
import { unitTitle } from "./library.js";
import { pageAddress, toPage } from "./routes.js";

let latest = 0;

const pieces = (snippet) =>
  snippet.map((piece) => (piece.hit ? make("mark", {}, piece.text) : piece.text));

function hitEntry(hit) {
  const unit = hit.page.includes("/") ? hit.page.slice(0, hit.page.lastIndexOf("/")) : "";
  const inSection = hit.section && hit.section !== hit.title;
  return make(
    "li",
    {},
    make("a", { href: toPage(hit.page, hit.anchor) }, hit.title),
    make(
      "p",
      { class: "where" },
      unitTitle(unit),
      inSection ? make("span", {}, ` › ${hit.section}`) : null,
    ),
    make("p", { class: "snippet" }, ...pieces(hit.snippet)),
  );
}

function heading(found, unit) {
  const where = unit ? ` in ${unitTitle(unit)}` : "";
  const number = found.total === 1 ? "1 page" : `${found.total} pages`;
  return [make("h1", {}, `“${found.query}”`), make("p", { class: "lead" }, `${number}${where}`)];
}

function hint(found) {
  const { indexed, pages } = found.index;
  if (indexed < pages) return `The search is still being prepared: ${indexed} of ${pages} pages.`;
  if (found.total) return "";
  return "Try fewer words, or the beginning of one with a star, as in gener*.";
}

function more(list, found) {
  const next = found.Links.find((link) => link.rel === "next");
  if (!next) return null;
  const button = make("button", { type: "button", class: "quiet", onclick: load }, "More results");
  return button;

  async function load() {
    try {
      const further = await get(next.href);
      list.append(...further.Items.map(hitEntry));
      button.replaceWith(...[more(list, further)].filter(Boolean));
      list.children[found.start + found.Items.length]?.querySelector("a").focus();
    } catch (problem) {
      notice(problem.message);
    }
  }
}

export async function showResults(term, unit) {
  const place = byId("results");
  const folder = unit ? `${pageAddress(unit)}/` : "/library/";
  const mine = ++latest;
  byId("query").value = term;
  byId("scope").value = unit;
  let content;
  try {
    const found = await get(`${folder}Search/${encodeURIComponent(term)}`);
    const list = make("ol", { class: "hits" }, ...found.Items.map(hitEntry));
    const told = make("p", { class: "lead" }, hint(found));
    content = [...heading(found, unit), told, list, more(list, found)].filter(Boolean);
  } catch (problem) {
    content = [make("h1", {}, `“${term}”`), make("p", { class: "problem" }, problem.message)];
  }
  if (mine !== latest) return; // an answer to an earlier question
  place.replaceChildren(...content);
  place.parentElement.scrollTop = 0;
}
