"""Streams, WebSockets and big bodies: each a cell, measured in rounds by a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from bench.datapath import machine
from bench.datapath.candidates import Running
from bench.datapath.load import Order, Outcome
from bench.datapath.machine import Cores

#: An order of this kind takes that much longer than its seconds: opening, closing.
LONGEST = 300.0


@dataclass(frozen=True)
class Cell:
    """One candidate under one load, once."""

    candidate: str
    kind: str
    connections: int
    count: int
    seconds: float
    errors: int
    cpu: float | None
    memory: int | None
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Events, messages or bytes a second."""
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """Seconds of the proxy's processor time by event, message or byte; nan if unknown."""
        return math.nan if self.cpu is None or not self.count else self.cpu / self.count

    @property
    def memory_each(self) -> float:
        """Bytes by connection; nan if unknown."""
        return math.nan if self.memory is None else self.memory / self.connections


def measure(one: Running, order: Order, cores: Cores) -> Cell:
    """Have it measured."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.datapath.load", json.dumps(asdict(order))],
        cwd=machine.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST + order.seconds,
        preexec_fn=machine.pinned(cores.load),
    )
    if done.returncode:
        raise RuntimeError(f"{one.name}, {order.kind}: {done.stderr[-2000:]}")
    found = Outcome(**json.loads(done.stdout))
    known = bool(order.pids)
    return Cell(
        one.name,
        order.kind,
        order.connections,
        found.count,
        found.seconds,
        found.errors,
        found.cpu if known else None,
        found.memory if known else None,
        found.p50,
        found.p99,
    )


@dataclass(frozen=True)
class Load:
    """One column of a table."""

    kind: Literal["sse", "websocket", "download", "upload"]
    connections: int = 1
    seconds: float = 0.0
    rate: int = 10_000
    size: int = 0


def run(candidates: Sequence[Running], load: Load, rounds: int, cores: Cores) -> list[Cell]:
    """This load on every candidate, in rounds that start with another."""
    cells: list[Cell] = []
    for turn in range(rounds):
        at = turn % len(candidates)
        for one in [*candidates[at:], *candidates[:at]]:
            wanted = Order(
                host=one.host, port=one.port, pids=one.pids, rest=one.rest, **asdict(load)
            )
            cells.append(measure(one, wanted, cores))
        line = ", ".join(said(cell) for cell in cells[-len(candidates) :])
        machine.say(f"{load.kind}, {load.connections}, {turn + 1}/{rounds}: {line}")
    return cells


def said(cell: Cell) -> str:
    """For whoever watches."""
    errors = f" ({cell.errors} errors)" if cell.errors else ""
    if cell.kind in ("download", "upload"):
        return f"{cell.candidate} {cell.rate / 1e6:,.0f} MB/s{errors}"
    return f"{cell.candidate} {cell.cpu_each * 1e6:.1f} µs{errors}"
