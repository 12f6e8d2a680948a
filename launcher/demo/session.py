"""One run of the demo: write the models and routes.toml, serve them as `launcher serve` does,
print what to try, and in a check try it.

Needs the `demo` extra.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import tasks
from launcher.config import RESERVED, LauncherConfig, Listen
from launcher.config.load import load_config
from launcher.demo.tiny_model import THEMES, write_tiny_model
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
        except NoAnswer as error:
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
        print(f"demo: {name} says: {ask(base, name, QUESTION)}", flush=True)
    for name in names:
        pieces = ask_streaming(base, name, QUESTION)
        print(f"demo: {name} streams {len(pieces)} pieces: {''.join(pieces)}", flush=True)


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


#: Seconds for one answer, the model's start included; a real model's takes its time.
TIMEOUT = 600.0


class NoAnswer(Exception):
    """The launcher or a model didn't answer as it should; says what was asked."""


def ask(base: str, model: str, question: str) -> str:
    """What a model says, by way of the unified endpoint. Raises NoAnswer."""
    body = _question(question) | {"model": model}
    answer = _post(f"{base}/openai/v1/chat/completions", body)
    return _said(answer, "message")


def ask_streaming(base: str, route: str, question: str) -> list[str]:
    """The pieces in which a route's model says it. Raises NoAnswer, also for a stream that
    ends without its `[DONE]`."""
    url = f"{base}/{route}/v1/chat/completions"
    lines = _post(url, _question(question) | {"stream": True}).splitlines()
    events = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise NoAnswer(f"{url}: the stream has no end: {lines[-1:]!r}")
    return [piece for event in events[:-1] if (piece := _said(event, "delta"))]


def _question(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 200}


def _post(url: str, body: dict[str, object]) -> bytes:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(f"{url}: {error.code} {error.read().decode(errors='replace')}") from None
    except OSError as error:
        raise NoAnswer(f"{url}: {error}") from error


def _said(answer: bytes, part: str) -> str:
    try:
        choices = json.loads(answer)["choices"]
        return "".join(choice[part].get("content") or "" for choice in choices)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAnswer(f"not a chat completion: {answer[:200]!r}") from error
