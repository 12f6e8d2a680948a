// A card for each backend: how it stands, what it serves, and the buttons.

import { send } from "./api.js";
import { $, announce, el, keyed, setText, sure, toast } from "./dom.js";
import { clock, count, duration, ms } from "./format.js";
import { showLogs } from "./logs.js";
import { sign } from "./states.js";

const RESIDENT = new Set(["starting", "ready", "draining", "stopping"]);

export class Backends {
  /** `startsOf(id)`: its last starts. `skew()`: the server's clock less ours, in ms. */
  constructor({ startsOf, skew, refresh }) {
    this.startsOf = startsOf;
    this.skew = skew;
    this.refresh = refresh;
    this.before = new Map();
  }

  update(status, leases) {
    this.status = status;
    const routes = new Map(status.routes.map((one) => [one.route, one]));
    keyed(
      $("backends"),
      status.backends,
      (one) => one.backend,
      (one) => this.make(one),
      (node, one) => this.show(node, one, routes, leases.of(one.backend)),
    );
    this.tick();
  }

  make(one) {
    const part = (name, attributes = {}) => el("div", { class: name, ...attributes });
    const button = (act, text, more = "") =>
      el("button", { type: "button", "data-act": act, class: more, "aria-label": `${text} ${one.backend}` }, text);
    const fact = (name, key, wide = "") =>
      el("div", { class: wide }, el("dt", {}, name), el("dd", { "data-fact": key }, el("span"), " ", el("small")));
    const node = el(
      "article",
      { class: "card", "aria-label": one.backend },
      el("div", { class: "top" }, el("h3", {}, one.backend), el("span", { class: "badge" }, el("span"))),
      el("ul", { class: "chips", "aria-label": "Serves" }),
      el(
        "dl",
        { class: "facts" },
        fact("in flight", "flying"),
        fact("waiting", "queued"),
        fact("one more waits", "predicted"),
        fact("last start", "last"),
        fact("on average", "average"),
        fact("starts", "starts"),
        fact("", "idle", "wide"),
      ),
      part("history", { role: "img" }),
      part("trouble", { hidden: true }),
      el(
        "div",
        { class: "buttons" },
        button("start", "Start"),
        button("stop", "Stop"),
        button("pin", "Pin"),
        button("logs", "Logs"),
      ),
    );
    node.addEventListener("click", (event) => {
      const act = event.target.closest("button")?.dataset.act;
      if (act) this[act](node.dataset.key, event.target.closest("button"));
    });
    return node;
  }

  show(node, one, routes, lease) {
    const before = this.before.get(one.backend);
    this.before.set(one.backend, one.state);
    if (before && before !== one.state) announce(`${one.backend} is ${one.state}`);
    node.dataset.state = one.state;
    const badge = node.querySelector(".badge");
    if (badge.dataset.state !== one.state) {
      badge.dataset.state = one.state;
      badge.replaceChildren(sign(one.state), el("span", { class: "word" }));
    }
    this.chips(node.querySelector(".chips"), one, routes, lease);
    const fact = (key, text, more = "") => {
      const place = node.querySelector(`[data-fact="${key}"]`);
      setText(place.firstElementChild, text);
      setText(place.lastElementChild, more);
    };
    fact("flying", String(one.in_flight));
    fact("queued", String(one.queued), one.queued ? `oldest ${ms(one.oldest_wait_ms)}` : "");
    const wait = one.predicted_wait;
    if (wait) fact("predicted", ms(wait.wait_ms), `± ${ms(wait.spread_ms)}`);
    else fact("predicted", one.state === "ready" ? "nothing" : "–");
    fact("last", ms(one.start_metrics.last_duration_ms));
    fact("average", ms(one.start_metrics.average_duration_ms));
    fact("starts", String(one.start_metrics.start_count));
    this.history(node.querySelector(".history"), one.backend);
    this.trouble(node.querySelector(".trouble"), one);
    const button = (act) => node.querySelector(`[data-act="${act}"]`);
    const routed = one.routes.length > 0;
    button("start").disabled = !routed || one.state === "ready" || one.state === "starting";
    button("stop").disabled = !routed || !RESIDENT.has(one.state);
    button("pin").disabled = !routed;
    button("pin").setAttribute("aria-pressed", String(Boolean(lease?.pin)));
    setText(button("pin"), lease?.pin ? "Unpin" : "Pin");
    button("pin").setAttribute("aria-label", `${lease?.pin ? "Unpin" : "Pin"} ${one.backend}`);
  }

  chips(list, one, routes, lease) {
    const mine = one.routes.map((name) => routes.get(name)).filter(Boolean);
    const chips = [
      lease && { key: "lease", text: lease.words, kind: "held" },
      one.drained && { key: "drained", text: "drained: takes nothing new", kind: "held" },
      one.busy && { key: "busy", text: "busy with work of its own", kind: "held" },
      !one.reachable && { key: "away", text: "its engine doesn't answer", kind: "held" },
      ...mine.flatMap((route) => route.models).map((id) => ({ key: `model ${id}`, text: id, kind: "model" })),
      ...mine.map((route) => ({ key: `route ${route.route}`, text: `/${route.route}` })),
      one.endpoint && { key: "endpoint", text: one.endpoint },
      one.container && { key: "container", text: one.container },
    ].filter(Boolean);
    keyed(list, chips, (chip) => chip.key, () => el("li"), (node, chip) => {
      node.className = chip.kind || "";
      setText(node, chip.text);
    });
  }

