// How states look: a colour (in the style sheet), a shape, a pattern and a word for each.

import { svg } from "./dom.js";

/** The words, in the order of the legend. */
export const STATES = ["ready", "starting", "draining", "stopping", "failed", "stopped"];

export const MEANING = {
  ready: "serves",
  starting: "is being started",
  draining: "finishes what runs",
  stopping: "is being stopped",
  failed: "failed, is tried again later",
  stopped: "down",
};

const SHAPES = {
  ready: "M3 8.5 6.5 12 13 4.5",
  starting: "M5 3v10l8-5z",
  draining: "M8 2C5 6 4 8 4 10a4 4 0 0 0 8 0c0-2-1-4-4-8z",
  stopping: "M4 4h8v8H4z",
  failed: "M4 4l8 8M12 4l-8 8",
  stopped: "M4 8h8",
  reserved: "M4 3h3v10H4zM9 3h3v10H9z",
};
const OUTLINES = new Set(["ready", "failed", "stopped"]);

/** A sign of 16 units for a state; words stand beside it. */
export function sign(state) {
  const outline = OUTLINES.has(state);
  return svg(
    "svg",
    { viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", {
      d: SHAPES[state] || SHAPES.stopped,
      fill: outline ? "none" : "currentColor",
      stroke: outline ? "currentColor" : "none",
      "stroke-width": 2.4,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}

/** The patterns, one for each state that has one, under ids that begin with `prefix`. */
export function patterns(prefix) {
  const pattern = (state, size, ...inside) =>
    svg("pattern", { id: `${prefix}-${state}`, width: size, height: size, patternUnits: "userSpaceOnUse" }, ...inside);
  const line = (d) => svg("path", { d, class: "texture", "stroke-width": 2.5 });
  return svg(
    "defs",
    {},
    pattern("starting", 10, line("M-2 12 12 -2M-4 4 4 -4M6 14 14 6")),
    pattern("stopping", 10, line("M-2 -2 12 12M6 -4 14 4M-4 6 4 14")),
    pattern("draining", 8, svg("circle", { cx: 4, cy: 4, r: 1.7, class: "dots" })),
    pattern("failed", 12, svg("path", { d: "M0 0 12 12M12 0 0 12", class: "texture", "stroke-width": 1.4 })),
  );
}

export const PATTERNED = new Set(["starting", "stopping", "draining", "failed"]);

/** One entry of the legend for each state. */
export function legend() {
  return STATES.map((state) => {
    const picture = svg("svg", { viewBox: "0 0 26 14" });
    if (state === "stopped") {
      picture.append(svg("line", { x1: 0, x2: 26, y1: 7, y2: 7, class: "rest" }));
    } else {
      picture.append(svg("rect", { width: 26, height: 14, rx: 4, class: state }));
      if (PATTERNED.has(state)) {
        picture.append(svg("rect", { width: 26, height: 14, rx: 4, fill: `url(#lane-${state})` }));
      }
    }
    return [state, picture];
  });
}
