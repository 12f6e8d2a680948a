// Decisions read as swaps: what was stopped for whom, and why. Pure.

/** A drain, a stop and a start that belong together lie no further apart. Milliseconds. */
const TOGETHER = 120_000;

/**
 * Of the marks of /api/timeline, in order, what is worth a sign in the picture:
 * `{key, at, to, from, kind, texts, bad}`. A start that others made room for is one swap with
 * all that was decided for it; what stands alone stays alone.
 */
export function swapsOf(marks) {
  const found = [];
  const open = new Map();
  for (const mark of marks) {
    if (mark.kind === "undrain") continue;
    const makesRoom = mark.wanted_by && (mark.kind === "stop" || mark.kind === "drain");
    if (makesRoom) {
      const begun = open.get(mark.wanted_by);
      if (begun && mark.at - begun.at < TOGETHER) {
        add(begun, mark, mark.backend);
        continue;
      }
      const swap = made(mark, mark.wanted_by, [mark.backend], "swap");
      open.set(mark.wanted_by, swap);
      found.push(swap);
    } else if (mark.kind === "start" && open.has(mark.backend)) {
      const swap = open.get(mark.backend);
      open.delete(mark.backend);
      if (mark.at - swap.at < TOGETHER) {
        swap.at = mark.at;
        add(swap, mark);
        mark.pays.forEach((id) => swap.from.includes(id) || swap.from.push(id));
      } else {
        found.push(made(mark, mark.backend, mark.pays, mark.pays.length ? "swap" : "start"));
      }
    } else {
      const kind = mark.kind === "start" && mark.pays.length ? "swap" : mark.kind === "start" ? "start" : "stop";
      found.push(made(mark, mark.backend, mark.kind === "start" ? [...mark.pays] : [], kind));
    }
  }
  return found;
}

function made(mark, to, from, kind) {
  return { key: `m${mark.number}`, at: mark.at, to, from, kind, texts: [mark.text], bad: mark.kind === "failed" };
}

function add(swap, mark, from) {
  if (!swap.texts.includes(mark.text)) swap.texts.push(mark.text);
  if (from && !swap.from.includes(from)) swap.from.push(from);
}
