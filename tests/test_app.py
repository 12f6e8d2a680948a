"""The composition root: everything is built, and everything is let go of again."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launcher import app, tasks
from launcher.api.endpoint import Context
from launcher.auth.meters import Meter
from launcher.config import (
    AliasConfig,
    BackendConfig,
    LauncherConfig,
    Listen,
    ModelSpec,
    RouteConfig,
)
from launcher.core.backend import Backend
from launcher.core.types import BackendId, BackendState
from launcher.drivers.base import ProcessSpec
from launcher.errors import ConfigError
from launcher.proxy import waiting
from launcher.runtime.handle import BackendHandle
from launcher.telemetry.timeline import BackendTimeline
from tests.keyring import admin, api

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
        base = f"http://{launcher.server.addresses[0]}"
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
        base = f"http://{launcher.server.addresses[0]}"

        async def ask(path: str) -> Any:
            async with session.get(f"{base}{path}") as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        for model in ("any", "b", "any"):
            await ask(f"/v1/anything?model={model}")
        plan = await ask("/api/routes/a/plan")
        assert (plan["outcome"], plan["predicted_wait"]["place"]) == ("waits", 1)
        assert [one["backend"] for one in plan["decisions"]] == ["b", "a"]
        assert launcher.dispatcher.state(BackendId("b")) is BackendState.READY
        told = (await ask("/api/decisions"))["decisions"]
        assert [(one["action"], one["backend"], one["wanted_by"]) for one in reversed(told)] == [
            ("start", "a", None),
            ("stop", "a", "b"),
            ("start", "b", None),
        ]
        waits = (await ask("/stats"))["backends"]
        assert waits["b"]["predicted_wait"] is None
        assert waits["a"]["predicted_wait"]["wait_ms"] > 0


async def test_the_next_run_knows_the_measured_times(tmp_path: Path) -> None:
    async with app.running(config(tmp_path)) as launcher:
        base = f"http://{launcher.server.addresses[0]}"
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


def changed(config: LauncherConfig, **backend: Any) -> LauncherConfig:
    """Another configuration of the first backend."""
    first, *others = config.backends
    return replace(config, backends=(replace(first, **backend), *others))


async def test_another_configuration_holds_for_the_next_request(tmp_path: Path) -> None:
    before = config(tmp_path)
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"

        async def ask(path: str, key: str = "") -> int:
            headers = {"X-API-Key": key} if key else {}
            async with session.get(f"{base}{path}", headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await ask("/a/v1/models") == 200
        assert await ask("/c/v1/models") == 404
        c = RouteConfig("c", (BackendId("a"),), ("/c",), models=(ModelSpec("c"),))
        after = replace(
            changed(before, idle_timeout=7.0),
            routes=(before.routes[0], c),
            backends=before.backends[:1],
        )
        launcher.take(replace(after, max_buffered=5))
        assert launcher.config.max_buffered == launcher.budget.limit == 5
        # On the connection that is open already.
        assert (await ask("/a/v1/models"), await ask("/c/v1/models")) == (200, 200)
        assert await ask("/b/v1/models") == 404
        assert await ask("/v1/models?model=c") == 200
        assert launcher.dispatcher.snapshot().backends.keys() == {"a"}
        assert launcher.history.starts[BackendId("a")].count == 1
        launcher.take(replace(after, keys=api("sk-new")))
        assert (await ask("/a/v1/models"), await ask("/a/v1/models", "sk-new")) == (401, 200)
        metrics = (await launcher.metrics.render()).decode()
        assert 'route="c"' in metrics
        assert 'route="b"' not in metrics
        assert launcher.history.starts[BackendId("a")].count == 1, "nothing was started again"


async def test_a_key_that_is_taken_away_opens_nothing_any_more(tmp_path: Path) -> None:
    # With a key for operators: else who is on this machine needs none to look.
    others = (*api("sk-stays"), *admin("sk-root"))
    before = config(tmp_path, keys=others)
    (key,) = api("sk-goes")
    limited = replace(before, keys=(replace(key, max_in_flight=1), *others))
    goes = {"X-API-Key": "sk-goes"}
    async with app.running(limited) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 100, "x_delay": 0.02}
        async with (
            session.get(f"{base}/api/events", headers=goes) as followed,
            session.get(f"{base}/api/events", headers={"X-API-Key": "sk-stays"}) as stays,
            session.post(f"{base}/a/v1/chat/completions", json=asked, headers=goes) as answer,
        ):
            await answer.content.readline()
            launcher.take(before)
            async with asyncio.timeout(30):
                assert "retry: " in await followed.text()
            async with session.get(f"{base}/api/events", headers=goes) as late:
                assert late.status == 403
            # It is back while what it has under way is still served: that counts on.
            launcher.take(limited)
            async with session.get(f"{base}/a/v1/models", headers=goes) as second:
                assert second.status == 429
            assert (await answer.text()).rstrip().endswith("data: [DONE]")
            async with asyncio.timeout(30):
                while b'"released"' not in await stays.content.readline():
                    assert not stays.content.at_eof()


async def test_a_stream_goes_on_on_what_is_no_longer_configured(tmp_path: Path) -> None:
    before = config(tmp_path)
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 50, "x_delay": 0.02}
        async with session.post(f"{base}/a/v1/chat/completions", json=asked) as answer:
            await answer.content.readline()
            launcher.take(replace(before, routes=before.routes[1:], backends=before.backends[1:]))
            assert launcher.leaving().keys() == {"a"}
            async with session.get(f"{base}/a/v1/models") as late:
                assert late.status == 404
            text = await answer.text()
        assert text.rstrip().endswith("data: [DONE]")
        # The other one waits for its place.
        async with session.get(f"{base}/b/v1/models") as answer:
            assert answer.status == 200
        assert launcher.leaving() == {}


async def test_requests_wait_for_what_is_replaced(tmp_path: Path) -> None:
    before = config(tmp_path)
    driver = before.backends[0].driver
    assert isinstance(driver, ProcessSpec)
    other = replace(driver, env=(("BACKEND_NAME", "other"),))
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 50, "x_delay": 0.02}
        async with session.post(f"{base}/a/v1/chat/completions", json=asked) as answer:
            await answer.content.readline()
            launcher.take(changed(before, driver=other))
            waiting = [
                tasks.spawn(_text(session, f"{base}/a/v1/models"), name="wait") for _ in range(5)
            ]
            await answer.read()
        for one in waiting:
            assert '"other"' in await one
        assert launcher.history.starts[BackendId("a")].count == 2


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_a_thousand_configurations_leave_nothing_behind(tmp_path: Path) -> None:
    before = config(tmp_path)

    def alive() -> dict[str, int]:
        gc.collect()
        kinds = (Context, BackendHandle, Backend, Meter, BackendTimeline)
        found = Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))
        return dict(found)

    async with app.running(before) as launcher:
        at_rest = asyncio.all_tasks()
        for number in range(1001):
            name = f"c{number}"
            one = BackendConfig(BackendId(name), ProcessSpec(("true",)), needs=())
            route = RouteConfig(name, (one.id,), (f"/{name}",))
            launcher.take(
                replace(
                    before,
                    routes=(*before.routes, route),
                    backends=(*before.backends, one),
                    keys=api(f"sk-{number}"),
                )
            )
            if number == 0:
                first = alive()
            if number % 20 == 0:
                await asyncio.sleep(0)
        launcher.take(before)
        async with asyncio.timeout(30):
            while (  # noqa: ASYNC110 - nobody tells when all of them are gone
                len(launcher.dispatcher.snapshot().backends) > 2 or asyncio.all_tasks() - at_rest
            ):
                await asyncio.sleep(0.01)
        last = alive()
        assert {name: count for name, count in last.items() if count > first[name]} == {}


def a_certificate(path: Path) -> str:
    """A new key and its certificate, in one file; the path."""
    made = subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout - -out -".split(),
        check=True,
        capture_output=True,
    )
    path.write_bytes(made.stdout)
    return str(path)


async def test_a_certificate_is_renewed(tmp_path: Path) -> None:
    def trusting(path: str) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=path)

    one = a_certificate(tmp_path / "one.pem")
    other = a_certificate(tmp_path / "other.pem")
    before = replace(config(tmp_path), tls_cert=one, tls_key=one)
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        url = f"https://localhost:{launcher.server.addresses[0].port}/healthz"

        async def answered(trusted: ssl.SSLContext) -> int:
            headers = {"Connection": "close"}
            async with session.get(url, ssl=trusted, headers=headers) as answer:
                return answer.status

        first, second = trusting(one), trusting(other)
        assert await answered(first) == 200
        launcher.take(replace(before, tls_cert=other, tls_key=other))
        assert await answered(second) == 200
        with pytest.raises(aiohttp.ClientSSLError):
            await answered(first)
        bad = replace(before, tls_cert=one, tls_key=other, max_buffered=7)
        with pytest.raises(ConfigError, match=r"\[launcher\] tls_cert: "):
            launcher.take(bad)
        assert await answered(second) == 200
        assert launcher.budget.limit != 7, "nothing was changed"


async def somebody_waits(launcher: app.App, backend: BackendId) -> None:
    async with asyncio.timeout(30):
        while not launcher.dispatcher.snapshot().backends[backend].queued:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def led_elsewhere(before: LauncherConfig) -> LauncherConfig:
    """The route of `a` leads to another backend, which calls itself `sea`; `a` is gone."""
    driver = before.backends[0].driver
    assert isinstance(driver, ProcessSpec)
    c = replace(
        before.backends[0],
        id=BackendId("c"),
        driver=replace(driver, env=(("BACKEND_NAME", "sea"),)),
    )
    moved = replace(before.routes[0], backends=(c.id,))
    return replace(before, routes=(moved, before.routes[1]), backends=(c, before.backends[1]))


@pytest.mark.parametrize("where", ["/a/v1/chat/completions", "/v1/chat/completions"])
async def test_who_waits_goes_to_where_the_route_leads_now(tmp_path: Path, where: str) -> None:
    before = config(tmp_path)
    after = led_elsewhere(before)
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 50, "x_delay": 0.02}
        async with session.post(f"{base}/b/v1/chat/completions", json=asked) as stream:
            await stream.content.readline()
            waits = tasks.spawn(
                _posted(session, f"{base}{where}", {"model": "a", "messages": []}), name="wait"
            )
            await somebody_waits(launcher, BackendId("a"))
            launcher.take(after)
            assert not waits.done()
            await stream.read()
        assert "sea-0" in await waits


async def test_a_browser_that_waits_does_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config(tmp_path)
    browser = {"Accept": "text/html"}
    page = {**browser, "X-Launcher-Waiting": "1"}
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 100, "x_delay": 0.02}

        async def opened() -> tuple[int, str]:
            async with session.get(f"{base}/a/v1/models", headers=browser) as answer:
                return answer.status, await answer.text()

        async with session.post(f"{base}/b/v1/chat/completions", json=asked) as stream:
            await stream.content.readline()
            assert (await opened())[0] == 202
            async with session.get(f"{base}/a/v1/models", headers=page) as followed:
                await followed.content.readline()
                monkeypatch.setattr(waiting, "SHORT", 60.0)
                launcher.take(led_elsewhere(before))
                told = (await followed.text()).splitlines()
            # It is to open the page again, and has its place in the queue of the new one.
            assert told[-1] == '{"ready":true}'
            again = tasks.spawn(opened(), name="open it again")
            await somebody_waits(launcher, BackendId("c"))
            # Who has just come is sent on without a page in between.
            launcher.take(before)
            await somebody_waits(launcher, BackendId("a"))
            launcher.take(led_elsewhere(before))
            await stream.read()
        status, text = await again
        assert (status, "sea" in text) == (200, True)


async def _posted(session: aiohttp.ClientSession, url: str, body: object) -> str:
    async with session.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_who_waits_for_what_is_nowhere_now_is_told(tmp_path: Path) -> None:
    before = config(tmp_path)
    async with app.running(before) as launcher, aiohttp.ClientSession() as session:
        base = f"http://{launcher.server.addresses[0]}"
        asked = {"stream": True, "x_tokens": 50, "x_delay": 0.02}
        async with session.post(f"{base}/b/v1/chat/completions", json=asked) as stream:
            await stream.content.readline()
            waits = tasks.spawn(_status(session, f"{base}/a/v1/models"), name="wait")
            await somebody_waits(launcher, BackendId("a"))
            launcher.take(replace(before, routes=before.routes[1:], backends=before.backends[1:]))
            assert await waits == (503, "backend_stopped")
            assert (await stream.text()).rstrip().endswith("data: [DONE]")


async def _status(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, (await answer.json())["error"]["code"]
