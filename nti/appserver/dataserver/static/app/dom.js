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

// Scroll a box, and nothing around it, until one of its elements is in sight.
export function reveal(box, element) {
  if (!element) return;
  const outer = box.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    box.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
  }
}

export function notice(text) {
  const place = byId("notice");
  place.replaceChildren(text);
  place.hidden = !text;
}
