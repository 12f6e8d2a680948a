"""A picture of outcomes, as SVG: who was resident when, and under it how many waited.

One panel for each policy, on one axis of time. Plain text, no library; it follows the
reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from launcher.simulate.engine import Outcome
from launcher.simulate.report import duration

_WIDTH, _LEFT, _RIGHT = 1180, 150, 28
_ACROSS = _WIDTH - _LEFT - _RIGHT
_TOP, _TITLE, _ROW, _BAR = 58, 34, 20, 14
_QUEUE, _BETWEEN, _BOTTOM = 64, 34, 46
#: Told apart by most eyes, on white and on near-black.
_COLOURS = (
    "#3b82c4",
    "#d97a1f",
    "#3a9d5d",
    "#c2528b",
    "#8a63c9",
    "#a8871c",
    "#2a9da8",
    "#c8503c",
)
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.title { font-weight: 600; font-size: 14px; }
.quiet { fill: var(--quiet); }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.ground { fill: var(--ground); }
.grid { stroke: var(--grid); stroke-width: 1; }
.lane { fill: var(--lane); }
.loading, .stopping { opacity: .6; }
.queue { fill: var(--queue); fill-opacity: .35; stroke: var(--queue); stroke-width: 1; }
svg { --ink: #1f2328; --quiet: #59636e; --ground: #ffffff; --grid: #d8dee4;
      --lane: #f3f5f7; --queue: #59636e; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --quiet: #9198a1; --ground: #0d1117; --grid: #30363d;
        --lane: #161b22; --queue: #9198a1; }
}
"""


def plot(outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """The SVG's text, of (policy, its outcome), all of the same workload."""
    names = outcomes[0][1].workload.names
    until = max(max(outcome.end for _, outcome in outcomes), 1e-9)
    queues = [_queue(outcome, until) for _, outcome in outcomes]
    most = max(max(queue) for queue in queues)
    panel = _TITLE + len(names) * _ROW + 10 + _QUEUE
    height = _TOP + len(outcomes) * panel + (len(outcomes) - 1) * _BETWEEN + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        "<title>Which models were resident when, and how many requests waited</title>",
        f"<style>{_STYLE}</style>",
        _hatches(len(names)),
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        _legend(),
    ]
    top = _TOP
    for (policy, outcome), queue in zip(outcomes, queues, strict=True):
        parts.append(f'<g id="{escape(policy, quote=True)}">')
        parts += _panel(policy, outcome, queue, top=top, until=until, most=most)
        parts.append("</g>")
        top += panel + _BETWEEN
    parts += _axis(top - _BETWEEN, until)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _hatches(models: int) -> str:
    """A pattern for each colour: what isn't serving is hatched, not only paler."""
    patterns = [
        f'<pattern id="hatch{n}" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="5" height="5" fill="{_colour(n)}" '
        f'fill-opacity=".35"/><rect width="2" height="5" fill="{_colour(n)}"/></pattern>'
        for n in range(min(models, len(_COLOURS)))
    ]
    return f"<defs>{''.join(patterns)}</defs>"


def _colour(model: int) -> str:
    return _COLOURS[model % len(_COLOURS)]


def _legend() -> str:
    y = 22
    entries = (
        (f'fill="{_COLOURS[0]}"', "ready"),
        ('class="loading" fill="url(#hatch0)"', "starting or stopping"),
        ('class="queue"', "requests waiting"),
    )
    parts = []
    x = _LEFT
    for look, words in entries:
        parts.append(f'<rect x="{x}" y="{y - 11}" width="26" height="{_BAR}" {look}/>')
        parts.append(f'<text x="{x + 33}" y="{y}">{words}</text>')
        x += 33 + 7 * len(words) + 30
    return "\n".join(parts)


