"""The scheduling policies side by side, in simulation.

    python -m bench.scheduling [open|agents|trickle|fits|azure|optimum|forecasts|scale]
                               [--seeds 20] [--traces DIR] [--json FILE] [--quick]

One slot, starts of 25 s, stops of 2 s, `max_wait` 60 s, at most 8 requests at a time by
backend, unless a table says otherwise. Each prints a table and, for each promise, the median
and the worst over the seeds and whether it is met. Without a name all of them run, quickly:
fewer seeds, shorter times; the numbers that count come from the single ones. The seeds are
0, 1, 2, …: the same on every machine, and so are the results, times of `scale` aside.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.scheduling import agents, azure, fits, forecasts, open, optimum, scale, trickle
from bench.scheduling.common import Bench

NAMES = ("open", "agents", "trickle", "fits", "azure", "optimum", "forecasts", "scale")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says; 1 where a promise isn't kept."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.scheduling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", nargs="?", choices=NAMES, help="only this one, in full")
    parser.add_argument("--seeds", type=int, help="how many (20; 3 if quick)")
    parser.add_argument("--quick", action="store_true", help="short, for a first look")
    parser.add_argument("--traces", metavar="DIR", help="where the Azure trace's files are")
    parser.add_argument("--instances", type=int, default=1000, help="of `optimum`")
    parser.add_argument("--hours", type=float, default=1000.0, help="of `trickle`, in all")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers there")
    options = parser.parse_args(argv)
    quick = options.quick or options.name is None
    seeds = options.seeds or (3 if quick else 20)

    runs: dict[str, Callable[[], Bench]] = {
        "open": lambda: open.bench(seeds, quick),
        "agents": lambda: agents.bench(seeds, quick),
        "trickle": lambda: trickle.bench(seeds, options.hours, quick),
        "fits": lambda: fits.bench(seeds, quick),
        "azure": lambda: azure.bench(seeds, options.traces, quick),
        "optimum": lambda: optimum.bench(100 if quick else options.instances),
        "forecasts": lambda: forecasts.bench(seeds, quick),
        "scale": lambda: scale.bench(quick),
    }
    wanted = [options.name] if options.name else list(NAMES)
    if options.traces is None and "azure" in wanted:
        if options.name:
            parser.error("azure needs --traces DIR, with azure-llm-2023-code.csv and -conv.csv")
        print("azure is left out: it needs --traces DIR\n", file=sys.stderr)
        wanted.remove("azure")
    found: dict[str, Bench] = {}
    for name in wanted:
        found[name] = runs[name]()
        print(found[name].text(), flush=True)
    if options.json:
        plain = {name: bench.plain() for name, bench in found.items()}
        options.json.write_text(json.dumps(plain, indent=2) + "\n")
    missed = [check.what for bench in found.values() for check in bench.checks if not check.met]
    if missed:
        print(f"not met: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
