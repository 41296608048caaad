// The reader's frame. Its page runs in a sandbox with an origin of its own, so it cannot be
// looked into; it says which page it is, and which link was followed. Both are hints: a page
// may say anything, and all that it gets is another page of the library or a link to look at.

import { byId, make, notice } from "./dom.js";
import { pageAddress, toPage } from "./routes.js";

const PREFIX = "/library/";
const LONGEST = 2048;

const frame = byId("frame");
let shown = "";
let told = false;

// A path in the library for an address's path, or null.
function pathOf(pathname) {
  if (!pathname.startsWith(PREFIX) || pathname.length > LONGEST) return null;
  try {
    return decodeURIComponent(pathname.slice(PREFIX.length));
  } catch {
    return null;
  }
}

function offerOutside(url) {
  notice(
    make(
      "span",
      {},
      "This link leaves the library: ",
      make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, url.href),
    ),
  );
}

function follow(href) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return;
  }
  if (!["http:", "https:"].includes(url.protocol)) return;
  const path = url.origin === location.origin ? pathOf(url.pathname) : null;
  if (path === null) offerOutside(url);
  else location.hash = toPage(path, decodeURIComponent(url.hash.slice(1)));
}

function heard(event) {
  if (event.source !== frame.contentWindow || typeof event.data !== "object") return;
  const { kind, path, href } = event.data ?? {};
  if (kind === "follow" && typeof href === "string" && href.length <= LONGEST) follow(href);
  if (kind === "shown") told = typeof path === "string" && pathOf(path) === shown;
}

const isPage = (path) => /\.html?$/i.test(path);

// A page that has loaded and not said that it is the one asked for is not there, or has gone
// elsewhere by itself. Pictures and other files say nothing.
async function loaded() {
  const path = shown;
  const expected = told || !isPage(path);
  told = false;
  if (expected) return;
  let problem = "The page has led elsewhere by itself; the notes are not about it.";
  try {
    const found = await fetch(pageAddress(path), { method: "HEAD" });
    if (!found.ok) problem = "There is no such page in the library.";
  } catch {
    problem = "The server does not answer. Open the page again in a moment.";
    delete frame.dataset.address; // or it would be taken for the page that is shown already
  }
  if (path === shown) notice(problem);
}

export function read(path, anchor) {
  notice("");
  const address = `${pageAddress(path)}?frame${anchor ? `#${encodeURIComponent(anchor)}` : ""}`;
  if (frame.dataset.address === address) return;
  frame.dataset.address = address;
  shown = path;
  // Replacing leaves the browser's history to the site's own address.
  frame.contentWindow.location.replace(address);
}

export function startReader() {
  window.addEventListener("message", heard);
  frame.addEventListener("load", loaded);
}