  history(node, id) {
    const starts = this.startsOf(id);
    node.hidden = starts.length === 0;
    if (node.hidden) return;
    const most = Math.max(...starts.map((one) => one.seconds));
    const told = starts.map((one) => `${duration(one.seconds)}${one.ok ? "" : " (failed)"}`);
    node.setAttribute("aria-label", `starts of the last hour: ${told.join(", ")}`);
    node.title = `starts of the last hour: ${told.join(", ")}`;
    keyed(node, starts.map((one, at) => ({ ...one, at })), (one) => one.at, () => el("span"), (bar, one) => {
      bar.style.height = `${Math.max(3, Math.round((one.seconds / most) * 26))}px`;
      bar.className = one.ok ? "" : "bad";
    });
  }

  trouble(node, one) {
    const failure = one.stop_failure || one.failure;
    node.hidden = !failure;
    const told = failure ? `${failure.message}\n${failure.detail || ""}` : "";
    if (node.dataset.told === told) return;
    node.dataset.told = told;
    if (!failure) return;
    node.replaceChildren(el("p", {}, failure.message), el("p", { class: "retry" }));
    if (failure.detail) {
      node.append(el("details", {}, el("summary", {}, "details"), el("pre", {}, failure.detail)));
    }
  }

  /** What moves on by itself between two looks: countdowns. */
  tick() {
    if (!this.status) return;
    const now = Date.now() + this.skew();
    for (const one of this.status.backends) {
      const node = [...$("backends").children].find((card) => card.dataset.key === one.backend);
      if (!node) continue;
      const since = one.since ? (now - Date.parse(one.since)) / 1000 : null;
      let word = one.state;
      if (one.state === "starting" && one.expected_start_ms) {
        word = `starting, ${duration(since)} of about ${ms(one.expected_start_ms)}`;
      } else if (since !== null && one.state !== "stopped") word = `${one.state} for ${duration(since)}`;
      setText(node.querySelector(".badge .word"), word);
      this.idle(node, one, now);
      const retry = node.querySelector(".trouble .retry");
      const left = one.retry_at ? (Date.parse(one.retry_at) - now) / 1000 : 0;
      if (retry) setText(retry, left > 0 ? `Tried again at the earliest in ${clock(left)}.` : "");
    }
  }

  idle(node, one, now) {
    const fact = node.querySelector('[data-fact="idle"]');
    const due = one.idle_stop_at ? Date.parse(one.idle_stop_at) : null;
    fact.parentElement.hidden = due === null;
    if (due === null) return;
    const whole = due - Date.parse(one.last_used_at ?? one.since);
    let bar = fact.querySelector("progress");
    if (!bar) {
      fact.replaceChildren(el("span"), (bar = el("progress", { max: 1, "aria-hidden": "true" })));
    }
    setText(fact.firstElementChild, `idle, stops in ${clock((due - now) / 1000)}`);
    bar.value = Math.min(1, Math.max(0, (due - now) / Math.max(whole, 1)));
  }

  one(id) {
    return this.status.backends.find((one) => one.backend === id);
  }

  async act(button, words, work) {
    button.disabled = true;
    try {
      await work();
      announce(words);
    } catch (error) {
      toast(`${words}: ${error.message}`, "bad", error.detail);
    } finally {
      button.disabled = false;
      this.refresh();
    }
  }

  start(id, button) {
    const route = encodeURIComponent(this.one(id).routes[0]);
    return this.act(button, `start ${id}`, () => send("POST", `api/routes/${route}/start`));
  }

  async stop(id, button) {
    const one = this.one(id);
    let force = "";
    if (one.in_flight - one.silent > 0 || one.queued) {
      const told = `${count(one.in_flight, "request")} in flight, ${one.queued} waiting. What runs is served to its end, unless you force it.`;
      const answer = await sure(`Stop ${id}?`, told, "Stop after what runs", "Force: cut them off");
      if (!answer) return;
      if (answer === "also") force = "?force=1";
    }
    const route = encodeURIComponent(one.routes[0]);
    await this.act(button, `stop ${id}`, () => send("POST", `api/routes/${route}/stop${force}`));
  }

  pin(id, button) {
    const lease = this.leases.of(id);
    if (lease?.pin) return this.act(button, `unpin ${id}`, () => send("DELETE", `api/leases/${lease.id}`));
    const body = { route: this.one(id).routes[0], pin: true, note: "pinned from the page", wait: false };
    return this.act(button, `pin ${id}`, () => send("POST", "api/leases", body));
  }

  logs(id) {
    showLogs(id);
  }
}
