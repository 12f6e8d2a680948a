// The picture of the last hour: a lane for each backend, the swaps between them, and beneath
// who waited. Drawn anew from what /api/timeline told; in between only the time moves on.

import { $, el, keyed, setText, svg } from "./dom.js";
import { duration, shortTime, time } from "./format.js";
import { MEANING, PATTERNED, legend, patterns } from "./states.js";
import { swapsOf } from "./swaps.js";
import { Tip } from "./tip.js";

const LANE = 42;
const BAR = 26;
const QUEUE = 54;
const TOP = 8;
const AXIS = 22;
const TICKS = { 5: 1, 15: 3, 60: 10 };

export class Timeline {
  constructor() {
    this.box = $("timeline");
    this.minutes = 60;
    this.picked = false;
    this.data = null;
    this.skew = 0;
    this.chosen = null;
    this.tip = new Tip(this.box);
    this.svg = svg("svg", { role: "group", "aria-labelledby": "timeline-title" });
    this.box.prepend(this.svg);
    $("reach").addEventListener("change", (event) => {
      this.picked = true;
      this.minutes = Number(event.target.value);
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.svg.addEventListener("keydown", (event) => this.step(event));
    const names = legend().map(([state, picture]) => el("li", {}, picture, `${state}: ${MEANING[state]}`));
    $("legend").append(...names);
  }

  /** What /api/timeline told; `order`: the backends as the configuration has them. */
  update(data, order) {
    const at = (moment) => Date.parse(moment);
    const since = at(data.since);
    this.skew = at(data.server_time) - Date.now();
    this.data = {
      lanes: ordered(data.backends, order).map((one) => ({
        id: one.backend,
        spans: one.states.map((span) => ({
          state: span.state,
          from: at(span.from),
          to: span.to ? at(span.to) : null,
        })),
        samples: one.samples.map(([offset, flying, queued]) => ({ at: since + offset, flying, queued })),
      })),
      marks: data.marks.map((mark, number) => ({ ...mark, number, at: at(mark.at) })),
    };
    this.data.swaps = swapsOf(this.data.marks);
    if (!this.picked) this.fit();
    this.draw();
    this.tell();
  }

  /** As far back as there is something to see, until somebody picks a reach. */
  fit() {
    const oldest = Math.min(...this.data.lanes.flatMap((lane) => lane.spans.map((span) => span.from)));
    const age = (this.now() - oldest) / 60_000;
    this.minutes = [5, 15].find((minutes) => age < minutes) ?? 60;
    $("reach").querySelector(`[value="${this.minutes}"]`).checked = true;
  }

  /** The server's time now. */
  now() {
    return Date.now() + this.skew;
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.data || width < 50) return;
    const narrow = width < 560;
    // On a phone the names stand above their lanes and take no width from them.
    this.left = narrow ? 0 : Math.min(150, 40 + 8 * Math.max(...this.data.lanes.map((one) => one.id.length)));
    this.label = narrow ? 17 : 0;
    this.right = width - 4;
    this.end = this.now();
    this.begin = this.end - this.minutes * 60_000;
    const lanes = this.data.lanes;
    const step = LANE + this.label;
    const floor = TOP + lanes.length * step;
    const height = floor + AXIS + QUEUE + 18;
    const focused = document.activeElement?.dataset?.mark;
    this.svg.replaceChildren(patterns("lane"));
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.grid(floor, height);
    lanes.forEach((lane, row) => this.lane(lane, TOP + row * step));
    this.queue(floor + AXIS, narrow);
    this.swaps(new Map(lanes.map((lane, row) => [lane.id, TOP + row * step + this.label + LANE / 2])));
    if (focused !== undefined) this.svg.querySelector(`[data-mark="${focused}"]`)?.focus();
  }

  x(at) {
    const share = (Math.min(Math.max(at, this.begin), this.end) - this.begin) / (this.end - this.begin);
    return this.left + share * (this.right - this.left);
  }

  put(tag, attributes, ...children) {
    const made = svg(tag, attributes, ...children);
    this.svg.append(made);
    return made;
  }

  grid(floor, height) {
    const every = TICKS[this.minutes] * 60_000;
    for (let at = Math.ceil(this.begin / every) * every; at < this.end; at += every) {
      const x = this.x(at);
      this.put("line", { x1: x, x2: x, y1: TOP, y2: height - 18, class: "grid" });
      const far = this.right - x > 60;
      if (x > this.left + 14 && far) {
        this.put("text", { x, y: floor + 15, "text-anchor": "middle", class: "axis" }, shortTime(at));
      }
    }
    this.put("line", { x1: this.right, x2: this.right, y1: TOP, y2: height - 18, class: "now" });
    this.put("text", { x: this.right, y: floor + 15, "text-anchor": "end", class: "axis" }, "now");
  }

  lane(lane, top) {
    const y = top + this.label + (LANE - BAR) / 2;
    const middle = y + BAR / 2;
    const name = this.label
      ? { x: 0, y: top + 14 }
      : { x: this.left - 12, y: middle + 4, "text-anchor": "end" };
    this.put("text", name, shortened(lane.id, this.label ? 40 : 16));
    const begun = lane.spans.length ? lane.spans[0].from : this.end;
    this.put("line", { x1: this.x(begun), x2: this.right, y1: middle, y2: middle, class: "rest" });
    for (const span of lane.spans) this.span(lane, span, y);
    this.flow(lane, y);
  }

  span(lane, span, y) {
    const to = span.to ?? this.end;
    if (span.state === "stopped" || to <= this.begin) return;
    const from = this.x(span.from);
    const width = Math.max(this.x(to) - from, 2);
    const place = { x: from, y, width, height: BAR, rx: Math.min(5, width / 2) };
    const title = `${lane.id}: ${span.state} for ${duration((to - span.from) / 1000)}, from ${time(span.from)}`;
    const shape = this.put("rect", { ...place, class: span.state });
    if (PATTERNED.has(span.state)) {
      const over = this.put("rect", { ...place, fill: `url(#lane-${span.state})` });
      this.tip.on(over, () => title);
    }
    this.tip.on(shape, () => title);
    const words = `${span.state} ${duration((to - span.from) / 1000)}`;
    const fits = [words, span.state].find((text) => text.length * 6.4 + 12 < width);
    if (fits) this.put("text", { x: from + 7, y: y + BAR / 2 + 4, class: "inside", "pointer-events": "none" }, fits);
  }

  /** How many it served, as a tide along the bottom of its bar. */
  flow(lane, y) {
    const most = Math.max(1, ...lane.samples.map((one) => one.flying));
    const points = steps(lane.samples, (one) => one.flying, this);
    if (!points.length) return;
    const high = (value) => y + BAR - (value && 2 + (value / most) * 6);
    this.put("path", {
      d: area(points, high, y + BAR),
      class: "flow",
      "pointer-events": "none",
    });
  }

  queue(top, narrow) {
    const base = top + QUEUE;
    const total = together(this.data.lanes);
    const most = Math.max(4, ...total.map((one) => one.queued));
    const name = narrow ? { x: 0, y: top + 2 } : { x: this.left - 12, y: base - QUEUE / 2 + 4, "text-anchor": "end" };
    this.put("line", { x1: this.left, x2: this.right, y1: base, y2: base, class: "rest" });
    const points = steps(total, (one) => one.queued, this);
    const high = (value) => base - (value / most) * (QUEUE - 12);
    if (points.length) {
      this.put("path", { d: area(points, high, base), class: "queue" });
      this.put("path", { d: edge(points, high), class: "queue-edge" });
    }
    this.put("text", name, "waiting");
    const peak = total.reduce((best, one) => (one.at >= this.begin && one.queued > best.queued ? one : best), { queued: 0 });
    if (peak.queued) {
      const x = Math.min(Math.max(this.x(peak.at), narrow ? 66 : 0), this.right - 70);
      this.put("text", { x: x + 4, y: high(peak.queued) - 4, class: "axis" }, `${peak.queued} at most`);
    }
    const hit = this.put("rect", { x: this.left, y: top, width: this.right - this.left, height: QUEUE, fill: "transparent" });
    this.tip.on(hit, (event) => this.waitingAt(event));
  }

  waitingAt(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - this.left) / (this.right - this.left);
    const at = this.begin + share * (this.end - this.begin);
    const lines = this.data.lanes.map((lane) => [lane.id, held(lane.samples, at)]).filter(([, one]) => one?.queued);
    const told = lines.map(([id, one]) => `${one.queued} for ${id}`).join(", ");
    return [time(at), told || "nobody waits"];
  }

