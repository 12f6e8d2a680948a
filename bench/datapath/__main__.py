"""The data path: the launcher with everything on, beside other proxies.

    python -m bench.datapath [small|openai-head|sse|big|websocket|startup|many-models|cold-start …]
                             [--quick] [--only NAME,…] [--peer NAME=URL[@PID]] [--rounds N]
                             [--seconds S] [--json FILE] [--svg FILE]

Installs wrk, nginx and caddy where it may (as root on Debian). All candidates stand in front of
backends of the same kind, on the same core; load and backends are processes of their own on
another one, where there are two. They take turns, in rounds. Printed are medians, in brackets
the ratio to nginx within the same round, and what the launcher has to reach. `direct` is the
backend without any proxy; "added" is what lies above it. `cold-start` is of the launcher alone:
what it adds to the start of a model, and to a swap of two.

All numbers are written as JSON, and drawn, to bench/results unless said otherwise.

`--peer` is a proxy that runs already, in front of the backend at `--backend-port`; with its PID,
its processor time is counted. Everybody is asked with the same api key (`candidates.KEY`) for the
model `chat` under `/openai/v1`, and for `/bench/…`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.datapath import cells, cold, machine, many, picture, small, startup
from bench.datapath.candidates import (
    ALL,
    LAUNCHER_NAME,
    USUAL,
    Running,
    all_running,
    backend,
    peer,
)
from bench.datapath.cells import Cell, Load
from bench.datapath.machine import Cores
from bench.datapath.requests import HEADS
from bench.datapath.results import Place, Results
from bench.datapath.small import Shot
from bench.datapath.targets import checks

NAMES = ("small", "openai-head", "sse", "big", "websocket", "startup", "many-models", "cold-start")
RESULTS = machine.ROOT / "bench" / "results"
MIB = 1024**2
GIB = 1024**3


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what wasn't said is as `--quick` says."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.datapath", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="short and once, for a first look")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(ALL)}")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL[@PID]")
    parser.add_argument("--backend-port", type=int, default=0, help="for peers (a free one)")
    parser.add_argument("--rounds", type=int, help="how often each (5; 1 if quick)")
    parser.add_argument("--seconds", type=float, help="of one run (5; 1 if quick)")
    parser.add_argument("--connections", default="1,16,64,256", help="of `small`")
    parser.add_argument("--streams", default="1,100,400,1000,5000", help="of `sse`")
    parser.add_argument("--rate", type=int, default=10_000, help="of `sse`: events a second in all")
    parser.add_argument("--size", type=int, help="of `big`, in MiB (1024; 128 if quick)")
    parser.add_argument("--sockets", type=int, default=100, help="of `websocket`")
    parser.add_argument("--models", type=int, default=100_000, help="of `many-models`")
    parser.add_argument("--starts", type=int, help="of `cold-start`, of each kind (10; 3 if quick)")
    parser.add_argument("--slowest", type=float, help="of them, in seconds (6; 1 if quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=RESULTS / "datapath.json")
    parser.add_argument("--svg", type=Path, metavar="FILE", default=RESULTS / "datapath.svg")
    options = parser.parse_args(argv)
    options.names = options.names or list(NAMES)
    options.only = options.only.split(",") if options.only else list(USUAL)
    for unknown in {*options.names} - {*NAMES} | {*options.only} - {*ALL}:
        parser.error(f"there is no {unknown!r}")
    try:
        options.peer = [peer(one) for one in options.peer]
    except ValueError as error:
        parser.error(str(error))
    options.connections = [int(one) for one in options.connections.split(",")]
    options.streams = [int(one) for one in options.streams.split(",")]
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1.0 if options.quick else 5.0)
    options.size = options.size or (128 if options.quick else 1024)
    options.starts = options.starts or (3 if options.quick else 10)
    options.slowest = options.slowest or (1.0 if options.quick else 6.0)
    return options


def add_small(results: Results, workload: str, shots: Sequence[Shot], connections: int) -> None:
    """The numbers of one number of connections."""
    direct = [one for one in shots if one.candidate == "direct"]
    column = f"{connections} connection{'s' if connections > 1 else ''}"
    turns: dict[str, int] = {}
    for shot in shots:
        turn = turns[shot.candidate] = turns.get(shot.candidate, -1) + 1
        numbers = {
            "requests/s": shot.rate,
            "CPU, µs": math.nan if shot.cpu is None else shot.cpu * 1e6,
            "p50 added, ms": (shot.p50 - direct[turn].p50) * 1e3,
            "p99 added, ms": (shot.p99 - direct[turn].p99) * 1e3,
            "errors": float(shot.errors),
        }
        for metric, value in numbers.items():
            results.add(Place(workload, metric, column), shot.candidate, value)


def add_cells(results: Results, found: Sequence[Cell]) -> None:
    """The numbers of one load."""
    direct = [one for one in found if one.candidate == "direct"]
    turns: dict[str, int] = {}
    for cell in found:
        turn = turns[cell.candidate] = turns.get(cell.candidate, -1) + 1
        late = (cell.p99 - direct[turn].p99) * 1e3
        grown = math.nan if cell.memory is None else cell.memory / MIB
        match cell.kind:
            case "sse":
                workload = "sse"
                column = f"{cell.connections} stream{'s' if cell.connections > 1 else ''}"
                each = cell.memory_each / 1024 if cell.connections >= 100 else math.nan
                numbers = {
                    "CPU by event, µs": cell.cpu_each * 1e6,
                    "p99 delay added, ms": late,
                    "memory by stream, KiB": each,
                }
            case "websocket":
                workload, column = "websocket", f"{cell.connections} connections"
                numbers = {
                    "messages/s": cell.rate,
                    "CPU by message, µs": cell.cpu_each * 1e6,
                    "p99 added, ms": late,
                }
            case _:
                workload, column = "big", cell.kind
                numbers = {
                    "MB/s": cell.rate / 1e6,
                    "CPU by GiB, s": cell.cpu_each * GIB,
                    "memory at the peak, MiB": grown,
                }
        for metric, value in (numbers | {"errors": float(cell.errors)}).items():
            results.add(Place(workload, metric, column), cell.candidate, value)


def loads(name: str, options: argparse.Namespace) -> list[Load]:
    """What a workload consists of."""
    match name:
        case "sse":
            return [Load("sse", n, options.seconds, options.rate) for n in options.streams]
        case "websocket":
            return [Load("websocket", options.sockets, options.seconds)]
        case _:
            size = options.size * MIB
            return [Load("download", size=size), Load("upload", size=size)]


def run(options: argparse.Namespace, results: Results, cores: Cores, folder: Path) -> None:
    """All that was asked for."""
    port = options.backend_port or machine.free_port()
    with backend(port, cores, folder):
        for name in options.names:
            if name == "startup":
                startup.run(results, options.only, options.rounds, port, cores, folder)
            elif name == "many-models":
                if LAUNCHER_NAME in options.only:
                    seconds = options.seconds
                    many.run(results, options.models, options.rounds, seconds, port, cores, folder)
            elif name == "cold-start":
                if LAUNCHER_NAME in options.only:
                    cold.run(results, options.starts, options.slowest, cores, folder)
            else:
                # Each workload meets processes that have done nothing else.
                with all_running(options.only, options.peer, port, cores, folder) as everybody:
                    measure(name, everybody, options, results, cores, folder)


def measure(
    name: str,
    everybody: Sequence[Running],
    options: argparse.Namespace,
    results: Results,
    cores: Cores,
    folder: Path,
) -> None:
    """One workload on all candidates."""
    if name in HEADS:
        wrk = small.Wrk(folder, cores.load, name)
        for count in options.connections:
            shots = small.run(everybody, wrk, count, options.rounds, options.seconds)
            add_small(results, name, shots, count)
    else:
        for load in loads(name, options):
            add_cells(results, cells.run(everybody, load, options.rounds, cores))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says; 1 where a target isn't met, 130 after Ctrl-C."""
    options = parsed(argv)
    wanted = [name for name in ("nginx", "caddy") if name in options.only]
    if {*HEADS, "many-models"} & {*options.names}:
        wanted.append("wrk")
    if missing := machine.install(wanted):
        print(f"not installed, and can't be: {', '.join(missing)}", file=sys.stderr)
        return 2
    machine.raise_limits()
    cores, about = machine.cores(), machine.describe()
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results, code = Results(), 0
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as name:
        try:
            run(options, results, cores, Path(name))
        except KeyboardInterrupt:
            print("ended; what there is so far:", file=sys.stderr)
            code = 130
    found = checks(results)
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load_average']}; {cores}")
    print(f"{options.rounds} rounds of {options.seconds:g} s\n\n{results.text()}\n")
    print("\n".join(str(check) for check in found if check.met is not None))
    said = {
        "machine": about | {"placement": str(cores), "load_average_after": machine.load()},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": results.plain(),
        "targets": [check.plain() for check in found],
    }
    for file, text in (
        (options.json, json.dumps(said, indent=2) + "\n"),
        (options.svg, picture.svg(results)),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        machine.say(f"written: {file}")
    return code or int(any(check.met is False for check in found))


if __name__ == "__main__":
    sys.exit(main())
