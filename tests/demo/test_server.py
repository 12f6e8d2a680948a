"""The demo's model server as the `process` driver runs it: a child with a port of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.demo.tiny_model import KITCHEN, SEA, Theme, write_tiny_model

DEADLINE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(model: Path, port: int) -> list[str]:
    program = [sys.executable, "-m", "launcher.demo.server"]
    options = ["--model", str(model), "--port", str(port), "--alias", "tiny", "--threads", "1"]
    return program + options


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, f"waited too long for: {what}"
        time.sleep(0.02)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(port: int, **body: object) -> urllib.request.Request:
    body = {"messages": [{"role": "user", "content": "Who are you?"}], **body}
    return urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for theme in (SEA, KITCHEN):
        write_tiny_model(directory / f"{theme.name}.gguf", theme)
    return directory


@pytest.fixture
def serve(models: Path) -> Iterator[Callable[[Theme], tuple[int, subprocess.Popen[bytes]]]]:
    children: list[subprocess.Popen[bytes]] = []

    def start(theme: Theme) -> tuple[int, subprocess.Popen[bytes]]:
        port = free_port()
        child = subprocess.Popen(
            command(models / f"{theme.name}.gguf", port), stderr=subprocess.DEVNULL
        )
        children.append(child)
        wait_for(lambda: healthy(port) or child.poll() is not None, "a healthy server")
        assert child.poll() is None
        return port, child

    yield start
    for child in children:
        child.kill()
        child.wait()


Serve = Callable[[Theme], tuple[int, "subprocess.Popen[bytes]"]]


@pytest.mark.parametrize("theme", [SEA, KITCHEN], ids=lambda theme: theme.name)
def test_it_speaks_whole_words_of_its_theme(serve: Serve, theme: Theme) -> None:
    port, _ = serve(theme)
    said: set[str] = set()
    for seed in range(3):
        with urllib.request.urlopen(ask(port, seed=seed), timeout=DEADLINE) as answer:
            whole = json.load(answer)
        text = whole["choices"][0]["message"]["content"]
        assert text.endswith(".")
        assert whole["choices"][0]["finish_reason"] == "stop"
        said.update(text.replace(".", "").split())
    assert said & set(theme.subjects)
    assert said & set(theme.objects)


def test_it_streams_and_knows_its_alias(serve: Serve) -> None:
    port, _ = serve(SEA)
    with urllib.request.urlopen(ask(port, stream=True), timeout=DEADLINE) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 5
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
        assert [model["id"] for model in json.load(answer)["data"]] == ["tiny"]


def test_sigterm_ends_it_at_once_even_while_it_streams(serve: Serve) -> None:
    port, child = serve(SEA)
    endless = ask(port, stream=True, ignore_eos=True, n_predict=-1)
    with urllib.request.urlopen(endless, timeout=DEADLINE) as answer:
        assert answer.readline().startswith(b"data: ")
        child.send_signal(signal.SIGTERM)
        assert child.wait(DEADLINE) == 0


def test_it_ends_when_its_parent_is_gone(models: Path, tmp_path: Path) -> None:
    port = free_port()
    pid_file = tmp_path / "pid"
    parent_code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen(sys.argv[2:], stderr=subprocess.DEVNULL)\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, str(pid_file), *command(models / "sea.gguf", port)],
        stdin=subprocess.PIPE,
    )
    try:
        wait_for(lambda: healthy(port), "a healthy server")
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdin is not None
        parent.stdin.close()
    wait_for(lambda: not healthy(port), "the server's end")


def test_a_model_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    ended = subprocess.run(
        command(broken, free_port()), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 1
    assert f"{broken} can't be served" in ended.stderr
