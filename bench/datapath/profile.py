"""Calls per request, by function: Python's own and those into C.

    python -m bench.datapath.profile [--work WORK] [--count 500] [--modules] [--top 60]

Runs the launcher, with everything on, under `sys.setprofile` in all of its threads, sends it N and
2N units of work over one connection, and prints the difference by unit, most first: a call is a
function that was entered or a coroutine that was resumed. Compiled code is counted where Python
calls it, and not within.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import (
    ALL,
    LAUNCHER_NAME,
    Command,
    Launch,
    backend,
    running,
)
from bench.datapath.counting import by_unit, works

#: The launcher with a counter in it, which answers each byte with all counts so far.
COUNTED = """
import json, runpy, socket, sys, threading
from collections import Counter

counts = Counter()

def count(frame, event, argument):
    if event == "call":
        counts[frame.f_code] += 1
    elif event == "c_call":
        counts[argument.__qualname__, argument.__module__ or type(argument.__self__).__module__] += 1

def name(key):
    if isinstance(key, tuple):
        return "C " + key[1] + " " + key[0]
    return "P " + key.co_filename + " " + key.co_qualname

def report(link):
    while link.recv(1):
        said = Counter()
        for key, number in list(counts.items()):
            said[name(key)] += number
        link.sendall(json.dumps(said).encode() + b"\\n")

link = socket.create_connection(("127.0.0.1", int(sys.argv.pop(1))))
threading.Thread(target=report, args=(link,), daemon=True).start()
threading.setprofile(count)
sys.setprofile(count)
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""


def counted(port: int) -> Command:
    """Return the launcher's command with a counter that reports at this port."""

    def command(launch: Launch) -> Sequence[str]:
        line = list(ALL[LAUNCHER_NAME](launch))
        return [line[0], "-c", COUNTED, str(port), *line[3:]]

    return command


def module(name: str) -> str:
    """Return the module of a function, without the folder in which it is installed."""
    kind, place, _ = name.split(" ", 2)
    if kind == "C":
        return f"C: {place}"
    for start in ("site-packages/", f"{machine.ROOT}/", "/lib/python"):
        _, found, rest = place.partition(start)
        if found:
            return rest
    return place


def table(costs: Mapping[str, float], top: int, *, modules: bool) -> str:
    """Return the totals, and the rows that count most."""
    python = sum(cost for name, cost in costs.items() if name.startswith("P "))
    rows: Counter[str] = Counter()
    for name, cost in costs.items():
        rows[module(name) if modules else f"{module(name)} {name.split(' ', 2)[2]}"] += cost  # type: ignore[assignment]
    lines = [f"{python + 0:10.2f}  Python", f"{sum(costs.values()) - python:10.2f}  C", ""]
    return "\n".join(lines + [f"{cost:10.2f}  {row}" for row, cost in rows.most_common(top)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    names = list(works())
    parser = argparse.ArgumentParser(
        prog="python -m bench.datapath.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", default=names[0], choices=names, help=f"({names[0]})")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="units (500)")
    parser.add_argument("--modules", action="store_true", help="by module, not by function")
    parser.add_argument("--top", type=int, default=60, help="rows (60)")
    options = parser.parse_args(argv)
    cores = machine.cores()
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as name:
        folder, port = Path(name), machine.free_port()
        with socket.create_server(("127.0.0.1", 0)) as server, backend(port, cores, folder):
            command = counted(server.getsockname()[1])
            with running(LAUNCHER_NAME, command, port, cores, folder) as one:
                link = server.accept()[0]
                lines = link.makefile("r")

                def read() -> dict[str, float]:
                    link.sendall(b".")
                    return dict(json.loads(lines.readline()))

                with works()[options.work](one) as work:
                    costs = by_unit(work, read, options.count)
    print(f"calls per unit, {options.work}\n\n{table(costs, options.top, modules=options.modules)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
