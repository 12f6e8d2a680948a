"""100,000 model ids in the launcher's table against 3, in turns."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import launcher_with, running
from bench.datapath.machine import Cores
from bench.datapath.results import Place, Results
from bench.datapath.small import Wrk
from bench.datapath.targets import MANY

CPU = Place(MANY.workload, "CPU, µs", MANY.column)
FEW = 3
CONNECTIONS = 64


def ids(count: int) -> list[str]:
    """All of one length, so that the requests are."""
    return ["chat", *(f"organisation/model-{number:06d}" for number in range(1, count))]


def run(
    results: Results,
    count: int,
    rounds: int,
    seconds: float,
    backend_port: int,
    cores: Cores,
    folder: Path,
) -> None:
    """Requests for ids from all over the table; a second launcher with 3 shows the noise."""
    tables = {f"{FEW} models": FEW, f"{count:,} models": count, f"{FEW} models again": FEW}
    with ExitStack() as stack:
        shooters = []
        for name, size in tables.items():
            candidate = launcher_with(ids(size))
            try:
                one = stack.enter_context(running(name, candidate, backend_port, cores, folder))
            except RuntimeError as error:
                machine.say(f"many-models: {name} didn't start: {str(error)[-200:]}")
                results.add(MANY, name, 0.0)  # a table that can't be loaded serves nobody
                continue
            own = folder / f"wrk-{name}"
            own.mkdir()
            named = ids(size)[1:]
            spread = named[:: max(len(named) // 1000, 1)]
            shooters.append((name, one, Wrk(own, cores.load, models=spread)))
        for turn in range(rounds):
            at = turn % len(shooters)
            for name, one, wrk in [*shooters[at:], *shooters[:at]]:
                shot = wrk.shoot(one, CONNECTIONS, seconds)
                results.add(MANY, name, shot.rate)
                results.add(CPU, name, (shot.cpu or math.nan) * 1e6)
            machine.say(f"many-models {turn + 1}/{rounds}")
