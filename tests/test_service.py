"""A launcher as a process: its signals, its reloads, its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launcher import service, tasks
from launcher.app import App
from launcher.config import LauncherConfig, Listen
from launcher.core.types import BackendId
from launcher.errors import ConfigError
from launcher.runtime.dispatcher import Dispatcher
from launcher.telemetry import exchanges
from launcher.telemetry.record import ExchangeRecord
from tests.test_app import config


async def test_an_address_that_is_taken_starts_nothing_and_says_nothing_of_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(dispatcher: Dispatcher) -> None:
        pytest.fail("it lists, cleans up and prewarms")

    monkeypatch.setattr(Dispatcher, "open", never)
    caplog.set_level(logging.INFO, "launcher")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = Listen("127.0.0.1", taken.getsockname()[1])
        built = replace(config(tmp_path, prewarm=(BackendId("a"),)), listen=(where,))
        with pytest.raises(ConfigError, match="it is in use"):
            await service.serve(built)
    assert caplog.messages == []


async def test_a_signal_ends_it(tmp_path: Path) -> None:
    where: list[tuple[Listen, ...]] = []

    def ready(addresses: tuple[Listen, ...]) -> None:
        where.append(addresses)
        os.kill(os.getpid(), 15)

    async with asyncio.timeout(30):
        await service.serve(config(tmp_path), ready)
    assert where[0][0].port > 0


async def test_what_is_loaded_is_not_collected_while_it_serves(tmp_path: Path) -> None:
    before, seen = gc.get_threshold(), []

    def ready(_: tuple[Listen, ...]) -> None:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count() > 0))
        os.kill(os.getpid(), 15)

    async with asyncio.timeout(30):
        await service.serve(config(tmp_path), ready)
    assert seen == [(service.GARBAGE, True)]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


async def test_a_second_signal_ends_what_runs_and_is_an_end_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "launcher")
    logged: list[ExchangeRecord] = []
    monkeypatch.setattr(exchanges, "log_exchanges", logged.extend)
    where: asyncio.Future[Listen] = asyncio.get_running_loop().create_future()
    serving = tasks.spawn(
        service.serve(config(tmp_path), lambda addresses: where.set_result(addresses[0])),
        name="serve",
    )
    asked = {"stream": True, "x_tokens": 1000, "x_delay": 0.1}
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        url = f"http://{await where}/a/v1/chat/completions"
        async with session.post(url, json=asked) as answer:
            await answer.content.readline()
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0.1)
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
    assert caplog.messages[-1] == "launcher has ended"
    assert [one.outcome for one in logged] == ["cut"]


class File:
    """A configuration as it is read, again and again."""

    def __init__(self, config: LauncherConfig) -> None:
        self.config: LauncherConfig | ConfigError = config
        self.reads = 0
        self.reading, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def load(self) -> LauncherConfig:
        self.reads += 1
        found = self.config
        self.reading.set()
        assert self.may_end.wait(30)
        if isinstance(found, ConfigError):
            raise found
        return found


async def reloading(file: File, told: Told, **more: Any) -> asyncio.Task[None]:
    """It serves; what it says of reloads is in `told`."""
    assert isinstance(file.config, LauncherConfig)
    ready = asyncio.Event()
    serving = tasks.spawn(
        service.serve(file.config, lambda _: ready.set(), load=file.load, **more), name="serve"
    )
    await asyncio.wait_for(ready.wait(), 30)
    told.clear()
    return serving


class Told(logging.Handler):
    """What was logged about reloads."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def clear(self) -> None:
        self.lines.clear()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(self.lines) < count:  # noqa: ASYNC110 - the log has no event to offer
                await asyncio.sleep(0.01)
        return self.lines


@pytest.fixture
def told() -> Iterator[Told]:
    handler, log = Told(), logging.getLogger("launcher.config.reload")
    before, level = log.handlers[:], log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.handlers[:] = before
    log.setLevel(level)


async def end(serving: asyncio.Task[None]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(30):
        await serving


async def test_sighup_reloads(tmp_path: Path, told: Told) -> None:
    file = File(config(tmp_path))
    serving = await reloading(file, told)
    assert isinstance(file.config, LauncherConfig)
    before, file.config = file.config, ConfigError(["it is wrong"])
    os.kill(os.getpid(), signal.SIGHUP)
    assert await told.until(1) == ["reload (SIGHUP): nothing was changed: 1 problem"]
    file.config = replace(before, max_body=1)
    os.kill(os.getpid(), signal.SIGHUP)
    assert (await told.until(2))[1].endswith(" ms: changed max_body")
    await end(serving)


async def test_sighup_during_a_reload_is_one_more(tmp_path: Path, told: Told) -> None:
    file = File(config(tmp_path))
    serving = await reloading(file, told)
    assert isinstance(file.config, LauncherConfig)
    file.may_end.clear()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.to_thread(file.reading.wait, 30)
    file.config = replace(file.config, max_body=1)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
    file.may_end.set()
    lines = await told.until(2)
    assert lines[0].endswith(" ms: nothing has changed")
    assert lines[1].endswith(" ms: changed max_body")
    await end(serving)
    assert file.reads == 2


async def test_a_reload_under_way_does_not_keep_it_from_ending(tmp_path: Path, told: Told) -> None:
    file = File(config(tmp_path))
    serving = await reloading(file, told)
    file.may_end.clear()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.to_thread(file.reading.wait, 30)
    await end(serving)
    file.may_end.set()
    assert told.lines == []


async def test_a_fault_of_a_reload_is_not_the_end_of_reloads(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = File(config(tmp_path))
    serving = await reloading(file, told)
    with monkeypatch.context() as patched:
        patched.setattr(App, "take", lambda *_: 1 / 0)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(30):
            while "a reload (SIGHUP) failed" not in caplog.messages:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGHUP)
    assert (await told.until(1))[0].endswith(" ms: nothing has changed")
    await end(serving)


async def test_a_watched_file_that_changes_is_read_again(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.config.reload.POLL_INTERVAL", 0.01)
    watched = tmp_path / "routes.toml"
    watched.write_text("one")
    file = File(config(tmp_path))
    serving = await reloading(file, told, watched=lambda: (str(watched),))
    assert isinstance(file.config, LauncherConfig)
    file.config = replace(file.config, max_body=1)
    new = tmp_path / "new"
    new.write_text("two")
    await asyncio.sleep(0.1)
    new.replace(watched)
    (line,) = await told.until(1)
    assert line.startswith("reload (a file has changed) in ")
    assert line.endswith(" ms: changed max_body")
    await end(serving)


async def test_an_ignored_sighup_stays_ignored(tmp_path: Path, told: Told) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        file = File(config(tmp_path))
        serving = await reloading(file, told)
        os.kill(os.getpid(), signal.SIGHUP)
        await end(serving)
        assert file.reads == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
