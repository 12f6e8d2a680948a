"""Instructions per request, event and message: a figure that the neighbours don't change.

    python -m bench.datapath.instructions [--only launcher,nginx] [--count 320] [WORK …]

Runs each proxy under `valgrind --tool=callgrind` on one core, with one hash seed, sends it N and
2N units of each kind of work, and prints the difference by unit, in user space (the kernel's part
isn't counted), and the ratio to nginx. Start-up and whatever else comes once cancels out. It takes
some minutes: under callgrind a proxy is about fifty times slower.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.datapath import machine
from bench.datapath.candidates import ALL, LAUNCHER_NAME, Command, Launch, Running, backend, running
from bench.datapath.counting import by_unit, works
from bench.datapath.results import Place, Results

TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)
COUNTED = ("nginx", "aiohttp", "launcher")
#: What is said to some of them, so that what counts is one process.
OPTIONS = {"nginx": ("-g", "master_process off;")}
#: The launcher, with what valgrind before 3.21 doesn't know replaced: `pidfd_open`.
LAUNCHER = """
import os, runpy, threading

def pidfd_open(pid, flags=0):
    ended, open_until_then = os.pipe()

    def wait():
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(open_until_then)

    threading.Thread(target=wait, daemon=True).start()
    return ended

os.pidfd_open = pidfd_open
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""


def traced(name: str) -> Command:
    """Return a candidate's command under callgrind, which counts nothing until it is told to."""

    def command(launch: Launch) -> Sequence[str]:
        line = list(ALL[name](launch))
        if name == LAUNCHER_NAME:
            line[1:3] = ["-c", LAUNCHER]
        return [
            *("env", "PYTHONHASHSEED=0", machine.program("valgrind") or "valgrind"),
            *("--tool=callgrind", "--instr-atstart=no"),
            f"--callgrind-out-file={launch.folder / 'callgrind'}",
            *line,
            *OPTIONS.get(name, ()),
        ]

    return command


class Callgrind:
    """The counter of a process that runs under callgrind."""

    def __init__(self, one: Running, folder: Path) -> None:
        self._pid = one.pid
        self._folder = folder
        self._total = 0
        self._tell("instrumentation on")

    def read(self) -> dict[str, float]:
        """Return the instructions so far."""
        self._tell("dump")
        for file in self._folder.glob("*/callgrind.*"):
            found = TOTALS.search(file.read_text())
            self._total += int(found[1]) if found else 0
            file.unlink()
        return {"instructions": self._total}

    def _tell(self, what: str) -> None:
        done = subprocess.run(
            [machine.program("vgdb") or "vgdb", f"--pid={self._pid}", *what.split()],
            capture_output=True,
            text=True,
            check=False,
            timeout=machine.PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(f"vgdb {what}: {done.stderr}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.datapath.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", nargs="*", metavar="WORK", help=f"of: {'; '.join(works())} (all)")
    parser.add_argument("--only", default=",".join(COUNTED), help=f"of {', '.join(COUNTED)}")
    parser.add_argument("--count", type=int, default=320, metavar="N", help="units (320)")
    options = parser.parse_args(argv)
    if missing := machine.install(["valgrind", "nginx"]):
        print(f"not installed, and can't be: {', '.join(missing)}", file=sys.stderr)
        return 2
    cores, results = machine.cores(), Results()
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as folder:
        port = machine.free_port()
        with backend(port, cores, Path(folder)):
            for name in options.only.split(","):
                own = Path(folder) / name
                own.mkdir()
                with running(name, traced(name), port, cores, own) as one:
                    counter = Callgrind(one, own)
                    for work, kind in works().items():
                        if options.work and work not in options.work:
                            continue
                        with kind(one) as do:
                            count = by_unit(do, counter.read, options.count)["instructions"]
                        results.add(Place("instructions", "by unit", work), name, count)
                        machine.say(f"{name}, {work}: {count:,.0f}")
    print(results.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
