"""Notices that a configuration's files have changed, by looking at them once a second.

Looking by name is what works everywhere: with editors that write a new file and rename it,
with secrets that are symbolic links to whatever is current, with file systems that tell
nobody of changes. It must not know what the files say.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from launcher.loading.tables import Unresolved, expand

#: Seconds between two looks.
EVERY = 1.0

_SECRET = re.compile(r"""["']file:([^"']+)["']""")

Files = Callable[[], tuple[str, ...]]
"""Names what is to be looked at. May block."""

Looks = dict[str, tuple[int, int, int] | None]
"""File → what tells it from its earlier self; None where there is none."""


def files_of(path: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The files that a configuration is made of: its own, and those that hold secrets. Blocks.

    A few too many do no harm: whoever reads the configuration again finds that nothing changed.
    """
    found = dict.fromkeys(value for key, value in environ.items() if key.endswith("_FILE"))
    if path is not None:
        found[path] = None
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        for named in _SECRET.findall(text):
            # What can't be resolved is told of when the file is read.
            with suppress(Unresolved):
                found[str(expand(named, environ))] = None
    return tuple(found)


async def changes(files: Files, every: float | None = None) -> AsyncGenerator[None, None]:
    """Yields whenever something about the files has changed and then stayed as it was for one
    look: whoever writes them is done. Ends never. `every` in seconds, by default EVERY."""
    every = EVERY if every is None else every
    known = await asyncio.to_thread(_look, files)
    while True:
        await asyncio.sleep(every)
        seen = await asyncio.to_thread(_look, files)
        if seen == known:
            continue
        while True:
            await asyncio.sleep(every)
            again = await asyncio.to_thread(_look, files)
            if again == seen:
                break
            seen = again
        known = seen
        yield


def _look(files: Files) -> Looks:
    return {name: _signature(name) for name in files()}


def _signature(name: str) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(name)
    except (OSError, ValueError):
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
