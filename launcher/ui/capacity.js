// How much of each resource is taken, and by whom.

import { $, el, keyed, setText } from "./dom.js";
import { units } from "./format.js";
import { sign } from "./states.js";

const RESIDENT = new Set(["starting", "ready", "draining", "stopping"]);

/** Bars, one per resource; `status` as /api/status has it. */
export function showCapacity(status, leases) {
  const resources = Object.entries(status.capacity);
  $("capacity-section").hidden = resources.length === 0;
  keyed($("capacity"), resources, ([name]) => name, make, (node, [name, whole]) => {
    const takers = status.backends.filter((one) => RESIDENT.has(one.state) && one.needs[name]);
    const used = status.used[name] ?? 0;
    setText(node.querySelector(".amount"), `${units(used, whole)} of ${units(whole)}`);
    const tank = node.querySelector(".tank");
    const told = takers.map((one) => `${one.backend} ${units(one.needs[name], whole)} (${one.state})`);
    tank.setAttribute("aria-label", `${name}: ${told.join(", ") || "all free"}`);
    const parts = takers.map((one) => ({ ...one, amount: one.needs[name] }));
    for (const one of leases.reserved(name)) {
      parts.push({ backend: `lease ${one.id}`, state: "reserved", amount: one.amount, note: one.note });
    }
    const free = whole - used;
    if (free > 0) parts.push({ backend: "", state: "", amount: free });
    keyed(tank, parts, (one) => one.backend || "free", makeShare, (share, one) => {
      share.style.flexGrow = String(one.amount);
      if (!one.backend) return;
      share.dataset.state = one.state;
      share.classList.toggle("over", used > whole);
      share.title = `${one.backend}: ${units(one.amount, whole)}, ${one.state}`;
      const words = leases.of(one.backend) ? `${one.backend} · held` : one.note || one.backend;
      setText(share.querySelector("span"), words);
      if (share.dataset.sign !== one.state) {
        share.dataset.sign = one.state;
        share.querySelector("svg")?.remove();
        const picture = sign(one.state);
        picture.setAttribute("width", "14");
        picture.setAttribute("height", "14");
        share.prepend(picture);
      }
    });
  });
}

function make([name]) {
  return el(
    "div",
    { class: "resource" },
    el("span", { class: "name" }, name),
    el("div", { class: "tank", role: "img" }),
    el("span", { class: "amount" }),
  );
}

function makeShare(one) {
  if (!one.backend) return el("div");
  const share = el("div", { class: "share" }, el("span"));
  share.style.flexBasis = "0";
  return share;
}
