// A small note beside what is pointed at, focused or touched.

import { el } from "./dom.js";

export class Tip {
  constructor(box) {
    this.box = box;
    this.note = el("div", { class: "tip", role: "tooltip", hidden: true });
    box.append(this.note);
    box.addEventListener("pointerleave", () => this.hide());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
  }

  /** Show `words(event)` (a text, or a heading and lines) while `node` is pointed at. */
  on(node, words) {
    node.addEventListener("pointermove", (event) => this.show(words(event), event.clientX, event.clientY));
    node.addEventListener("click", (event) => this.show(words(event), event.clientX, event.clientY));
    node.addEventListener("pointerleave", () => this.hide());
    // To listen for its focus makes Chromium's keyboard stop at a shape in an SVG.
    if (!node.hasAttribute("tabindex")) return;
    node.addEventListener("focus", (event) => {
      const place = node.getBoundingClientRect();
      this.show(words(event), place.left + place.width / 2, place.bottom);
    });
    node.addEventListener("blur", () => this.hide());
  }

  show(words, x, y) {
    const [first, ...rest] = Array.isArray(words) ? words : [words];
    this.note.replaceChildren(rest.length ? el("b", {}, first) : first, ...rest.map((text) => el("div", {}, text)));
    this.note.hidden = false;
    const box = this.box.getBoundingClientRect();
    const own = this.note.getBoundingClientRect();
    const left = Math.min(Math.max(x - box.left - own.width / 2, 0), box.width - own.width);
    this.note.style.left = `${Math.max(0, left)}px`;
    this.note.style.top = `${y - box.top + 16}px`;
  }

  hide() {
    this.note.hidden = true;
  }
}
