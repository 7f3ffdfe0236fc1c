// Elements without markup in strings: whatever a node says is text here and can never become code.

/** An element: attributes, `onclick` and the like, and children, which are nodes or text; null leaves no trace. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets a text, and touches nothing if it is the same: selections and screen readers stay in peace. */
export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Keeps the children of `parent` one for each item, by key: known ones stay, with focus, and are updated in place. */
export function keyed(parent, items, keyOf, make) {
  const known = parent.rowsByKey ?? (parent.rowsByKey = new Map());
  const wanted = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    let row = known.get(key);
    if (!row) {
      row = make(item);
      if (row instanceof Node) row = { node: row };
    }
    row.update?.(item);
    wanted.set(key, row);
    if (row.node === place) place = place.nextSibling;
    else parent.insertBefore(row.node, place);
  }
  for (const [key, row] of known) if (!wanted.has(key)) row.node.remove();
  // What stood there before the first items, such as a placeholder.
  while (place) { const next = place.nextSibling; place.remove(); place = next; }
  parent.rowsByKey = wanted;
}

/** A table with named columns: `{ label, of: (item) => text or node, number?: true }`. Scrolls in itself, never the page. */
export function table(caption, columns, keyOf) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.label)));
  const node = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), body));
  const make = () => {
    const cells = columns.map((column, at) => h(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, class: column.number ? "number" : null, "data-label": column.label }));
    return {
      node: h("tr", {}, cells),
      update: (item) => columns.forEach((column, at) => {
        const shown = column.of(item);
        if (shown instanceof Node) {
          // Controls are made once: a button that is replaced under the finger is no button.
          if (!column.once || !cells[at].firstChild) cells[at].replaceChildren(shown);
        } else say(cells[at], shown);
      }),
    };
  };
  return { node, show: (items) => keyed(body, items, keyOf, make) };
}

/** A part of a page that shows its content, or says why there is none. */
export function section(title, { note, tools, wide } = {}) {
  const said = h("p", { class: "empty" }, "Waiting for the node.");
  const content = h("div", { class: "content", hidden: true });
  const id = `part-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  const node = h("section", { class: wide ? "panel wide" : "panel", "aria-labelledby": id },
    h("div", { class: "head" }, h("h2", { id }, title), note ? h("p", { class: "note" }, note) : null, tools ?? null), said, content);
  return {
    node, content,
    /** Shows the content, or the text instead of it. */
    show(text) {
      said.hidden = !text;
      content.hidden = Boolean(text);
      if (text) say(said, text);
    },
  };
}

export const pill = (kind, text) => h("span", { class: `pill ${kind}` }, text);
