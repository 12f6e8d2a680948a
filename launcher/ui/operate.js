// Switches, modes, leases: what an operator does over time.

import { getIfMay, send } from "./api.js";
import { $, announce, el, keyed, setText, sure, toast } from "./dom.js";
import { clock, duration, ms, time } from "./format.js";

/** The leases as one list, and whose backend is held. */
export class Leases {
  constructor() {
    this.all = [];
  }

  update(status) {
    this.all = status.leases;
  }

  /** The lease that holds a backend: `{id, pin, words}`. */
  of(backend) {
    const mine = this.all.filter((one) => one.granted_at && one.backends.includes(backend));
    const lease = mine.find((one) => one.pin) ?? mine[0];
    if (!lease) return null;
    const until = lease.pin ? "pinned" : `held until ${time(lease.expires_at)}`;
    return { id: lease.id, pin: lease.pin, words: lease.note ? `${until}: ${lease.note}` : until };
  }

  /** What is kept free of a resource for work outside the launcher: `{id, amount, note}`. */
  reserved(resource) {
    return this.all
      .filter((one) => one.granted_at && !one.routes.length && one.needs[resource])
      .map((one) => ({ id: one.id, amount: one.needs[resource], note: one.note }));
  }
}

/** A field with its name above it; a name that wraps a list would be all of its choices, too. */
const field = (name, input, kind = "field") => el("div", { class: kind }, el("label", { for: input.id }, name), input);

/** What stands for "no route" among those that can be leased. */
const NOTHING = "";
const SIZES = { "": 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };

/** `vram 8GiB, gpu 1` as `{vram: 8589934592, gpu: 1}`; null where it can't be read. */
export function needsOf(text) {
  const found = {};
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const match = /^([\w-]+)\s*[=: ]\s*([\d.]+)\s*([kmgt]ib)?$/i.exec(part);
    if (!match) return null;
    found[match[1]] = Math.round(Number(match[2]) * SIZES[(match[3] ?? "").toLowerCase()]);
  }
  return Object.keys(found).length ? found : null;
}

export class Operate {
  constructor({ refresh, skew }) {
    this.refresh = refresh;
    this.skew = skew;
    this.leases = [];
    this.build();
  }

  build() {
    this.route = el("select", { id: "switch-route" });
    this.steps = el("ol", { class: "steps" });
    this.story = el("p", { class: "story-now", role: "status" });
    $("switching").append(
      el("h3", {}, "Switch now"),
      el("p", { class: "quiet" }, "Makes it resident ahead of the queue; streams in flight end first."),
      el(
        "div",
        { class: "row" },
        field("Route", this.route),
        el("button", { type: "button", class: "strong", onclick: () => this.switchTo() }, "Switch"),
      ),
      this.story,
      this.steps,
    );
    this.modes = el("div", { class: "buttons" });
    $("modes").append(el("h3", {}, "Modes"), this.modes);
    this.list = el("ul", { class: "list" });
    this.held = el("select", { id: "lease-route", onchange: () => this.choose() });
    this.ttl = el("input", { id: "lease-ttl", value: "45m", autocomplete: "off" });
    this.note = el("input", { id: "lease-note", autocomplete: "off", maxlength: 200 });
    this.needs = el("input", { id: "lease-needs", autocomplete: "off", placeholder: "vram 8GiB" });
    this.needed = field("How much", this.needs);
    this.needed.hidden = true;
    $("leases").append(
      el("h3", {}, "Leases"),
      el("p", { class: "quiet" }, "What is held is neither evicted nor stopped for being idle."),
      this.list,
      el(
        "form",
        { class: "row", onsubmit: (event) => this.lease(event) },
        field("Hold", this.held),
        this.needed,
        field("for", this.ttl, "field small"),
        field("Note", this.note),
        el("button", { type: "submit" }, "Lease"),
      ),
    );
  }

  choose() {
    this.needed.hidden = this.held.value !== NOTHING;
  }

  update(status, told) {
    const { mode, switches } = told;
    const routes = status.routes.map((one) => ({ value: one.route, text: one.route }));
    const free = { value: NOTHING, text: "no route: keep room free" };
    for (const [list, choices] of [[this.route, routes], [this.held, [...routes, free]]]) {
      keyed(list, choices, (one) => one.value, (one) => el("option", { value: one.value }, one.text), () => {});
    }
    $("switching").hidden = switches === null;
    if (switches !== null) this.showSwitch(switches.switches[0]);
    $("modes").hidden = !mode?.modes.length;
    if (mode !== null) this.showModes(mode);
    this.showLeases(status.leases);
  }

