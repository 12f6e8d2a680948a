"""Small chat requests by `model`, as many as go: wrk, one thread, 1 to 256 connections."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import Running
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


@dataclass(frozen=True)
class Shot:
    """One run of wrk against one candidate."""

    candidate: str
    connections: int
    rate: float
    """Requests a second."""
    p50: float
    """Seconds, as p99."""
    p99: float
    errors: int
    cpu: float | None
    """Seconds of the proxy's processor time by request."""


class Wrk:
    """wrk with requests that have one kind of head (`requests.HEADS`), for these models in turn."""

    def __init__(
        self, folder: Path, core: int | None, head: str = "small", models: Sequence[str] = ("chat",)
    ) -> None:
        self._folder, self._core, self._head, self._models = folder, core, head, models

    def shoot(self, one: Running, connections: int, seconds: float) -> Shot:
        """Run once. Raises RuntimeError where wrk does not end well."""
        requests, script = self._folder / "requests", self._folder / "wrk.lua"
        prepared = islice(chat_requests(self._head, one.netloc, self._models), PREPARED)
        requests.write_bytes(b"\0".join(prepared))
        script.write_text(SCRIPT.replace("REQUESTS", str(requests)))
        pids = one.pids
        before = machine.cpu_seconds(pids)
        done = subprocess.run(
            [
                *(machine.program("wrk") or "wrk", "-t1", f"-c{connections}"),
                *(f"-d{max(round(seconds), 1)}s", "--timeout", "10s", "-s", str(script)),
                f"http://{one.netloc}",
            ],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=machine.pinned(self._core),
        )
        spent = machine.cpu_seconds(pids) - before
        if done.returncode:
            raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
        said = json.loads(done.stdout.splitlines()[-1])
        return Shot(
            one.name,
            connections,
            said["requests"] / (said["microseconds"] / 1e6),
            said["p50"] / 1e6,
            said["p99"] / 1e6,
            said["errors"],
            spent / max(said["requests"], 1) if pids else None,
        )


def run(
    candidates: Sequence[Running], wrk: Wrk, connections: int, rounds: int, seconds: float
) -> list[Shot]:
    """Every candidate, in rounds that start with another."""
    shots: list[Shot] = []
    for turn in range(rounds):
        at = turn % len(candidates)
        for one in [*candidates[at:], *candidates[:at]]:
            shots.append(wrk.shoot(one, connections, seconds))
        line = ", ".join(f"{s.candidate} {s.rate:,.0f}" for s in shots[-len(candidates) :])
        machine.say(f"{connections} connections, {turn + 1}/{rounds}: {line}")
    return shots