  swaps(rows) {
    const shown = this.data.swaps.filter((one) => one.at >= this.begin && rows.has(one.to));
    for (const swap of shown) {
      const x = this.x(swap.at);
      for (const from of swap.from.filter((id) => rows.has(id))) {
        const [y1, y2] = [rows.get(from), rows.get(swap.to) - BAR / 2];
        const bend = Math.min(26, 8 + Math.abs(y2 - y1) / 6);
        this.put("path", { d: `M${x} ${y1}C${x + bend} ${y1} ${x + bend} ${y2} ${x} ${y2}`, class: "swap" });
      }
    }
    this.marks = shown.map((swap) => this.mark(swap, rows.get(swap.to)));
    const last = this.marks.find((one) => one.dataset.mark === this.chosen) || this.marks.at(-1);
    last?.setAttribute("tabindex", "0");
  }

  mark(swap, y) {
    const x = this.x(swap.at);
    const made = svg(
      "g",
      {
        class: swap.bad ? "mark bad" : "mark",
        transform: `translate(${x} ${y - BAR / 2})`,
        tabindex: "-1",
        role: "img",
        "data-mark": swap.key,
        "aria-label": `${time(swap.at)}: ${swap.texts.join("; ")}`,
      },
      svg("circle", { r: 13, class: "halo" }),
      svg("circle", { r: 6, class: "face" }),
      svg("path", { class: "glyph", d: swap.bad ? "M-.8-3.4h1.6v4h-1.6zM-.8 1.7h1.6v1.6h-1.6z" : GLYPHS[swap.kind] }),
    );
    this.tip.on(made, () => [time(swap.at), ...swap.texts]);
    made.addEventListener("focus", () => { this.chosen = swap.key; });
    this.svg.append(made);
    return made;
  }

