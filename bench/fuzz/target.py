"""One side under atheris; what is behind the side's name is libFuzzer's.

    python -m bench.fuzz.target PROGRAM {server,upstream} [-flag=value …] [FOLDER …]

PROGRAM is what libFuzzer starts, for itself, to merge: it runs this with the arguments it is given.
"""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    """Fuzz until told to stop; doesn't return."""
    program, name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["launcher.http"]):
        side = importlib.import_module(f"bench.fuzz.{name}")
    wire = importlib.import_module("bench.fuzz.wire")
    loop = wire.Loop()
    atheris.Setup([program, *arguments], lambda data: side.check(loop, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
