"""The composition root: everything is built, and everything is let go of again."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launcher import app, logs, tasks
from launcher.config import (
    AliasConfig,
    BackendConfig,
    LauncherConfig,
    Listen,
    ModelSpec,
    RouteConfig,
)
from launcher.core.types import BackendId, BackendState
from launcher.drivers.base import ProcessSpec
from launcher.errors import ConfigError
from launcher.proxy.record import ExchangeRecord
from launcher.runtime.dispatcher import Dispatcher

BACKEND = Path(__file__).parent / "backend.py"


def config(folder: Path, **rest: object) -> LauncherConfig:
    """Two exclusive routes of local processes, on a free port."""
    names = ("a", "b")
    return LauncherConfig(
        routes=tuple(
            RouteConfig(name, (BackendId(name),), (f"/{name}",), models=(ModelSpec(name),))
            for name in names
        ),
        backends=tuple(
            BackendConfig(
                BackendId(name),
                ProcessSpec((sys.executable, str(BACKEND), "--port", "{port}")),
                needs=(("gpu", 1),),
            )
            for name in names
        ),
        listen=(Listen("127.0.0.1", 0),),
        state_file=str(folder / "state.db"),
        **rest,  # type: ignore[arg-type]
    )


async def test_requests_are_served_and_nothing_is_left(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with app.running(config(tmp_path)) as launcher:
        base = f"http://{launcher.front.addresses[0]}"
        async with aiohttp.ClientSession() as session:
            for name in ("a", "b", "a"):
                async with session.get(f"{base}/{name}/v1/models") as answer:
                    assert answer.status == 200, await answer.text()
            assert launcher.pool.open_connections == 1, "only to what is up"
    assert launcher.pool.open_connections == 0
    assert asyncio.all_tasks() == before


async def test_an_alias_goes_to_who_is_up_and_decisions_say_why(tmp_path: Path) -> None:
    aliases = (AliasConfig("any", ("a", "b")),)
    # In the order of arrival nobody lingers: who is idle makes way at once.
    built = config(tmp_path, aliases=aliases, policy="arrival")
    async with app.running(built) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.front.addresses[0]}"

        async def ask(path: str) -> Any:
            async with session.get(f"{base}{path}") as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        for model in ("any", "b", "any"):
            await ask(f"/v1/anything?model={model}")
        plan = await ask("/api/routes/a/plan")
        assert (plan["outcome"], plan["predictedWait"]["place"]) == ("waits", 1)
        assert [one["backend"] for one in plan["decisions"]] == ["b", "a"]
        assert launcher.dispatcher.state(BackendId("b")) is BackendState.READY
        told = (await ask("/api/decisions"))["decisions"]
        assert [(one["deed"], one["backend"], one["wantedBy"]) for one in reversed(told)] == [
            ("start", "a", None),
            ("stop", "a", "b"),
            ("start", "b", None),
        ]
        waits = (await ask("/stats"))["backends"]
        assert waits["b"]["predictedWait"] is None
        assert waits["a"]["predictedWait"]["waitMs"] > 0


async def test_the_next_run_knows_the_measured_times(tmp_path: Path) -> None:
    async with app.running(config(tmp_path)) as launcher:
        base = f"http://{launcher.front.addresses[0]}"
        async with aiohttp.ClientSession() as session, session.get(f"{base}/a/health"):
            pass
        async with aiohttp.ClientSession() as session, session.get(f"{base}/a/echo"):
            pass
    async with app.running(config(tmp_path)) as launcher:
        a = launcher.dispatcher.snapshot().backends[BackendId("a")]
        assert a.estimates.start is not None
        assert launcher.history.starts[BackendId("a")].count == 1
        assert a.state is BackendState.STOPPED, "local processes end with the launcher"


async def test_an_address_that_is_taken_leaves_nothing_running(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = Listen("127.0.0.1", taken.getsockname()[1])
        built = LauncherConfig(listen=(where,), state_file="")
        with pytest.raises((OSError, ConfigError)):
            async with app.running(built):
                pytest.fail("two listen at one address")
    assert asyncio.all_tasks() == before


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
            await app.serve(built)
    assert caplog.messages == []


async def test_a_signal_ends_it(tmp_path: Path) -> None:
    where: list[tuple[Listen, ...]] = []

    def ready(addresses: tuple[Listen, ...]) -> None:
        where.append(addresses)
        os.kill(os.getpid(), 15)

    async with asyncio.timeout(30):
        await app.serve(config(tmp_path), ready)
    assert where[0][0].port > 0


async def test_what_is_loaded_is_not_collected_while_it_serves(tmp_path: Path) -> None:
    before, seen = gc.get_threshold(), []

    def ready(_: tuple[Listen, ...]) -> None:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count() > 0))
        os.kill(os.getpid(), 15)

    async with asyncio.timeout(30):
        await app.serve(config(tmp_path), ready)
    assert seen == [(app.GARBAGE, True)]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


async def test_a_second_signal_ends_what_runs_and_is_an_end_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "launcher")
    told: list[ExchangeRecord] = []
    monkeypatch.setattr(logs, "log_exchange", told.append)
    where: asyncio.Future[Listen] = asyncio.get_running_loop().create_future()
    serving = tasks.spawn(
        app.serve(config(tmp_path), lambda addresses: where.set_result(addresses[0])), name="serve"
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
    assert [one.outcome for one in told] == ["cut"]
