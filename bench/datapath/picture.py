"""The numbers as bars: one panel for each metric that is worth a look."""

from __future__ import annotations

import math
from html import escape

from bench.datapath.results import Results, short

PANELS = (
    ("small", "requests/s"),
    ("sse", "CPU by event, µs"),
    ("sse", "p99 delay added, ms"),
    ("big", "MB/s"),
    ("websocket", "messages/s"),
    ("startup", "to accepting, s"),
    ("startup", "memory at rest, MiB"),
    ("cold-start", "readiness to first byte, ms"),
    ("cold-start", "a whole swap, s"),
)
COLOURS = ("#9aa5b1", "#3c9d4e", "#4a7fd0", "#c98a2b", "#c2406b", "#7b61b5", "#3aa6a6")
BAR, GAP, LEFT, WIDE = 13, 10, 150, 520


def svg(results: Results) -> str:
    """A whole file."""
    names = list(dict.fromkeys(name for by in results.values.values() for name in by))
    names = [name for name in names if "models" not in name]
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
    body: list[str] = []
    top = 30
    for at, name in enumerate(names):
        x = 10 + at * 105
        body.append(f'<rect x="{x}" y="10" width="10" height="10" fill="{colours[name]}"/>')
        body.append(f'<text x="{x + 14}" y="19">{escape(name)}</text>')
    for workload, metric in PANELS:
        places = [p for p in results.values if (p.workload, p.metric) == (workload, metric)]
        if not places:
            continue
        top += 24
        body.append(f'<text x="10" y="{top}" font-weight="bold">{workload}: {metric}</text>')
        top += 8
        known = [results.median(p, n) for p in places for n in results.values[p]]
        longest = max((value for value in known if not math.isnan(value)), default=1.0)
        for place in places:
            body.append(f'<text x="10" y="{top + BAR}">{escape(place.column)}</text>')
            for name in results.values[place]:
                value = results.median(place, name)
                if math.isnan(value) or name not in colours:
                    continue
                width = max(value, 0) / longest * WIDE if longest > 0 else 0
                body.append(
                    f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR - 2}" '
                    f'fill="{colours[name]}"/>'
                    f'<text x="{LEFT + width + 4:.1f}" y="{top + BAR - 3}">{short(value)}</text>'
                )
                top += BAR
            top += GAP
    size = f'width="{LEFT + WIDE + 70}" height="{top + 10}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )
