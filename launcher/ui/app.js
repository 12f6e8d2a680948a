// The page: asks for everything once, follows the events, and asks again for what they touch.

import { ApiError, follow, get, hasKey, send, setKey, whenDenied } from "./api.js";
import { Backends } from "./backends.js";
import { showCapacity } from "./capacity.js";
import { $, announce, el, keyed, setText, sure, toast } from "./dom.js";
import { count } from "./format.js";
import { Leases, Operate, askOperations } from "./operate.js";
import { Timeline } from "./timeline.js";
import * as tryit from "./tryit.js";

/** Events that only concern requests: what they change can wait for a second. */
const TRAFFIC = new Set(["arrived", "released", "permit_used", "abandoned", "silenced", "tick", "busy"]);
const ROUTINE = new Set(["wake_at", "admit", "permit_opened", "permit_closed", "reject"]);
const SOON = 150;
const LATER = 1000;
const HOUR_EVERY = 4000;
/** Looked at again even if nothing was told: times that pass change forecasts. */
const ANYWAY = 15_000;

let skew = 0;
let stop = null;
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const refresh = () => look.in(SOON);
const timeline = new Timeline();
const leases = new Leases();
const backends = new Backends({ startsOf: (id) => timeline.starts(id), skew: () => skew, refresh });
backends.leases = leases;
const operate = new Operate({ refresh, skew: () => skew });

/** Runs one look at a time, as soon as somebody wants it and not more often than needed. */
class Looks {
  #due = Infinity;
  #timer = 0;
  #running = false;

  in(delay) {
    const due = performance.now() + delay;
    if (due >= this.#due) return;
    this.#due = due;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), delay);
  }

  async #run() {
    if (this.#running) return void (this.#timer = setTimeout(() => this.#run(), SOON));
    this.#due = Infinity;
    this.#running = true;
    try {
      await lookAtAll();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status >= 500) setText($("health"), "not reachable");
    } finally {
      this.#running = false;
      this.in(ANYWAY);
    }
  }
}
const look = new Looks();

/** The hour is asked for when somebody's state has changed, else every few seconds. */
let moved = true;
let asked = -Infinity;

async function hourIfDue() {
  if (!moved && performance.now() - asked < HOUR_EVERY) return null;
  moved = false;
  asked = performance.now();
  return get("api/timeline");
}

async function lookAtAll() {
  const [status, hour, operations] = await Promise.all([get("api/status"), hourIfDue(), askOperations()]);
  skew = Date.parse(status.server_time) - Date.now();
  leases.update(status);
  $("main").hidden = false;
  health(status);
  if (hour) timeline.update(hour, status.backends.map((one) => one.backend));
  showCapacity(status, leases);
  backends.update(status, leases);
  operate.update(status, operations);
  tryit.showModels(status);
  setText($("foot"), `launcher ${status.version}, up since ${new Date(status.started_at).toLocaleString()}`);
  setText($("drain"), status.drained.length ? "Resume" : "Drain");
}

function health(status) {
  const up = status.backends.filter((one) => one.state === "ready").length;
  const waiting = status.backends.reduce((sum, one) => sum + one.queued, 0);
  const pill = $("health");
  pill.dataset.tone = status.ready ? (waiting ? "warn" : "good") : "bad";
  const words = status.ready ? `${up} of ${count(status.backends.length, "backend")} up` : "not ready";
  setText(pill, waiting ? `${words}, ${count(waiting, "request")} waiting` : words);
  document.title = waiting ? `(${waiting}) launcher` : "launcher";
  const box = $("problems");
  box.hidden = status.problems.length === 0;
  keyed(box, status.problems, (one) => one.message, () => el("p"), (node, one) => setText(node, one.message));
}

function begin() {
  stop?.();
  look.in(0);
  stop = follow({
    onEvent: ({ event, effects }) => {
      const acts = effects.some((one) => !ROUTINE.has(one.type));
      const quiet = TRAFFIC.has(event.type) && !acts;
      moved ||= !quiet;
      look.in(quiet ? LATER : SOON);
    },
    onReset: () => {
      moved = true;
      look.in(0);
    },
    onLink: (on) => {
      const link = $("link");
      if (link.dataset.on === String(on)) return;
      link.dataset.on = String(on);
      setText(link.querySelector(".words"), on ? "live" : "connection lost, trying again");
      announce(on ? "live" : "connection lost");
      if (on) look.in(0);
    },
  });
}

/** Ask for the key; once, unless it turns out wrong. */
function askForKey(error) {
  const dialog = $("ask");
  if (dialog.open) return;
  // With a page to look at, what its key isn't good for is told where it was asked for.
  if (error?.status === 403 && !$("main").hidden && !error.message.includes("key that was sent")) return;
  setText($("ask-error"), hasKey() && error ? error.message : "");
  $("ask-key").value = "";
  dialog.showModal();
}

$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("ask-key").value);
  $("ask-key").value = "";
  $("ask").close();
  begin();
});
$("ask-cancel").addEventListener("click", () => $("ask").close());
$("key").addEventListener("click", () => askForKey(null));
$("drain").addEventListener("click", async () => {
  const on = $("drain").textContent === "Drain";
  if (on && !(await sure("Drain everything?", "New requests are refused; what runs and waits is served.", "Drain"))) return;
  try {
    await send("POST", on ? "api/drain" : "api/resume", {});
  } catch (error) {
    toast(error.message, "bad", error.detail);
  }
  refresh();
});
$("reload").addEventListener("click", async () => {
  try {
    const told = await send("POST", "api/reload", {});
    toast(reloaded(told), told.needs_restart.length ? "warn" : "good", told.warnings.join("\n"));
  } catch (error) {
    toast(error.message, "bad", error.detail);
  }
  refresh();
});

/** What a reload changed, in a sentence. */
function reloaded(told) {
  if (!told.changed) return "The configuration was read: nothing has changed.";
  const parts = ["added", "removed", "replaced", "changed"].flatMap((how) => {
    const names = (of) => (Array.isArray(of[how]) ? of[how] : Object.keys(of[how] ?? {}));
    const all = [...new Set([...names(told.routes), ...names(told.backends)])];
    return all.length ? [`${how}: ${all.join(", ")}`] : [];
  });
  if (told.settings.length) parts.push(`applied: ${told.settings.join(", ")}`);
  if (told.needs_restart.length) parts.push(`needs a restart: ${told.needs_restart.join(", ")}`);
  return `The configuration was read. ${parts.join("; ")}.`;
}

whenDenied(askForKey);
tryit.setUp();
begin();
setInterval(() => {
  backends.tick();
  operate.tick();
}, 1000);
setInterval(() => document.hidden || timeline.draw(), calm ? 5000 : 1000);
