"""The demo as a newcomer runs it: the command, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.demo import visitor
from launcher.demo.session import command, welcome
from launcher.demo.tiny_model import write_tiny_model
from launcher.demo.words import KITCHEN, SEA, Theme

DEADLINE = 120.0


class Running:
    """`launcher demo`, and what it has printed so far."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{probe.getsockname()[1]}"
        self.base = f"http://{self.listen}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "demo", "--listen", self.listen, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()

    @property
    def text(self) -> str:
        with self._news:
            return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until it has printed something of the kind."""
        with self._news:
            self._news.wait_for(
                lambda: re.search(pattern, "".join(self._lines)) is not None, DEADLINE
            )
            found = re.search(pattern, "".join(self._lines))
        assert found is not None, f"no {pattern!r} in:\n{self.text}"
        return found

    def end(self) -> int:
        """Wait for its own end; the exit code."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code


@pytest.fixture
def demo() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*options: str) -> Running:
        started.append(Running(*options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.end()


def processes_about(directory: str) -> list[str]:
    """The command lines of running processes that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if directory in command:
                found.append(command)
    return found


def said(theme: Theme, text: str) -> bool:
    return bool(set(theme.objects) & set(re.findall(r"[a-z]+", text)))


def test_check_asks_both_models_and_leaves_nothing(demo: Callable[..., Running]) -> None:
    one = demo("--check")
    assert one.end() == 0, one.text
    assert said(SEA, one.wait_for(r"demo: sea says: (.+)")[1])
    assert said(KITCHEN, one.wait_for(r"demo: kitchen says: (.+)")[1])
    assert said(KITCHEN, one.wait_for(r"demo: kitchen streams \d+ pieces: (.+)")[1])
    directory = one.wait_for(r"the configuration +(\S+)/routes\.toml")[1]
    assert not Path(directory).exists()
    assert processes_about(directory) == []


def test_one_model_makes_way_for_the_other_and_ctrl_c_ends_it_all(
    demo: Callable[..., Running],
) -> None:
    one = demo()
    directory = one.wait_for(r"the configuration +(\S+)/routes\.toml")[1]
    assert processes_about(directory) == []
    assert said(SEA, visitor.ask(one.base, "sea", "hello"))
    assert [f"{directory}/sea.gguf" in line for line in processes_about(directory)] == [True]
    assert said(KITCHEN, visitor.ask(one.base, "kitchen", "hello"))
    assert [f"{directory}/kitchen.gguf" in line for line in processes_about(directory)] == [True]

    one.process.send_signal(signal.SIGINT)
    assert one.end() == 0, one.text
    assert processes_about(directory) == []
    assert not Path(directory).exists()
    # Its log tells the story: kitchen's start made sea stop.
    assert "stops sea: kitchen waits for its place" in one.text, one.text


def test_a_model_of_the_users_own(demo: Callable[..., Running], tmp_path: Path) -> None:
    mine = tmp_path / "My Model.Q4.gguf"
    write_tiny_model(mine, KITCHEN)
    one = demo("--model", str(mine), "--check")
    assert one.end() == 0, one.text
    assert said(KITCHEN, one.wait_for(r"demo: my-model-q4 says: (.+)")[1])


def test_a_port_that_is_taken_is_told(demo: Callable[..., Running]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        one = demo("--check", "--listen", f"127.0.0.1:{holder.getsockname()[1]}")
        assert one.end() != 0
    assert "in use" in one.text
    assert "Traceback" not in one.text


def test_welcome_holds_three_commands_that_can_be_pasted() -> None:
    text = welcome("http://127.0.0.1:8000", ["sea", "kitchen"], Path("/tmp/x/routes.toml"))
    assert '"model": "sea"' in text
    assert "curl -N http://127.0.0.1:8000/kitchen/v1/chat/completions" in text
    assert "status --url http://127.0.0.1:8000" in text


def test_the_command_that_it_names_exists() -> None:
    done = subprocess.run(
        [*command().split(), "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+", done.stdout)
