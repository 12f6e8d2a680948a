"""The connection to an engine: versions, clock, and what becomes of each failure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launcher.drivers.engine import OUR_API, Engine, EngineRefused, agree
from launcher.errors import ConfigError, LauncherError


@pytest.mark.parametrize(
    ("theirs", "minimum", "agreed"),
    [
        ("1.41", "1.12", "v1.41"),  # engine 20.10
        ("1.44", "1.24", "v1.44"),
        ("9.99", "1.44", f"v{OUR_API[0]}.{OUR_API[1]}"),
        ("9.99", "9.50", "v9.50"),  # it has dropped ours: its oldest is the nearest
        ("", "", f"v{OUR_API[0]}.{OUR_API[1]}"),
    ],
)
def test_the_version_is_one_that_both_speak(theirs: str, minimum: str, agreed: str) -> None:
    assert agree(theirs, minimum) == agreed


@pytest.mark.parametrize("address", ["ftp://x", "box:2375", "nonsense"])
def test_an_odd_address_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match="docker_host"):
        Engine(address)


def test_addresses() -> None:
    assert Engine("/run/x.sock").address == "unix:///run/x.sock"
    assert Engine("unix:///run/x.sock").machine is None
    assert Engine("tcp://gpu-box:2375").machine == "gpu-box"
    assert Engine("tcp://127.0.0.1:2375").machine is None


class FakeDaemon:
    """Answers as told, by path without its version."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {
            "/version": (200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
            "/info": (200, {}),
        }
        self.asked: list[str] = []
        self.hang = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        self.asked.append(target)
        path = target.partition("?")[0]
        if path.startswith("/v1."):
            path = path[path.index("/", 1) :]
        status, payload = self.answers.get(path, (404, {"message": "page not found"}))
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        kind = b"text/html" if isinstance(payload, bytes) else b"application/json"
        if not self.hang:
            writer.write(
                b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
                % (status, kind, len(data))
            )
            writer.write(data)
            await writer.drain()
        else:
            await reader.read()
        writer.close()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    daemon = FakeDaemon()
    server = await asyncio.start_unix_server(daemon.serve, tmp_path / "d.sock")
    yield daemon
    server.close()
    await server.wait_closed()


@pytest.fixture
async def engine(daemon: FakeDaemon, tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(f"unix://{tmp_path}/d.sock")
    await engine.open()
    yield engine
    await engine.close()


async def test_the_agreed_version_is_in_every_path(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/version"] = (200, {"ApiVersion": "1.99", "MinAPIVersion": "1.44"})
    daemon.answers["/containers/json"] = (200, [])
    assert await engine.listed() == ()
    assert engine.api_version == f"v{OUR_API[0]}.{OUR_API[1]}"
    assert daemon.asked[0] == "/version"
    assert all(path.startswith(f"/{engine.api_version}/") for path in daemon.asked[1:])


async def test_simultaneous_first_calls_agree_once(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/containers/json"] = (200, [])
    await asyncio.gather(*(engine.listed() for _ in range(20)))
    assert daemon.asked.count("/version") == 1


async def test_after_a_failure_the_version_is_agreed_anew(
    engine: Engine, daemon: FakeDaemon
) -> None:
    daemon.answers["/containers/json"] = (200, [])
    await engine.listed()
    engine.away("it went")
    daemon.answers["/version"] = (200, {"ApiVersion": "1.45", "MinAPIVersion": "1.44"})
    await engine.listed()
    assert engine.api_version == "v1.45"


async def test_the_clock_is_the_engines(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/info"] = (200, {"SystemTime": "2001-01-01T00:00:00.5Z"})
    await engine.connect()
    assert abs(engine.now() - 978307200) < 60
    assert time.time() - engine.now() > 1e8


async def test_what_does_not_exist_is_none(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/containers/x/json"] = (404, {"message": "No such container: x"})
    assert await engine.inspect("x") is None


async def test_a_refusal_keeps_the_engines_words(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/containers/x/start"] = (500, {"message": "port is already allocated"})
    with pytest.raises(EngineRefused, match="port is already allocated") as raised:
        await engine.start("x")
    assert raised.value.status == 500


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"message": "the daemon is shutting down"}),
        (200, b"<html>some proxy</html>"),
        (502, b"<html>some proxy</html>"),
        (400, {"no": "message"}),
    ],
)
async def test_an_engine_that_cannot_tell_is_away(
    engine: Engine, daemon: FakeDaemon, answer: tuple[int, object]
) -> None:
    daemon.answers["/containers/x/json"] = answer
    with pytest.raises(LauncherError) as raised:
        await engine.inspect("x")
    assert raised.value.code == "docker_unavailable"
    assert engine.address in raised.value.message


async def test_something_else_on_the_socket(engine: Engine, daemon: FakeDaemon) -> None:
    daemon.answers["/version"] = (200, [])
    with pytest.raises(LauncherError) as raised:
        await engine.inspect("x")
    assert raised.value.code == "docker_unavailable"


async def test_every_call_has_a_deadline(
    engine: Engine, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.connect()
    daemon.hang = True
    monkeypatch.setattr("launcher.drivers.engine.READ_TIMEOUT", 0.1)
    monkeypatch.setattr("launcher.drivers.engine.START_TIMEOUT", 0.1)
    monkeypatch.setattr("launcher.drivers.engine.STOP_MARGIN", 0.1)
    for call in (
        lambda: engine.inspect("x"),
        lambda: engine.start("x"),
        lambda: engine.stop("x", 0),
        lambda: engine.kill("x"),
        lambda: engine.logs("x", tail=5, since=0),
        lambda: engine.ping(),
    ):
        engine._agreed = True
        with pytest.raises(LauncherError, match="took too long") as raised:
            await call()
        assert raised.value.code == "docker_unavailable"


async def test_a_huge_log_is_cut(
    engine: Engine, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.drivers.engine.MAX_LOG", 100_000)
    daemon.answers["/containers/x/logs"] = (200, b"x" * 5_000_000)
    found = await engine.logs("x", tail=5, since=0)
    assert 100_000 <= len(found) < 1_000_000