def _panel(
    policy: str, outcome: Outcome, queue: Sequence[int], *, top: float, until: float, most: int
) -> list[str]:
    """One policy: its name and what it came to, a lane for each model, the queue."""
    waits = outcome.waited
    mean = math.fsum(waits) / len(waits) if waits else 0.0
    words = (
        f"{outcome.evictions:,} swaps, mean wait {duration(mean)}, longest "
        f"{duration(max(waits, default=0.0))}, done after {duration(outcome.end)}"
    )
    parts = [
        f'<text class="title" x="{_LEFT}" y="{top + 16}">{escape(policy)}'
        f'<tspan class="quiet" dx="12" font-weight="400" font-size="12">{words}</tspan></text>'
    ]
    y = top + _TITLE - 8
    for number, name in enumerate(outcome.workload.names):
        shown = name if len(name) <= 20 else f"{name[:19]}…"
        parts.append(
            f'<rect class="lane" x="{_LEFT}" y="{y}" width="{_ACROSS}" height="{_BAR}"/>'
            f'<text class="end" x="{_LEFT - 10}" y="{y + 11}">{escape(shown)}</text>'
        )
        parts += _bars(outcome, number, y, until)
        y += _ROW
    y += 8
    parts += _area(queue, y, most)
    return parts


def _bars(outcome: Outcome, model: int, y: float, until: float) -> list[str]:
    """One path for each phase: thousands of bars stay a small file."""
    paths: dict[str, list[str]] = {"starting": [], "ready": [], "stopping": []}
    for span in outcome.spans:
        if span.model != model:
            continue
        begin, end = _x(span.begin, until), _x(span.end, until)
        paths[span.phase].append(
            f"M{begin:.2f} {y}H{max(end, begin + 0.1):.2f}V{y + _BAR}H{begin:.2f}Z"
        )
    looks = {
        "starting": f'class="loading" fill="url(#hatch{model % len(_COLOURS)})"',
        "ready": f'class="ready" fill="{_colour(model)}"',
        "stopping": f'class="stopping" fill="url(#hatch{model % len(_COLOURS)})"',
    }
    return [f'<path {looks[phase]} d="{"".join(bars)}"/>' for phase, bars in paths.items() if bars]


def _area(queue: Sequence[int], y: float, most: int) -> list[str]:
    """Waiting requests, the most in each column of a pixel; all panels on one scale."""
    scale = most or 1
    base = y + _QUEUE
    steps = []
    last = -1
    for column, count in enumerate(queue):
        if count != last:
            steps.append(f"H{_LEFT + column}V{base - count / scale * _QUEUE:.1f}")
            last = count
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _ACROSS}" y1="{y}" y2="{y}"/>',
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _ACROSS}" y1="{base}" y2="{base}"/>',
        f'<text class="end quiet" x="{_LEFT - 10}" y="{y + 10}">{most:,}</text>',
        f'<text class="end quiet" x="{_LEFT - 10}" y="{base - _QUEUE / 2 + 8}">waiting</text>',
        f'<text class="end quiet" x="{_LEFT - 10}" y="{base}">0</text>',
        f'<path class="queue" d="M{_LEFT} {base}{"".join(steps)}H{_LEFT + _ACROSS}V{base}Z"/>',
    ]


def _queue(outcome: Outcome, until: float) -> list[int]:
    """How many wait, at most, within each of the columns."""
    changes = [(at, 1) for at in outcome.arrived]
    changes += [
        (at + waited, -1) for at, waited in zip(outcome.arrived, outcome.waited, strict=True)
    ]
    # Who is granted on arrival never waits: at one moment, leave first.
    changes.sort()
    columns = [0] * _ACROSS
    waiting = done = 0
    for at, change in changes:
        column = min(int(at / until * _ACROSS), _ACROSS - 1)
        for passed in range(done, column + 1):
            columns[passed] = max(columns[passed], waiting)
        done = column
        waiting += change
        columns[column] = max(columns[column], waiting)
    return columns


def _axis(y: float, until: float) -> list[str]:
    """Time, with a mark at each round step."""
    step = next((s for s in _STEPS if until / s <= 10), 86400 * math.ceil(until / 864000))
    parts = []
    for number in range(int(until / step) + 1):
        x = _x(number * step, until)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 6}"/>'
            f'<text class="middle quiet" x="{x:.1f}" y="{y + 20}">{duration(number * step)}</text>'
        )
    middle = _LEFT + _ACROSS / 2
    parts.append(f'<text class="middle quiet" x="{middle:g}" y="{y + 38}">time</text>')
    return parts


def _x(at: float, until: float) -> float:
    return _LEFT + at / until * _ACROSS
