"""Bad input over raw sockets: a clear refusal, nothing started, nothing forwarded.

Each piece is sent twice: to a launcher whose backends are down, and to one whose backends are
up. What the backends saw is read from their own output. Behind what is doubtful as a frame
comes a second request, which nobody may answer.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.bad_input import (
    BOMBS,
    CHAT,
    CHUNKED,
    DOCUMENTS,
    DOUBTFUL,
    END,
    JSON,
    MIB,
    SMUGGLED,
    TARGETS,
    request,
)
from tests.e2e.serving import BACKEND, PATIENCE, Launcher, until


class Stage:
    """A launcher in front of two backends, and what these were asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.launcher = Launcher(folder, "".join(self._route(name) for name in ("coder", "chat")))

    def _route(self, name: str) -> str:
        program = shlex.join([sys.executable, str(BACKEND), "--port"])
        script = f"exec {program} $1 >>{shlex.quote(str(self._record(name)))}"
        command = json.dumps(["sh", "-c", script, "sh", "{port}"])
        env = f'env = {{ BACKEND_NAME = "{name}", BACKEND_LOG_REQUESTS = "1" }}'
        return f"[routes.{name}]\ncommand = {command}\nneeds = {{}}\n{env}\n"

    def _record(self, name: str) -> Path:
        return self._folder / f"{name}.record"

    def seen(self, *names: str) -> list[str]:
        """Every request line that reached a backend; the launcher's probes and our own
        questions excepted."""
        lines: list[str] = []
        for name in names or ("coder", "chat"):
            if self._record(name).exists():
                lines += self._record(name).read_text().splitlines()
        return [line for line in lines if re.match("request (?!GET /(health|stats)$)", line)]

    def starts(self) -> int:
        """How many backends have ever been started."""
        status = self.launcher.json("/api/status")
        return sum(one["start_metrics"]["start_count"] for one in status["backends"])

    def stats(self) -> dict[str, int]:
        """What /coder's backend counts."""
        found: dict[str, int] = self.launcher.json("/coder/stats")
        return found

    def wake(self) -> None:
        """Both backends are up, and what that took is in their record."""
        count = len(self.seen())
        for name in ("coder", "chat"):
            status, body = self.launcher.get(f"/{name}/echo")
            assert status == 200, body
        until(lambda: len(self.seen()) == count + 2, "the record of both")

    def connect(self) -> socket.socket:
        host, _, port = self.launcher.base.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def send(self, raw: bytes) -> Answer:
        """Send it on a connection of its own; the first answer."""
        with self.connect() as link:
            with contextlib.suppress(ConnectionError):
                # Refused before it was all sent: the answer says why.
                link.sendall(raw)
            return receive(link)


@dataclass(frozen=True)
class Answer:
    """What came back on a connection, up to the end of the first answer, or to its own end."""

    status: int
    code: str | None
    closing: bool
    """It said `Connection: close`."""
    more: bytes
    """What came behind it before the connection ended; only looked for where it closes."""


def receive(link: socket.socket) -> Answer:
    """Read one whole answer; where it ends the connection, read on to that end."""
    with link.makefile("rb") as file:
        words = file.readline().split(b" ")
        assert words[0] == b"HTTP/1.1", words
        fields = {}
        while line := file.readline().rstrip(b"\r\n"):
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        body = file.read(int(fields[b"content-length"]))
        closing = fields.get(b"connection") == b"close"
        more = b""
        if closing:
            # Not the end of a whole answer's body, but of the connection itself.
            with contextlib.suppress(ConnectionError):
                more = file.read()
    code = None
    if int(words[1]) >= 400:
        assert fields[b"content-type"] == b"application/json", fields
        error = json.loads(body)["error"]
        assert set(error) >= {"message", "type", "code", "param"}, error
        assert error["message"], error
        code = error["code"]
    return Answer(int(words[1]), code, closing, more)


@pytest.fixture(scope="module", params=["down", "up"])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("bad-input"))
    with made.launcher:
        if request.param == "up":
            made.wake()
        yield made


