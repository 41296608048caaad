// Making elements. Text only ever becomes a text node, so nothing that a page, a query or a
// reader wrote is taken for markup.

export const byId = (id) => document.getElementById(id);

// make("a", { href, class: "x", onclick: f }, "text", element, ...)
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function notice(text) {
  const place = byId("notice");
  place.replaceChildren(text);
  place.hidden = !text;
}