  /** From mark to mark with the arrow keys. */
  step(event) {
    const at = this.marks?.indexOf(document.activeElement) ?? -1;
    const ways = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.marks?.length - 1 };
    if (at < 0 || !(event.key in ways)) return;
    event.preventDefault();
    const next = this.marks[Math.min(Math.max(ways[event.key], 0), this.marks.length - 1)];
    this.marks[at].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }

  /** The same in words. */
  tell() {
    const told = this.data.marks.slice(-60).reverse();
    keyed(
      $("story"),
      told,
      (mark) => `${mark.at}-${mark.text}`,
      (mark) => el("li", {}, el("time", { datetime: new Date(mark.at).toISOString() }, time(mark.at)), el("span")),
      (node, mark) => setText(node.lastElementChild, mark.text),
    );
  }

  /** The last starts of a backend: `{seconds, ok}`, the oldest first. */
  starts(id) {
    const lane = this.data?.lanes.find((one) => one.id === id);
    if (!lane) return [];
    return lane.spans
      .map((span, at) => ({ span, next: lane.spans[at + 1] }))
      .filter(({ span, next }) => span.state === "starting" && next)
      .map(({ span, next }) => ({ seconds: (span.to - span.from) / 1000, ok: next.state === "ready" || next.state === "draining" }))
      .slice(-16);
  }
}

const GLYPHS = {
  swap: "M-3.4-1H.6v-2L3.8 0 .6 3V1h-4z",
  start: "M-1.6-2.8v5.6L3 0z",
  stop: "M-2-2h4v4h-4z",
};

/** As the configuration has them; what it doesn't have (room kept free) behind those. */
function ordered(lanes, order) {
  const place = (one) => (order.includes(one.backend) ? order.indexOf(one.backend) : order.length);
  return [...lanes].sort((one, other) => place(one) - place(other));
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What holds at a time. */
function held(samples, at) {
  let found;
  for (const one of samples) {
    if (one.at > at) break;
    found = one;
  }
  return found;
}

/** All that wait, whomever for: samples of the sum. */
function together(lanes) {
  const all = lanes.flatMap((lane, row) => lane.samples.map((one) => ({ at: one.at, row, queued: one.queued })));
  all.sort((one, other) => one.at - other.at);
  const each = lanes.map(() => 0);
  let sum = 0;
  return all.map(({ at, row, queued }) => {
    sum += queued - each[row];
    each[row] = queued;
    return { at, queued: sum };
  });
}

/** `[x, value]` for each change within the picture, what held at its beginning included. */
function steps(samples, value, picture) {
  const points = [];
  for (const one of samples) {
    if (one.at <= picture.begin) points.length = 0;
    points.push([picture.x(one.at), value(one)]);
  }
  if (points.every(([, height]) => !height)) return [];
  points.push([picture.right, points.at(-1)[1]]);
  return points;
}

function edge(points, high) {
  return points.map(([x, value], at) => (at ? `H${x}V${high(value)}` : `M${x} ${high(value)}`)).join("");
}

function area(points, high, base) {
  return `${edge(points, high).replace("M", `M${points[0][0]} ${base}L`)}V${base}Z`;
}
