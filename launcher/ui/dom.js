// Small helpers for building the page. Text is always set as text: nothing that a
// configuration, a backend or a client wrote is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** An element: `el("p", {class: "x", onclick: f, hidden: true}, "text", child, …)`. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** Set a text only where it differs, so that nothing is selected or read anew for nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Keep one child per item under `parent`, in order, by key: `make(item)` for a new one, then
 * `update(node, item)` for each. Focus and open details stay where they are.
 */
export function keyed(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let before = null;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    known.delete(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    update(node, item);
    const place = before ? before.nextElementSibling : parent.firstElementChild;
    if (place !== node) parent.insertBefore(node, place);
    before = node;
  }
  for (const gone of known.values()) gone.remove();
}

/** Say it to who listens to the page, once it is quiet. */
let saying = [];
let timer = 0;
export function announce(text) {
  saying.push(text);
  clearTimeout(timer);
  timer = setTimeout(() => {
    $("announce").textContent = saying.slice(-4).join(". ");
    saying = [];
  }, 400);
}

/** Show something that went wrong (or right), whole, until it is dismissed or a while is over. */
export function toast(text, tone = "bad", detail = "") {
  const one = el(
    "div",
    { class: "toast", "data-tone": tone },
    el("p", {}, text),
    detail && el("pre", {}, detail),
    el("button", { type: "button", "aria-label": "Dismiss", onclick: () => one.remove() }, "×"),
  );
  $("toasts").append(one);
  setTimeout(() => one.remove(), tone === "bad" ? 30_000 : 6_000);
}

/** Ask before something that can't be taken back; the value of the button that was pressed. */
export function sure(title, text, yes, also = "") {
  const dialog = $("sure");
  $("sure-title").textContent = title;
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  $("sure-also").textContent = also;
  $("sure-also").hidden = !also;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue), { once: true });
  });
}
