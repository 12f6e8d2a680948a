"""`launcher serve` as a user runs it: a subprocess, its configuration, its log.

with Launcher(tmp_path, routes_toml) as launcher:
    launcher.client().chat.completions.create(model="coder", …)
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import openai

ROOT = Path(__file__).resolve().parent.parent.parent
BACKEND = ROOT / "tests" / "backend.py"
#: Generous: a busy machine may be slow, a test that waits on a condition doesn't mind.
PATIENCE = 60.0
T = TypeVar("T")


def until(look: Callable[[], T], what: str = "", patience: float = PATIENCE) -> T:
    """Look until the answer is true; it. Raises AssertionError when patience runs out."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what or look}; {seen!r}"
        time.sleep(0.02)


def process_route(name: str, *, lines: str = "", **env: str) -> str:
    """A route of a scripted backend as a local process."""
    values = {"BACKEND_NAME": name} | {f"BACKEND_{k}": v for k, v in env.items()}
    pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    command = json.dumps([sys.executable, str(BACKEND), "--port", "{port}"])
    return f"[routes.{name}]\ncommand = {command}\nenv = {{ {pairs} }}\n{lines}\n"


def container_route(name: str, container: str, *, lines: str = "") -> str:
    """A route of a container of `tests.drivers.images`."""
    return f'[routes.{name}]\ncontainer = "{container}"\nport = 8000\n{lines}\n'


class Launcher:
    """One `launcher serve`, on a port of its own."""

    def __init__(
        self,
        folder: Path,
        routes: str,
        *,
        top: str = "",
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
    ) -> None:
        """`options` of `serve`; `before` is what starts it, such as nohup."""
        self.folder = folder
        self.options = options
        self.before = before
        self.file = folder / "routes.toml"
        self.file.write_text(f'[launcher]\nlisten = ["127.0.0.1:0"]\n{top}\n{routes}')
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LAUNCHER_", "MAP__"))}
        self.env = clean | {"LAUNCHER_STATE_FILE": str(folder / "state.db")} | dict(env or {})
        self.log_file = folder / "launcher.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.base = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            sys.stderr.write(self.log()[-8000:])

    # -- its life

    def start(self) -> None:
        """Start it and wait until it accepts requests."""
        mark = len(self.log())
        options = ["--config", str(self.file), "--log-format", "json", *self.options]
        command = [*self.before, sys.executable, "-m", "launcher", "serve", *options]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=self.env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        found = until(lambda: self._announced(mark), "an address in the log")
        self.base = f"http://{found}"

    def _announced(self, mark: int) -> str | None:
        assert self.process is not None
        assert self.process.poll() is None, f"it has ended: {self.log()[mark:]}"
        found = re.search(r"serves \d+ routes? at ([\d.]+:\d+)", self.log()[mark:])
        return found and found.group(1)

    def stop(self) -> int:
        """SIGTERM, and its exit code. Kills it where it doesn't end."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """SIGKILL: no chance to say goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # -- looking

    def log(self) -> str:
        """Everything it has printed."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """GET a path: the status and the body, errors included."""
        return self.request("GET", path, None, **headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Any request: the status and the body, errors included."""
        made = urllib.request.Request(
            self.base + path, data=body, method=method, headers=dict(headers)
        )
        try:
            with urllib.request.urlopen(made, timeout=PATIENCE * 2) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        """GET a path that must succeed, as JSON."""
        status, body = self.get(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def backend(self, name: str) -> dict[str, Any]:
        """A backend's part of /api/status."""
        for one in self.json("/api/status")["backends"]:
            if one["backend"] == name:
                found: dict[str, Any] = one
                return found
        raise KeyError(name)

    def state(self, name: str) -> str:
        return str(self.backend(name)["state"])

    def memory(self) -> int:
        """Resident memory in bytes."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    # -- clients

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client at the unified endpoint; it doesn't retry by itself."""
        defaults = {"api_key": "none", "max_retries": 0, "timeout": PATIENCE * 2}
        return openai.OpenAI(base_url=f"{self.base}/openai/v1", **(defaults | options))
