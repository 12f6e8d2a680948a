"""The data path: the launcher with everything on, beside nginx, Caddy and an aiohttp proxy.

    python -m bench.datapath [WORKLOAD …] [--quick] [--only NAME,…] [--peer NAME=URL[@PID]]
                             [--rounds N] [--seconds S] [--json FILE]

WORKLOAD (all, where none is named):

    small         chat requests of 240 bytes by `model`, answers of 330, as many as go (wrk)
    openai-head   the same with the head of the `openai` client: 18 lines, a new `traceparent` each
    sse           streams of events: processor time, added delay and memory
    big           one body of 1 GiB down, and one up
    websocket     messages that are sent back
    many-models   the launcher with 100,000 model ids beside the launcher with 3
    healthz       `/healthz` while 64 connections are busy and 4 clients pipeline refused requests
    startup       from the start to accepting connections, and memory at rest
    cold-start    what the launcher adds to the start of a model, and to a swap of two

All proxies stand in front of the same backend and run on the same core; load and backend run on
another one. They take turns, in rounds. The launcher asks for keys, counts their limits, keeps
metrics and writes its access log to a file. `direct` is the backend without a proxy; "added" is
what lies above it. Printed are medians of the rounds, in brackets the ratio to nginx (the median
of the ratios within each round), and each target with its number, as met or not met; the exit code
is 1 where one isn't met. Run as root, it installs what it needs from Debian, and its processes go
before others of the machine.

Everybody is asked with the same key for the model `chat` under `/openai/v1`, and for `/bench/…`.
`--peer` adds a proxy that runs already, in front of the backend at `--backend-port`; with its PID,
its processor time is counted.

Instructions are counted by `python -m bench.datapath.instructions`, calls by
`python -m bench.datapath.profile`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.datapath import load, machine, small, starts
from bench.datapath.candidates import ALL, LAUNCHER_NAME, Bench, backend, peer
from bench.datapath.results import Results
from bench.datapath.targets import checks, compiled

#: Each measures under its name.
WORKLOADS: dict[str, Callable[[Bench, str], None]] = {
    "small": small.chat,
    "openai-head": small.chat,
    "sse": load.streams,
    "big": load.bodies,
    "websocket": load.sockets,
    "many-models": small.many,
    "healthz": small.healthz,
    "startup": starts.startup,
    "cold-start": starts.cold,
}
#: Those that measure the launcher alone.
ALONE = {"many-models", "healthz", "cold-start"}
BY_WRK = {"small", "openai-head", "many-models", "healthz"}
RESULTS = machine.ROOT / "bench" / "results" / "datapath.json"


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line, with what wasn't said filled in."""
    parser = argparse.ArgumentParser(prog="python -m bench.datapath", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="short and once, for a first look")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(ALL)}")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL[@PID]")
    parser.add_argument("--backend-port", type=int, default=0, help="for peers (a free one)")
    parser.add_argument("--rounds", type=int, help="how often each (5; 1 if quick)")
    parser.add_argument("--seconds", type=float, help="of one run (5; 1 if quick)")
    parser.add_argument("--connections", default="1,16,64", help="of `small` and `openai-head`")
    parser.add_argument("--streams", default="100,400,5000", help="of `sse`")
    parser.add_argument("--rate", type=int, default=10_000, help="of `sse`: events a second in all")
    parser.add_argument("--size", type=int, help="of `big`, in MiB (1024; 128 if quick)")
    parser.add_argument("--sockets", type=int, default=100, help="of `websocket`")
    parser.add_argument("--models", type=int, default=100_000, help="of `many-models`")
    parser.add_argument("--starts", type=int, help="of `cold-start`, of each kind (20; 3 if quick)")
    parser.add_argument("--slowest", type=float, help="of them, in seconds (3; 1 if quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=RESULTS)
    options = parser.parse_args(argv)
    options.names = options.names or list(WORKLOADS)
    options.only = options.only.split(",") if options.only else list(ALL)
    if LAUNCHER_NAME not in options.only:
        options.names = [name for name in options.names if name not in ALONE]
    for unknown in {*options.names} - {*WORKLOADS} | {*options.only} - {*ALL}:
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
    options.starts = options.starts or (3 if options.quick else 20)
    options.slowest = options.slowest or (1.0 if options.quick else 3.0)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says; 1 where a target isn't met, 130 after Ctrl-C."""
    options = parsed(argv)
    wanted = [name for name in ("nginx", "caddy") if name in options.only]
    if BY_WRK & {*options.names}:
        wanted.append("wrk")
    if missing := machine.install(wanted):
        print(f"not installed, and can't be: {', '.join(missing)}", file=sys.stderr)
        return 2
    machine.raise_limits()
    cores, about = machine.cores(), machine.describe()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results, code = Results(), 0
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as folder:
        port = options.backend_port or machine.free_port()
        bench = Bench(options, results, port, cores, Path(folder))
        try:
            with backend(port, cores, bench.folder):
                for name in options.names:
                    WORKLOADS[name](bench, name)
        except KeyboardInterrupt:
            print("ended; what there is so far:", file=sys.stderr)
            code = 130
    found = checks(results)
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load_average']}; {cores}")
    kind = "compiled" if compiled() else "plain"
    python = f"Python {about['python']} {'with' if about['pgo'] else 'without'} PGO"
    print(f"{options.rounds} rounds of {options.seconds:g} s, the launcher {kind}, {python}")
    print(f"\n{results.text()}\n")
    print("\n".join(str(check) for check in found if check.met is not None))
    said = {
        "machine": about | {"placement": str(cores), "load_average_after": machine.load()},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "compiled": compiled(),
        "results": results.plain(),
        "targets": [check.plain() for check in found],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(said, indent=2) + "\n")
    machine.say(f"written: {options.json}")
    return code or int(any(check.met is False for check in found))


if __name__ == "__main__":
    sys.exit(main())
