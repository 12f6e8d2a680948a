"""The demo as a newcomer runs it: the command, in a process of its own."""

from __future__ import annotations

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import launcher.demo
from launcher.config import RESERVED
from launcher.config.load import load_config
from launcher.demo import session
from launcher.demo.session import DemoModel, command, route_names, routes_toml, welcome
from launcher.demo.tiny_model import KITCHEN, SEA, Theme, write_tiny_model
from launcher.drivers.base import ProcessSpec

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
    assert said(SEA, session.ask(one.base, "sea", "hello"))
    assert [f"{directory}/sea.gguf" in line for line in processes_about(directory)] == [True]
    assert said(KITCHEN, session.ask(one.base, "kitchen", "hello"))
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


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("sea.gguf", "sea"),
        ("Qwen2.5-7B-Instruct_Q4_K_M.gguf", "qwen2-5-7b-instruct-q4-k-m"),
        ("日本.gguf", "model"),
        ("v1.gguf", "v1-model"),
    ],
)
def test_a_route_is_named_after_the_file(file: str, name: str) -> None:
    assert route_names([Path("/models", file)]) == (name,)
    assert name not in RESERVED


def test_files_of_one_name_get_routes_of_their_own() -> None:
    paths = [Path("/a/x.gguf"), Path("/b/x.gguf"), Path("/c/x.gguf")]
    assert route_names(paths) == ("x", "x-2", "x-3")


@pytest.mark.parametrize("directory", ["/plain", '/with "quotes" and \\', "/with ${HOME} and $x"])
def test_what_it_writes_is_read_back_as_meant(tmp_path: Path, directory: str) -> None:
    models = [
        DemoModel("one", Path(directory, "one.gguf"), ("--threads", "1")),
        DemoModel("two", Path(directory, "two.gguf")),
    ]
    file = tmp_path / "routes.toml"
    file.write_text(routes_toml("127.0.0.1:8123", models))
    tomllib.loads(file.read_text())

    config = load_config(str(file), {})
    assert [str(listen) for listen in config.listen] == ["127.0.0.1:8123"]
    assert config.warnings == ()
    assert [route.name for route in config.routes] == ["one", "two"]
    assert [model.id for route in config.routes for model in route.models] == ["one", "two"]
    for backend, model in zip(config.backends, models, strict=True):
        assert backend.needs is None  # all of the capacity: one at a time
        assert isinstance(backend.driver, ProcessSpec)
        command = list(backend.driver.command)
        assert command[command.index("--model") + 1] == str(model.path)
        assert command[command.index("--port") + 1] == "{port}"
        assert command[command.index("--alias") + 1] == model.name
        assert command[len(command) - len(model.options) :] == list(model.options)


ANSWERS = {
    "/openai/v1/chat/completions": (200, b'{"choices": [{"message": {"content": "the sea"}}]}'),
    "/good/v1/chat/completions": (
        200,
        b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
        b': a comment\n\ndata: {"choices": [{"delta": {"content": "the"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": " sea"}}]}\n\ndata: {"choices": []}\n\n'
        b"data: [DONE]\n\n",
    ),
    "/cut/v1/chat/completions": (200, b'data: {"choices": [{"delta": {"content": "the"}}]}\n\n'),
    "/bad/v1/chat/completions": (503, b'{"error": {"code": "queue_full"}}'),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = ANSWERS.get(self.path, (404, b"nothing here"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_asks_by_model(base: str) -> None:
    assert session.ask(base, "sea", "hello") == "the sea"


def test_it_hears_the_pieces_of_a_stream(base: str) -> None:
    assert session.ask_streaming(base, "good", "hello") == ["the", " sea"]


@pytest.mark.parametrize(
    ("route", "told"), [("cut", "no end"), ("bad", "queue_full"), ("none", "404")]
)
def test_what_goes_wrong_is_told(base: str, route: str, told: str) -> None:
    with pytest.raises(session.NoAnswer, match=told):
        session.ask_streaming(base, route, "hello")


def test_nobody_there_is_told() -> None:
    with pytest.raises(session.NoAnswer, match="refused"):
        session.ask("http://127.0.0.1:1", "sea", "hello")


def test_without_its_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher.demo, "NEEDED", ("numpy", "no_such_package"))
    assert launcher.demo.run() == 2
    told = capsys.readouterr().err
    assert "no_such_package" in told
    assert "numpy" not in told
    assert "pip install 'lazy-launcher[demo]'" in told


def test_importing_it_is_cheap() -> None:
    """The model servers import the package too, at each of their starts."""
    code = "import sys, launcher.demo; print(sorted({'numpy', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
