"""Small chat requests by `model`, as many as go, by wrk with one thread: with two heads, for many
models, and with `/healthz` asked beside them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import (
    DIRECT,
    LAUNCHER_NAME,
    Bench,
    Running,
    launcher_with,
    rotated,
)
from bench.datapath.load import LoadSpec, Measurement, measure
from bench.datapath.requests import chat_requests

#: The requests are prepared once, so that wrk itself costs nothing.
SCRIPT = """\
local requests, turn = {}, 0
for one in io.open("REQUESTS", "rb"):read("*a"):gmatch("[^%z]+") do
  requests[#requests + 1] = one
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
#: So many different requests, and then the first again.
PREPARED = 1000
#: Models of the small table.
FEW = 3
#: Seconds in which whoever disturbs it begins; and for which they go on afterwards.
OPENING = 1.0


@dataclass(frozen=True)
class WrkRun:
    """One run of wrk against one candidate."""

    candidate: str
    connections: int
    rate: float
    """Requests a second."""
    p50: float
    """Seconds, as p99."""
    p99: float
    errors: int
    cpu: float
    """Seconds of the proxy's processor time by request; nan where it isn't known."""

    def numbers(self, direct: WrkRun | None = None) -> dict[str, float]:
        """Return its numbers by metric; with `direct`, what it adds to that one's delays."""
        added = {}
        if direct is not None:
            added["p50 added, ms"] = (self.p50 - direct.p50) * 1e3
            added["p99 added, ms"] = (self.p99 - direct.p99) * 1e3
        counted = {"requests/s": self.rate, "CPU, µs": self.cpu * 1e6}
        return {**counted, **added, "errors": float(self.errors)}


class Wrk:
    """wrk with requests that have one kind of head (`requests.HEADS`), for these models in turn."""

    def __init__(
        self, folder: Path, core: int | None, head: str = "small", models: Sequence[str] = ("chat",)
    ) -> None:
        self._folder, self._core, self._head, self._models = folder, core, head, models

    def run(self, one: Running, connections: int, seconds: float) -> WrkRun:
        """Run once. Raises RuntimeError where wrk does not end well."""
        requests, script = self._folder / "requests", self._folder / "wrk.lua"
        prepared = islice(chat_requests(self._head, one.netloc, self._models), PREPARED)
        requests.write_bytes(b"\0".join(prepared))
        script.write_text(SCRIPT.replace("REQUESTS", str(requests)))
        pids = one.pids
        before = machine.cpu_seconds(pids)
        command = [
            *(machine.program("wrk") or "wrk", "-t1", f"-c{connections}"),
            *(f"-d{max(round(seconds), 1)}s", "--timeout", "10s", "-s", str(script)),
            f"http://{one.netloc}",
        ]
        printed = machine.run(command, self._core, machine.PATIENCE + seconds)
        spent = machine.cpu_seconds(pids) - before
        said = json.loads(printed.splitlines()[-1])
        return WrkRun(
            one.name,
            connections,
            said["requests"] / (said["microseconds"] / 1e6),
            said["p50"] / 1e6,
            said["p99"] / 1e6,
            said["errors"],
            spent / max(said["requests"], 1) if pids else math.nan,
        )


def chat(bench: Bench, name: str) -> None:
    """Measure small requests with this head, in rounds that each begin with another candidate."""
    wrk = Wrk(bench.folder, bench.cores.load, name)
    with bench.everybody() as candidates:
        for count in bench.options.connections:
            column = f"{count} connection{'s' if count > 1 else ''}"
            for turn in bench.turns:
                runs = [
                    wrk.run(one, count, bench.options.seconds) for one in rotated(candidates, turn)
                ]
                direct = next(run for run in runs if run.candidate == DIRECT)
                for run in runs:
                    bench.results.add_all(name, column, run.candidate, run.numbers(direct))
                rates = ", ".join(f"{run.candidate} {run.rate:,.0f}" for run in runs)
                machine.say(f"{name}, {column}, {turn + 1}/{len(bench.turns)}: {rates}")


def ids(count: int) -> list[str]:
    """Return model ids of one length, so that the requests are of one length, too."""
    return ["chat", *(f"organisation/model-{number:06d}" for number in range(1, count))]


def many(bench: Bench, name: str) -> None:
    """Measure requests for ids from all over a large table, and from a small one; a second
    launcher with a small one shows the noise."""
    count = bench.options.models
    tables = {f"{FEW} models": FEW, f"{count:,} models": count, f"{FEW} models again": FEW}
    with ExitStack() as stack:
        pairs = []
        for title, size in tables.items():
            named = ids(size)
            one = stack.enter_context(bench.running(title, launcher_with(named)))
            spread = named[1 :: max(size // PREPARED, 1)]
            pairs.append((one, Wrk(bench.folder, bench.cores.load, models=spread)))
        for turn in bench.turns:
            for one, wrk in rotated(pairs, turn):
                run = wrk.run(one, 64, bench.options.seconds)
                bench.results.add_all(name, "64 connections", one.name, run.numbers())
            machine.say(f"{name} {turn + 1}/{len(bench.turns)}")


def healthz(bench: Bench, name: str) -> None:
    """Measure `/healthz` on a connection of its own: while nothing else is asked, and while
    64 connections are busy and others pipeline requests without a key."""
    seconds = bench.options.seconds
    with bench.running(LAUNCHER_NAME) as one, ThreadPoolExecutor() as others:
        for turn in bench.turns:
            add = partial(bench.results.add_all, name, "beside it all")
            spec = partial(LoadSpec, host=one.host, port=one.port, pids=one.pids)
            probe = spec("probe", seconds=seconds)
            add("idle", delays(measure(probe, bench.cores)))
            longer = seconds + 2 * OPENING
            flood = spec("refused", connections=4, seconds=longer)
            refused = others.submit(measure, flood, bench.cores)
            wrk = Wrk(bench.folder, bench.cores.load)
            run = others.submit(wrk.run, one, 64, longer)
            time.sleep(OPENING)
            numbers = delays(measure(probe, bench.cores))
            numbers["errors"] += run.result().errors + refused.result().errors
            add("busy", {**numbers, "refused/s": refused.result().rate})
            machine.say(f"{name} {turn + 1}/{len(bench.turns)}: {numbers['p99, ms']:.1f} ms")


def delays(measurement: Measurement) -> dict[str, float]:
    """Return how long `/healthz` took."""
    ms = {"p50, ms": measurement.p50 * 1e3, "p99, ms": measurement.p99 * 1e3}
    return {**ms, "errors": float(measurement.errors)}
