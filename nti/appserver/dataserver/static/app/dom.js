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

// Replace what a box has. It stays where it is scrolled to, and the focus stays on the element
// with the same data-key, so that whoever reads with the keyboard is not sent back to the top.
export function replace(box, ...children) {
  const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const position = box.scrollTop;
  box.replaceChildren(...children);
  box.scrollTop = position;
  if (key !== undefined) {
    box.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
}

// Make these a list's children. Those that are there already are not touched: they keep focus and
// caret, and screen readers tell of the others alone.
export function settle(list, elements) {
  const wanted = new Set(elements);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  elements.forEach((element, place) => {
    if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
  });
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

// What the window's title, the browser's history and its bookmarks say of the place.
export function title(text) {
  document.title = text ? `${text} – Library` : "Library";
}

export function notice(text) {
  const place = byId("notice");
  place.replaceChildren(text);
  place.hidden = !text;
}