@contextlib.contextmanager
def untouched(stage: Stage) -> Iterator[None]:
    """Nothing is started meanwhile, nothing reaches a backend, nobody is left waiting."""
    before = stage.starts(), stage.seen()
    yield
    status = stage.launcher.json("/api/status")
    held = {one["backend"]: one["in_flight"] + one["queued"] for one in status["backends"]}
    assert held == {"coder": 0, "chat": 0}
    assert (stage.starts(), stage.seen()) == before


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_doubtful_frame_is_the_last_of_its_connection(stage: Stage, name: str) -> None:
    with untouched(stage):
        answer = stage.send(DOUBTFUL[name] + SMUGGLED)
        assert answer.code in ("bad_request", "not_implemented"), answer
        assert answer.status == (400 if answer.code == "bad_request" else 501)
        assert answer.closing
        assert answer.more == b""


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_bomb_is_refused_before_it_is_held(stage: Stage, name: str) -> None:
    before = stage.launcher.memory()
    with untouched(stage):
        answer = stage.send(BOMBS[name])
        assert (answer.status, answer.code) == (431, "headers_too_large")
        assert answer.closing
        assert answer.more == b""
    assert stage.launcher.memory() - before < 8 * MIB


@pytest.mark.parametrize("target", TARGETS)
def test_a_path_beside_a_route_leads_nowhere(stage: Stage, target: bytes) -> None:
    with untouched(stage):
        answer = stage.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert (answer.status, answer.code) == TARGETS[target]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_body_without_a_usable_model_wakes_nobody(stage: Stage, name: str) -> None:
    raw, status, code = DOCUMENTS[name]
    with untouched(stage):
        answer = stage.send(raw)
        assert answer.status == status, answer
        assert code in ("*", answer.code), answer


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_of_65_mib_is_refused(stage: Stage, chunked: bool) -> None:
    size = 65 * MIB
    start = b'{"model": "coder", "x": "'
    if chunked:
        piece = b"100000\r\n" + b"x" * MIB + b"\r\n"
        raw = request(JSON, CHUNKED, body=b"%x\r\n%b\r\n" % (len(start), start), line=CHAT)
        raw += piece * 65 + END
    else:
        raw = request(JSON, b"Content-Length: %d" % size, body=start, line=CHAT)
        raw += b"x" * (size - len(start))
    with untouched(stage):
        answer = stage.send(raw + SMUGGLED)
        assert (answer.status, answer.code, answer.closing) == (413, "body_too_large", True)
        assert answer.more == b""


def test_a_chunk_that_turns_out_malformed_ends_both_connections(stage: Stage) -> None:
    """The head has gone on by then; its backend must not take what came for a whole request."""
    stage.wake()
    before = stage.seen("coder"), stage.stats()
    with stage.connect() as link:
        link.sendall(request(CHUNKED, body=b"5\r\nhello\r\n", line=b"POST /coder/upload"))
        until(lambda: stage.stats()["uploaded"] == before[1]["uploaded"] + 5, "its good part")
        link.sendall(b"5\r\nhello\r0\r\n\r\n" + SMUGGLED)
        answer = receive(link)
    assert (answer.status, answer.code, answer.closing) == (400, "bad_request", True)
    assert answer.more == b""
    until(lambda: stage.stats()["aborted"] == before[1]["aborted"] + 1, "its backend is told")
    assert stage.seen("coder") == [*before[0], "request POST /upload"]


def test_a_trailer_is_nobodys_header(stage: Stage) -> None:
    """Behind a proxy the next request of the connection may be another client's."""
    stage.wake()
    before = stage.seen()
    body = b"5\r\nhello\r\n0\r\nX-First: 1\r\nAuthorization: Bearer stolen\r\n\r\n"
    line = b"POST /chat/echo"
    answer = stage.send(request(CHUNKED, body=body, line=line) + SMUGGLED)
    assert (answer.status, answer.closing) == (200, False)
    # The next request of the connection is answered, and has none of them.
    assert b"stolen" not in answer.more
    assert b"x-first" not in answer.more.lower()
    assert stage.seen().count("request POST /echo") == before.count("request POST /echo") + 1
