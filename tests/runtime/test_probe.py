"""Readiness against real sockets."""

from __future__ import annotations

import asyncio

import pytest

from launcher.config import BackendConfig, Health, Secret
from launcher.core.types import BackendId, Failure
from launcher.drivers.base import ContainerSpec
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime import probe
from launcher.runtime.probe import Prober, Seen, Verdict, first_ready
from tests.runtime.awkward import awkward, body, nobody
from tests.runtime.waiting import eventually

PATIENCE = 30.0


def config(kind: str = "http", key: str | None = None) -> BackendConfig:
    return BackendConfig(
        id=BackendId("coder"),
        driver=ContainerSpec("coder", 8000),
        health=Health(kind, "/health"),  # type: ignore[arg-type]
        backend_key=None if key is None else Secret(key),
    )


async def ask(endpoint: Endpoint, kind: str = "http", key: str | None = None) -> Verdict:
    return await Prober().probe(config(kind, key), endpoint)


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"299 Odd"])
async def test_any_2xx_is_ready(status: bytes) -> None:
    async with awkward(b"HTTP/1.1 %s\r\n\r\n" % status) as server:
        verdict = await ask(server.endpoint)
        assert verdict.ready
        assert server.headers[0] == b"GET /health HTTP/1.1"


@pytest.mark.parametrize("status", [b"302 Found", b"404 Not Found", b"503 Loading"])
async def test_anything_else_is_not_yet(status: bytes) -> None:
    async with awkward(body(b"", status)) as server:
        verdict = await ask(server.endpoint)
        assert (verdict.ready, verdict.answered, verdict.fatal) == (False, True, None)
        assert f"answered {status[:3].decode()}" in verdict.seen


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
async def test_a_key_that_is_refused_is_fatal_and_named(status: bytes) -> None:
    async with awkward(body(b"", status)) as server:
        for key in (None, "s3cret"):
            verdict = await ask(server.endpoint, key=key)
            assert verdict.fatal is not None
            assert "backend_key" in verdict.fatal.message
            assert "s3cret" not in verdict.fatal.message


async def test_the_key_goes_with_the_probe() -> None:
    async with awkward() as server:
        await ask(server.endpoint, key="s3cret")
        assert b"Authorization: Bearer s3cret" in server.headers
        await ask(server.endpoint)
        assert not [line for line in server.headers if line.startswith(b"Authorization")]


async def test_refused_and_closed_and_silent_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 0.3)
    refused = await ask(await nobody())
    assert (refused.ready, refused.answered, refused.silent) == (False, False, False)
    async with awkward(b"") as server:
        closed = await ask(server.endpoint)
        assert (closed.answered, closed.silent) == (False, False)
        server.closes = False
        silent = await ask(server.endpoint)
        assert (silent.answered, silent.silent) == (False, True)
    assert len({refused.seen, closed.seen, silent.seen}) == 3


@pytest.mark.parametrize("kind", ["tcp", "docker"])
async def test_a_connection_has_to_stay_open(kind: str) -> None:
    assert not (await ask(await nobody(), kind)).ready
    async with awkward(b"") as server:
        server.reads = False
        assert not (await ask(server.endpoint, kind)).ready  # closed at once, like docker-proxy
        server.closes = False
        assert (await ask(server.endpoint, kind)).ready
        server.says = b"220 hello\r\n"
        assert (await ask(server.endpoint, kind)).ready


async def find(*endpoints: Endpoint, seen: Seen | None = None) -> Endpoint | Failure:
    async def candidates() -> tuple[Endpoint, ...]:
        return endpoints

    awaited = asyncio.Event()
    awaited.set()
    async with asyncio.timeout(PATIENCE):
        return await first_ready(Prober(), config(), candidates, awaited, seen or Seen())


async def test_the_candidate_that_answers_wins() -> None:
    async with awkward() as good, awkward(b"") as silent:
        silent.closes = False
        assert await find(await nobody(), silent.endpoint, good.endpoint) == good.endpoint


async def test_it_waits_until_one_is_ready() -> None:
    seen = Seen()
    async with awkward(body(b"", b"503 Loading")) as server:

        async def become_ready() -> None:
            await eventually(lambda: len(server.asked) >= 5)
            assert "answered 503" in seen.last
            server.says = body(b"ok")

        found, _ = await asyncio.gather(find(server.endpoint, seen=seen), become_ready())
        assert found == server.endpoint
        assert len(server.asked) >= 6


async def test_what_is_fatal_ends_the_search() -> None:
    async with awkward(body(b"", b"401 No")) as server:
        found = await find(await nobody(), server.endpoint)
        assert isinstance(found, Failure)


async def test_candidates_are_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CANDIDATES_EVERY", 0.05)
    monkeypatch.setattr(probe, "PACE_ALONE", 0.05)
    async with awkward() as server:
        dead = await nobody()
        calls = 0

        async def candidates() -> tuple[Endpoint, ...]:
            nonlocal calls
            calls += 1
            if calls == 1:
                return ()
            if calls == 2:
                raise LauncherError("docker_unavailable", "away")
            return (dead,) if calls < 5 else (dead, server.endpoint)

        async with asyncio.timeout(PATIENCE):
            found = await first_ready(Prober(), config(), candidates, asyncio.Event(), Seen())
        assert found == server.endpoint
