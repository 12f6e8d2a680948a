"""What the launcher has to reach, most of it as ratios within one run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import launcher
from bench.datapath.candidates import LAUNCHER_NAME
from bench.datapath.results import Place, Results, none, short

#: MiB that count as flat: buffers on the way, and what an allocator keeps.
FLAT = 16.0
CPU = Place("small", "CPU, µs", "64 connections")


@dataclass(frozen=True)
class Target:
    """One row: what is measured, and its bound for plain Python and for the compiled launcher."""

    what: str
    place: Place
    of: str | None
    """The candidate that it is a ratio to; None: the number itself."""
    plain: float
    compiled: float
    at_least: bool = False
    one: str = LAUNCHER_NAME
    worst: bool = False
    """Of all rounds the largest counts, not the median."""


def table() -> Iterator[Target]:
    """Yield all targets."""
    small = "small JSON by model, 64 connections"
    openai = "the head of the openai client, 64 connections"
    yield Target(f"{small}: processor time, of nginx", CPU, "nginx", 2.2, 1.6)
    yield Target("the same, of Caddy", CPU, "caddy", 0.55, 0.40)
    yield Target("the same, of the naive aiohttp proxy", CPU, "aiohttp", 0.28, 0.20)
    place = Place("openai-head", "CPU, µs", "64 connections")
    yield Target(f"{openai}: processor time, of nginx", place, "nginx", 2.6, 2.0)
    place = Place("small", "requests/s", "64 connections")
    yield Target(f"{small}: requests/s, of nginx", place, "nginx", 0.5, 0.6, at_least=True)
    place = Place("small", "p99 added, ms", "16 connections")
    yield Target("added p99 at 16 connections, of nginx", place, "nginx", 3.0, 2.0)
    place = Place("sse", "CPU by event, µs", "400 streams")
    yield Target("event of one of 400 streams: processor time, of nginx", place, "nginx", 1.2, 1.1)
    place = Place("sse", "p99 delay added, ms", "100 streams")
    yield Target("added delay p99 at 100 streams, of nginx", place, "nginx", 1.5, 1.3)
    place = Place("sse", "memory by stream, KiB", "5000 streams")
    yield Target("memory by stream of 5,000, KiB", place, None, 8.0, 8.0)
    place = Place("sse", "errors", "5000 streams")
    yield Target("errors of 5,000 streams", place, None, 0.0, 0.0, worst=True)
    place = Place("websocket", "CPU by message, µs", "100 connections")
    yield Target("message of a WebSocket: processor time, of nginx", place, "nginx", 1.6, 1.5)
    for way in ("download", "upload"):
        place = Place("big", "CPU by GiB, s", way)
        yield Target(f"{way} of a big body: processor time, of nginx", place, "nginx", 0.6, 0.6)
        place = Place("big", "memory at the peak, MiB", way)
        yield Target(f"memory more at its peak, MiB ({way})", place, None, FLAT, FLAT, worst=True)
    place = Place("many-models", "CPU, µs", "64 connections")
    many, few = "100,000 models", "3 models"
    yield Target(f"{many}: processor time, of {few}", place, few, 1.03, 1.03, one=many)
    for kind in ("process", "container"):
        place = Place("cold-start", "readiness to first byte, ms", kind)
        yield Target(f"readiness to first byte of a {kind}, ms", place, None, 20.0, 20.0)
    place = Place("startup", "to accepting, s", "start")
    yield Target("start-up, of `import aiohttp`", place, "import aiohttp", 2.5, 2.5)
    place = Place("startup", "memory at rest, MiB", "start")
    yield Target("memory at rest, MiB", place, None, 60.0, 60.0)
    place = Place("healthz", "p99, ms", "beside it all")
    yield Target("p99 of /healthz beside it all, of idle", place, "idle", 20.0, 20.0, one="busy")
    yield Target("the same, ms", place, None, 100.0, 100.0, one="busy")


@dataclass(frozen=True)
class Check:
    """A target, and what came of it."""

    what: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where it wasn't measured."""
        if math.isnan(self.value):
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        word = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        sign = "at least" if self.at_least else "at most"
        value = "" if self.met is None else f"{short(self.value)}, "
        return f"{word:13}{self.what}: {value}{sign} {short(self.bound)}"

    def plain(self) -> dict[str, object]:
        """Return it for --json."""
        return {**asdict(self), "value": none(self.value), "met": self.met}


def compiled() -> bool:
    """Return whether the launcher that is measured is the compiled one: it says so itself."""
    return bool(getattr(launcher, "__compiled__", False))


def checks(results: Results) -> list[Check]:
    """Return all targets with what came of them."""
    found = []
    for target in table():
        if target.of is not None:
            value = results.ratio(target.place, target.one, target.of)
        elif target.worst:
            value = max(results.of(target.place, target.one), default=math.nan)
        else:
            value = results.median(target.place, target.one)
        bound = target.compiled if compiled() else target.plain
        found.append(Check(target.what, value, bound, target.at_least))
    return found
