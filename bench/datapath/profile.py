"""Calls per request, by part: Python functions that are entered, and C functions that they call.

    python -m bench.datapath.profile [--by package|module|function|c] [--work WORK] [--count 500]
                                     [--top 60]

Runs the launcher, with everything on, under `sys.setprofile` in all of its threads, sends it N and
2N units of work, and prints the difference by unit, most first. `Python` is how often a function
was entered, or a coroutine resumed; `C` is how many C functions it called. `--by c` lists the C
functions. Compiled code is counted where Python calls it, and not within.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import sysconfig
import tempfile
from collections import defaultdict
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
        counts[frame.f_code, ""] += 1
    elif event == "c_call":
        module = argument.__module__ or type(argument.__self__).__module__
        counts[frame.f_code, module + "." + argument.__qualname__] += 1

def name(code, callee):
    return "\\t".join((code.co_filename, code.co_qualname, callee))

def report(link):
    while link.recv(1):
        said = Counter()
        for key, number in list(counts.items()):
            said[name(*key)] += number
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


def module(file: str) -> str:
    """Return a module's file, without the folder in which it is installed."""
    for start in ("site-packages/", f"{machine.ROOT}/"):
        _, found, rest = file.partition(start)
        if found:
            return rest
    return file.replace(sysconfig.get_path("stdlib"), "stdlib")


def part(by: str, file: str, function: str, callee: str) -> str:
    """Return the name of the row that a call belongs to."""
    match by:
        case "package":
            folders = module(file).split("/")[:-1]
            return "/".join(folders[: 2 if folders[:1] == ["launcher"] else 1]) or module(file)
        case "module":
            return module(file)
        case "function":
            return f"{module(file)} {function}"
        case _:
            return callee


def table(costs: Mapping[str, float], by: str, top: int) -> str:
    """Return the rows with most calls, and the sum of all."""
    rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, cost in costs.items():
        file, function, callee = name.split("\t")
        for row in (part(by, file, function, callee), "all"):
            rows[row][bool(callee)] += cost
    most = sorted(rows.items(), key=lambda row: -sum(row[1]))[: top + 1]
    lines = [f"{python:10.2f}{c:10.2f}  {row}" for row, (python, c) in most if python + c > 0.005]
    return "\n".join([f"{'Python':>10}{'C':>10}", *lines])


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
    parser.add_argument(
        "--by",
        default="function",
        choices=("package", "module", "function", "c"),
        help="(function)",
    )
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
    print(f"calls per unit, {options.work}\n\n{table(costs, options.by, options.top)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
