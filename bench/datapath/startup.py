"""From nothing to accepting connections, and the memory at rest."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import ALL, running
from bench.datapath.machine import Cores
from bench.datapath.results import Place, Results
from bench.datapath.targets import STARTUP

IMPORT = "import aiohttp"
MEMORY = Place("startup", "memory at rest, MiB", "start")
#: Seconds after which it rests.
REST = 1.0


def run(
    results: Results,
    names: Sequence[str],
    rounds: int,
    backend_port: int,
    cores: Cores,
    folder: Path,
) -> None:
    """Each candidate started alone, in rounds; and what importing aiohttp takes. Each has been
    started before: its files are in memory, and what is Python is compiled."""
    for name in names:
        with running(name, ALL[name], backend_port, cores, folder):
            pass
    for turn in range(rounds):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", IMPORT], check=True, preexec_fn=machine.pinned(cores.proxy)
        )
        results.add(STARTUP, IMPORT, time.monotonic() - began)
        for name in names:
            with running(name, ALL[name], backend_port, cores, folder) as one:
                results.add(STARTUP, name, one.started_in)
                time.sleep(REST)
                results.add(MEMORY, name, machine.memory(one.pids) / 1024**2)
        machine.say(f"startup {turn + 1}/{rounds}")
