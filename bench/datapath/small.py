"""Small chat requests by `model`, as many as go: wrk, one thread, 1 to 256 connections."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import KEY, Running, chat_body

#: Prepared once, so that wrk itself costs nothing; the same number whatever the models are.
SCRIPT = """\
local requests, turn = {}, 0
function init()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer KEY"
  wrk.headers["User-Agent"] = "OpenAI/Python 1.99.9"
  wrk.headers["Accept"] = "application/json"
  for body in io.lines("BODIES") do
    requests[#requests + 1] = wrk.format(nil, "/openai/v1/chat/completions", nil, body)
  end
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
    """wrk with its script, for requests of these models in turn."""

    def __init__(self, folder: Path, models: Sequence[str], core: int | None) -> None:
        bodies, self._script = folder / "bodies", folder / "small.lua"
        lines = [chat_body(models[turn % len(models)]) for turn in range(PREPARED)]
        bodies.write_bytes(b"\n".join(lines) + b"\n")
        self._script.write_text(SCRIPT.replace("KEY", KEY).replace("BODIES", str(bodies)))
        self._core = core

    def shoot(self, one: Running, connections: int, seconds: float) -> Shot:
        """Once. Raises RuntimeError where wrk does not end well."""
        pids = one.pids
        before = machine.cpu_seconds(pids)
        done = subprocess.run(
            [
                *(machine.program("wrk") or "wrk", "-t1", f"-c{connections}"),
                *(f"-d{max(round(seconds), 1)}s", "--timeout", "10s", "-s", str(self._script)),
                one.base,
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
        machine.say(f"small, {connections} connections, {turn + 1}/{rounds}: {line}")
    return shots
