"""The demo's routes.toml: one route per model, each a llama.cpp server of its own.

Pure text; knows the server's command line and the configuration's format.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.config import RESERVED


@dataclass(frozen=True, slots=True)
class DemoModel:
    """One model of the demo; `name` is its route's name and its model id."""

    name: str
    path: Path
    options: tuple[str, ...] = ()
    """For `launcher.demo.server`."""


def route_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """A route name for each file, from the file's own: lower-case words of `a-z0-9-`, none of
    them reserved, no two the same."""
    names: list[str] = []
    for path in paths:
        word = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "model"
        if word in RESERVED:
            word = f"{word}-model"
        name, number = word, 2
        while name in names:
            name, number = f"{word}-{number}", number + 1
        names.append(name)
    return tuple(names)


def routes_toml(listen: str, models: Sequence[DemoModel]) -> str:
    """The configuration, as a person would have written it."""
    lines = [
        "# Written by `launcher demo`. One table per route; the command is what is started",
        "# on the route's first request, and {port} a port that is free then.",
        "",
        "[launcher]",
        f"listen = [{_quoted(listen)}]",
        'idle_timeout = "2m"      # a model that nobody asks is stopped after this',
        'stop_grace = "5s"        # between SIGTERM and SIGKILL',
        'state_file = ""          # nothing is kept',
        "",
        "[capacity]",
        "gpu = 1                  # each model needs all of it: one at a time",
    ]
    for model in models:
        command = [sys.executable, "-m", "launcher.demo.server", "--model", str(model.path)]
        command += ["--port", "{port}", "--alias", model.name, *model.options]
        lines += [
            "",
            f"[routes.{model.name}]",
            "command = [",
            *(f"    {_quoted(word)}," for word in command),
            "]",
            f"models = [{_quoted(model.name)}]",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string (JSON's escapes are among TOML's); `${` would begin a variable."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False).replace("\x7f", "\\u007f")
