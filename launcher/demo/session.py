"""One run of the demo: writes the models and routes.toml, serves them as `launcher serve`
does, tells the newcomer what to try, and in a check tries it itself.

Needs the `demo` extra.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from launcher import tasks
from launcher.config import LauncherConfig, Listen
from launcher.config.load import load_config
from launcher.demo import visitor
from launcher.demo.routes import DemoModel, route_names, routes_toml
from launcher.demo.tiny_model import write_tiny_model
from launcher.demo.words import THEMES
from launcher.errors import ConfigError, LauncherError
from launcher.service import serve
from launcher.telemetry.log import configured

#: A tiny model is done before a second thread has woken up.
TINY_OPTIONS = ("--threads", "1", "--slots", "4", "--context", "16384")
QUESTION = "Tell me a story."


@dataclass(frozen=True, slots=True)
class Session:
    """What was asked for on the command line."""

    listen: str
    models: tuple[Path, ...]
    check: bool

    def run(self) -> int:
        """Until it is interrupted, or the check is through. Returns the exit code."""
        with tempfile.TemporaryDirectory(prefix="launcher-demo-") as directory:
            models = self._models(Path(directory))
            names = [model.name for model in models]
            file = Path(directory, "routes.toml")
            file.write_text(routes_toml(self.listen, models), encoding="utf-8")
            try:
                # The environment is not asked: a LAUNCHER_LISTEN or MAP__… for another
                # launcher has no business here.
                config = load_config(str(file), {})
                with configured(log_format="human"):
                    return asyncio.run(self._serve(config, names, file))
            except (ConfigError, LauncherError, OSError) as error:
                print(f"the demo can't be served: {error}", file=sys.stderr)
                return 2
            except (KeyboardInterrupt, asyncio.CancelledError):
                # Before it served, or for the second time.
                return 130

    def _models(self, directory: Path) -> tuple[DemoModel, ...]:
        if self.models:
            paths = [path.expanduser().absolute() for path in self.models]
            return tuple(map(DemoModel, route_names(paths), paths))
        for theme in THEMES.values():
            write_tiny_model(directory / f"{theme.name}.gguf", theme)
        return tuple(DemoModel(name, directory / f"{name}.gguf", TINY_OPTIONS) for name in THEMES)

    async def _serve(self, config: LauncherConfig, names: list[str], file: Path) -> int:
        checks: list[asyncio.Task[int]] = []

        def ready(addresses: tuple[Listen, ...]) -> None:
            base = f"http://{addresses[0]}"
            print(welcome(base, names, file), flush=True)
            if self.check:
                checks.append(tasks.spawn(self._check(base, names), name="demo check"))

        try:
            await serve(config, ready)
        finally:
            await tasks.cancel(*checks)
        return sum(check.result() if not check.cancelled() else 1 for check in checks)

    async def _check(self, base: str, names: list[str]) -> int:
        try:
            await asyncio.to_thread(check, base, names)
        except visitor.NoAnswer as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
        else:
            print("demo: every model answered", flush=True)
            return 0
        finally:
            # The same end as by Ctrl-C.
            os.kill(os.getpid(), signal.SIGINT)


def command() -> str:
    """How to call the launcher from here: as short as works."""
    script = Path(sys.executable).with_name("launcher")
    if shutil.which("launcher") == str(script):
        return "launcher"
    if script.is_file():
        return min(str(script), os.path.relpath(script), key=len)
    return f"{sys.executable} -m launcher"


def welcome(base: str, names: list[str], file: Path) -> str:
    """What a newcomer reads once the launcher listens."""
    question = {"messages": [{"role": "user", "content": QUESTION}]}
    by_model = json.dumps({"model": names[0], **question})
    streaming = json.dumps({"stream": True, **question})
    a_header = "-H 'Content-Type: application/json'"
    return f"""
  Models, none of them running yet: {", ".join(names)}

    one address for all     {base}/openai/v1
    one for each            {", ".join(f"{base}/{name}/v1" for name in names)}
    the configuration       {file}

  Try in another terminal, and watch here how one model makes way for the other:

    curl {base}/openai/v1/chat/completions {a_header} \\
      -d '{by_model}'

    curl -N {base}/{names[-1]}/v1/chat/completions {a_header} \\
      -d '{streaming}'

    {command()} status --url {base}

  Ctrl-C ends it all.
"""


def check(base: str, names: list[str]) -> None:
    """Ask each model by its name and by its route, which makes them take turns. Raises
    NoAnswer."""
    for name in names:
        print(f"demo: {name} says: {visitor.ask(base, name, QUESTION)}", flush=True)
    for name in names:
        pieces = visitor.ask_streaming(base, name, QUESTION)
        print(f"demo: {name} streams {len(pieces)} pieces: {''.join(pieces)}", flush=True)