  showSwitch(one) {
    this.steps.hidden = !one;
    if (!one) return setText(this.story, "");
    const left = one.predicted_ms ? `, about ${ms(one.predicted_ms)} left` : "";
    const took = one.finished_at ? `, after ${ms(one.duration_ms)}` : "";
    setText(this.story, `To ${one.to}: ${one.state_text}${took}${left}`);
    const signs = new Map([[true, "✓"], [false, "✕"], [null, "…"]]);
    keyed(
      this.steps,
      one.steps.map((step, number) => ({ ...step, number })),
      (step) => `${one.switch_id} ${step.number}`,
      () => el("li", {}, el("span"), el("span"), el("span", { class: "when" }), el("span", { class: "detail" })),
      (node, step) => {
        const [mark, name, when, detail] = node.children;
        setText(mark, signs.get(step.ok));
        setText(name, step.name);
        setText(when, step.duration_ms === null ? time(step.time) : ms(step.duration_ms));
        setText(detail, step.detail ?? "");
      },
    );
    return undefined;
  }

  showModes(told) {
    this.mode = told.mode;
    keyed(
      this.modes,
      told.modes,
      (one) => one.mode,
      (one) => el("button", { type: "button", onclick: () => this.setMode(one.mode) }, one.mode),
      (node, one) => {
        node.setAttribute("aria-pressed", String(one.mode === told.mode));
        node.title = `${one.routes.join(", ")} for ${duration(one.ttl_seconds)}`;
      },
    );
  }

  showLeases(leases) {
    this.leases = leases;
    keyed(
      this.list,
      leases,
      (one) => one.id,
      (one) =>
        el(
          "li",
          {},
          el("span", { class: "grow" }),
          el("span", { class: "left" }),
          el("button", { type: "button", onclick: () => this.renew(one.id) }, "Renew"),
          el("button", { type: "button", onclick: () => this.release(one.id) }, "Release"),
        ),
      (node, one) => {
        const what = one.mode ? `mode ${one.mode}` : one.routes.join(", ") || "room kept free";
        const by = one.by ? ` (${one.by})` : "";
        const waits = one.granted_at ? "" : ` – ${one.state_text}`;
        setText(node.children[0], `${what}${by}${one.note ? `: ${one.note}` : ""}${waits}`);
        node.children[2].hidden = one.pin || !one.granted_at;
        node.children[2].setAttribute("aria-label", `Renew lease on ${what}`);
        node.children[3].setAttribute("aria-label", `Release lease on ${what}`);
      },
    );
    this.tick();
  }

  tick() {
    const now = Date.now() + this.skew();
    for (const one of this.leases) {
      const node = [...this.list.children].find((item) => item.dataset.key === String(one.id));
      const left = one.granted_at && !one.pin ? clock((Date.parse(one.expires_at) - now) / 1000) : "";
      if (node) setText(node.children[1], one.pin ? "no end" : left);
    }
  }

  async act(words, work) {
    try {
      await work();
      announce(words);
    } catch (error) {
      toast(`${words}: ${error.message}`, "bad", error.detail);
    }
    this.refresh();
  }

  async switchTo() {
    const route = this.route.value;
    const body = { route, wait: false };
    try {
      await send("POST", "api/switch", body);
      announce(`switching to ${route}`);
    } catch (error) {
      if (error.code !== "leased") return toast(`switch to ${route}: ${error.message}`, "bad", error.detail);
      if (!(await sure(`Break the lease?`, error.message, "Break it and switch"))) return undefined;
      await this.act(`switch to ${route}`, () => send("POST", "api/switch", { ...body, force: true }));
    }
    return this.refresh();
  }

  lease(event) {
    event.preventDefault();
    const body = { ttl: this.ttl.value.trim(), note: this.note.value.trim(), wait: false };
    if (this.held.value !== NOTHING) body.route = this.held.value;
    else body.needs = needsOf(this.needs.value);
    if (body.needs === null) return toast("How much is to be kept free? Such as: vram 8GiB");
    return this.act(`lease on ${body.route ?? "room"}`, () => send("POST", "api/leases", body));
  }

  renew(id) {
    return this.act(`renew lease ${id}`, () => send("PUT", `api/leases/${id}`, { ttl: this.ttl.value.trim() }));
  }

  release(id) {
    return this.act(`release lease ${id}`, () => send("DELETE", `api/leases/${id}`));
  }

  setMode(name) {
    if (this.mode === name) return this.act(`end mode ${name}`, () => send("DELETE", "api/mode"));
    return this.act(`mode ${name}`, () => send("POST", "api/mode", { mode: name, wait: false }));
  }
}

/** What isn't in the status: null for what the key may not see. */
export async function askOperations() {
  const [mode, switches] = await Promise.all(["api/mode", "api/switches"].map((path) => getIfMay(path)));
  return { mode, switches };
}
