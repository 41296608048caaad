// Places in the page, as the address's fragment names them:
//   #/                      all units
//   #/read/PATH?at=ANCHOR   a page of the library; a unit's folder is its first page
//   #/search/TERM?in=UNIT   a search's results

const coded = (path) => path.split("/").map(encodeURIComponent).join("/");

const withQuery = (address, name, value) =>
  value ? `${address}?${name}=${encodeURIComponent(value)}` : address;

export const toPage = (path, anchor = "") => withQuery(`#/read/${coded(path)}`, "at", anchor);

export const toSearch = (term, unit = "") =>
  withQuery(`#/search/${encodeURIComponent(term)}`, "in", unit);

// Where a page of the library is served.
export const pageAddress = (path) => `/library/${coded(path)}`;

export function current() {
  const [place, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const options = new URLSearchParams(query);
  const [kind, ...rest] = place.split("/");
  try {
    const text = rest.map(decodeURIComponent).join("/");
    if (kind === "read") return { kind, path: text, anchor: options.get("at") || "" };
    if (kind === "search" && text) return { kind, term: text, unit: options.get("in") || "" };
  } catch {
    // A fragment that is not well formed leads home.
  }
  return { kind: "home" };
}
