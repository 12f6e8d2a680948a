// Switches, modes, leases: what an operator does over time. Each part shows itself where this
// launcher has its endpoints.

import { getIfThere, send } from "./api.js";
import { $, announce, el, keyed, setText, sure, toast } from "./dom.js";
import { clock, ms, time } from "./format.js";

/** The leases as one list, and whose backend is held. */
export class Leases {
  constructor() {
    this.all = [];
    this.routes = new Map();
  }

  update(told, status) {
    this.all = told?.leases ?? status.leases ?? [];
    this.routes = new Map(status.routes.map((one) => [one.route, one]));
  }

  /** The lease that holds a backend: `{id, pin, words}`. */
  of(backend) {
    const holds = (one) =>
      (one.backends ?? namesOf(one).flatMap((name) => this.routes.get(name)?.backends ?? [])).includes(backend);
    const mine = this.all.filter(holds);
    const lease = mine.find(isPin) ?? mine[0];
    if (!lease) return null;
    const until = isPin(lease) ? "pinned" : `held until ${time(lease.expires_at)}`;
    return { id: lease.id, pin: isPin(lease), words: lease.note ? `${until}: ${lease.note}` : until };
  }
}

const namesOf = (lease) => lease.routes ?? (lease.route ? [lease.route] : []);
const isPin = (lease) => lease.pin === true || (lease.state !== "pending" && lease.expires_at === null);

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
    this.story = el("p", { class: "list quiet", role: "status" });
    $("switching").append(
      el("h3", {}, "Switch now"),
      el("p", { class: "quiet" }, "Makes it resident ahead of the queue; streams in flight end first."),
      el(
        "div",
        { class: "row" },
        el("label", {}, el("span", {}, "Route"), this.route),
        el("button", { type: "button", class: "strong", onclick: () => this.switchTo() }, "Switch"),
      ),
      this.story,
      this.steps,
    );
    this.modes = el("div", { class: "buttons" });
    $("modes").append(el("h3", {}, "Modes"), this.modes);
    this.list = el("ul", { class: "list" });
    this.held = el("select", { id: "lease-route" });
    this.ttl = el("input", { id: "lease-ttl", value: "45m", autocomplete: "off" });
    this.note = el("input", { id: "lease-note", autocomplete: "off", maxlength: 200 });
    $("leases").append(
      el("h3", {}, "Leases"),
      this.list,
      el(
        "form",
        { class: "row", onsubmit: (event) => this.lease(event) },
        el("label", {}, el("span", {}, "Hold"), this.held),
        el("label", { class: "small" }, el("span", {}, "for"), this.ttl),
        el("label", {}, el("span", {}, "Note"), this.note),
        el("button", { type: "submit" }, "Lease"),
      ),
    );
  }

  update(status, told) {
    const { leases, mode, switches } = told;
    $("switching").hidden = switches === null;
    $("leases").hidden = leases === null;
    $("modes").hidden = mode === null || !modesOf(mode).length;
    $("operate").hidden = switches === null && leases === null;
    for (const list of [this.route, this.held]) {
      keyed(list, status.routes, (one) => one.route, (one) => el("option", { value: one.route }, one.route), () => {});
    }
    if (switches !== null) this.showSwitch((switches.switches ?? [])[0]);
    if (mode !== null) this.showModes(mode);
    if (leases !== null) this.showLeases(leases.leases ?? []);
  }

  showSwitch(one) {
    this.steps.hidden = !one;
    if (!one) return setText(this.story, "");
    const running = one.state === "running" || one.state === "queued";
    const left = running && one.predicted_ms ? `, about ${ms(one.predicted_ms)} left` : "";
    const took = running ? "" : ` after ${ms(one.duration_ms)}`;
    const error = one.error ? `: ${one.error.message ?? one.error}` : "";
    setText(this.story, `Switch ${one.switch_id ?? one.id} to ${one.to}: ${one.state}${took}${left}${error}`);
    const signs = { true: "✓", false: "✕", null: "…", undefined: "…" };
    keyed(
      this.steps,
      one.steps.map((step, at) => ({ ...step, at })),
      (step) => step.at,
      () => el("li", {}, el("span"), el("span"), el("span", { class: "when" }), el("span", { class: "detail" })),
      (node, step) => {
        const [mark, name, when, detail] = node.children;
        setText(mark, signs[String(step.ok)]);
        setText(name, step.name);
        setText(when, step.at_time ?? (step.time ? time(step.time) : ""));
        setText(detail, step.detail ?? "");
      },
    );
  }

  showModes(told) {
    const active = told.mode?.mode ?? told.mode ?? null;
    keyed(
      this.modes,
      modesOf(told),
      (one) => one.name,
      (one) => el("button", { type: "button", onclick: () => this.setMode(one.name) }, one.name),
      (node, one) => {
        node.setAttribute("aria-pressed", String(one.name === active));
        node.title = (one.routes ?? []).join(", ");
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
          el("span", { class: "left", "data-until": "" }),
          el("button", { type: "button", onclick: () => this.renew(one.id) }, "Renew"),
          el("button", { type: "button", onclick: () => this.release(one.id) }, "Release"),
        ),
      (node, one) => {
        const what = namesOf(one).join(", ") || `nothing (${Object.keys(one.needs ?? {}).join(", ")})`;
        const by = one.holder ? ` by ${one.holder}` : "";
        setText(node.children[0], `${what}${by}${one.note ? `: ${one.note}` : ""}${one.state === "pending" ? " (waits for its place)" : ""}`);
        node.children[2].hidden = isPin(one) || one.state === "pending";
      },
    );
    this.tick();
  }

  tick() {
    const now = Date.now() + this.skew();
    for (const one of this.leases) {
      const node = [...this.list.children].find((item) => item.dataset.key === String(one.id));
      const text = one.state === "pending" ? "" : isPin(one) ? "no end" : clock((Date.parse(one.expires_at) - now) / 1000);
      if (node) setText(node.children[1], text);
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
    const body = { route: this.held.value, ttl: this.ttl.value.trim(), wait: false };
    if (this.note.value.trim()) body.note = this.note.value.trim();
    return this.act(`lease on ${body.route}`, () => send("POST", "api/leases", body));
  }

  renew(id) {
    return this.act(`renew lease ${id}`, () => send("PUT", `api/leases/${id}`, { ttl: this.ttl.value.trim() }));
  }

  release(id) {
    return this.act(`release lease ${id}`, () => send("DELETE", `api/leases/${id}`));
  }

  setMode(name) {
    const pressed = [...this.modes.children].find((one) => one.dataset.key === name)?.getAttribute("aria-pressed");
    if (pressed === "true") return this.act(`end mode ${name}`, () => send("DELETE", "api/mode"));
    return this.act(`mode ${name}`, () => send("POST", "api/mode", { mode: name }));
  }
}

function modesOf(told) {
  const modes = told.modes ?? [];
  return Array.isArray(modes) ? modes.map((one) => (typeof one === "string" ? { name: one } : { name: one.name ?? one.mode, ...one })) : Object.entries(modes).map(([name, one]) => ({ name, ...one }));
}

/** What of all this the launcher has: null for what it hasn't. */
export async function askOperations() {
  const [leases, mode, switches] = await Promise.all(
    ["api/leases", "api/mode", "api/switches"].map((path) => getIfThere(path)),
  );
  return { leases, mode, switches };
}
