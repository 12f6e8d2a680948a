"""What the launcher has to reach, as ratios within one run."""

from __future__ import annotations

import math

from bench.datapath.results import Check, Place, Results

SMALL = Place("small", "requests/s", "64 connections")
SSE_CPU = Place("sse", "CPU by event, µs", "400 streams")
SSE_DELAY = Place("sse", "p99 delay added, ms", "100 streams")
SSE_ERRORS = Place("sse", "errors", "5000 streams")
SSE_MEMORY = Place("sse", "memory by stream, KiB", "5000 streams")
MANY = Place("many-models", "requests/s", "64 connections")
STARTUP = Place("startup", "to accepting, s", "start")
COLD = {
    kind: Place("cold-start", "readiness to first byte, ms", kind)
    for kind in ("process", "container")
}
#: MiB that count as flat: buffers on the way, and what an allocator keeps.
FLAT = 16.0


def checks(results: Results) -> list[Check]:
    """All of them; those that weren't measured say so."""
    ratio = results.ratio
    found = [
        Check(
            "small JSON, 64 connections, of nginx", ratio(SMALL, "launcher", "nginx"), 0.40, True
        ),
        Check("the same, of Caddy", ratio(SMALL, "launcher", "caddy"), 1.3, True),
        Check("the same, of plain aiohttp", ratio(SMALL, "launcher", "aiohttp"), 3.0, True),
        Check(
            "CPU by event, 400 streams, of nginx", ratio(SSE_CPU, "launcher", "nginx"), 1.35, False
        ),
        Check("the same, of plain aiohttp", ratio(SSE_CPU, "launcher", "aiohttp"), 0.5, False),
        Check(
            "p99 delay added, 100 streams, of nginx",
            ratio(SSE_DELAY, "launcher", "nginx"),
            2.0,
            False,
        ),
        Check("errors of 5,000 streams", most(results, SSE_ERRORS), 0.0, False),
        Check("KiB by stream of 5,000", results.median(SSE_MEMORY, "launcher"), 24.0, False),
    ]
    for way in ("download", "upload"):
        rate, growth = Place("big", "MB/s", way), Place("big", "memory at the peak, MiB", way)
        found += [
            Check(f"{way} of a big body, of nginx", ratio(rate, "launcher", "nginx"), 0.5, True),
            Check(f"MiB more, at the peak of that {way}", most(results, growth), FLAT, False),
        ]
    for kind, place in COLD.items():
        what = f"readiness to first byte of a {kind}, ms"
        found.append(Check(what, results.median(place, "launcher"), 30.0, False))
    return [
        *found,
        Check(
            "start-up, of `import aiohttp`",
            ratio(STARTUP, "launcher", "import aiohttp"),
            3.0,
            False,
        ),
        Check("100,000 models, of 3", ratio(MANY, "100,000 models", "3 models"), 0.97, True),
    ]


def most(results: Results, place: Place) -> float:
    """The worst of the launcher's runs; nan where there are none."""
    return max(results.of(place, "launcher"), default=math.nan)
