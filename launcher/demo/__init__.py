"""`launcher demo`: the whole launcher in front of two small language models, of which one
is up at a time. Needs the `demo` extra, and says so where it is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

#: What the `demo` extra brings.
NEEDED = ("gguf", "numpy", "xllamacpp")


def run(*, listen: str = "127.0.0.1:8000", models: Sequence[Path] = (), check: bool = False) -> int:
    """Serve the demo until it is interrupted; returns the process's exit code.

    `listen` is HOST:PORT. `models` are GGUF files to serve instead of the tiny ones.
    `check` asks every model once and ends: 0 if each of them answered.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The demo needs {', '.join(missing)}: pip install 'lazy-launcher[demo]'",
            file=sys.stderr,
        )
        return 2
    # Not before this: it needs the extra.
    from launcher.demo.session import Session

    return Session(listen=listen, models=tuple(models), check=check).run()
