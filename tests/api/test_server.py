"""How the application is reached: socket pairs, addresses of its own, and its end."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from tests.api.world import FakeControl, a_context, answer_of, asking, until


async def test_the_peer_is_whom_the_data_path_vouches_for() -> None:
    async with asking() as here:
        for peer in ("192.0.2.7", "::1", "unix"):
            here.peer = peer
            assert (await here.get("/healthz")).status == 200
            assert here.records[-1].peer == peer
        token = here.server.peer_header("::1", "https", False)
        assert token.split(b" ", 1)[1] == b"::1 https 0"


@pytest.mark.parametrize("forged", [None, "", "x", "0 127.0.0.1 http 1", "{token} 127.0.0.1"])
async def test_nobody_operates_over_a_socket_pair_without_the_secret(forged: str | None) -> None:
    async with asking() as here, here.connected() as (reader, writer):
        token = here.server.peer_header("x", "http", True).split(b" ")[0].decode()
        header = "" if forged is None else f"X-Launcher-Peer: {forged.format(token=token)}\r\n"
        for path, status in (("/healthz", 200), ("/api/status", 404)):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
            assert (await answer_of(reader)).status == status


async def test_its_end_waits_for_what_runs_and_for_nothing_else() -> None:
    control = FakeControl()
    async with asking(a_context(control)) as here:
        async with (
            here.connected() as (idle, _),
            here.sent("POST", "/api/routes/coder/start?wait=1") as (reader, _),
        ):
            await until(lambda: control.admissions)
            closing = tasks.spawn(here.server.close(60.0), name="close")
            await asyncio.sleep(0)
            assert not closing.done()
            control.admissions[0].settle()
            assert (await answer_of(reader)).status == 200
            await closing
            assert await idle.read() == b""
    assert here.records[0].outcome == "ok"


async def test_what_runs_too_long_is_cut() -> None:
    control = FakeControl()
    async with (
        asking(a_context(control)) as here,
        here.sent("POST", "/api/routes/coder/start?wait=1") as (reader, _),
    ):
        await until(lambda: control.admissions)
        await here.server.close(0.01)
        assert await reader.read() == b""
        assert control.admissions[0].left
        (record,) = here.records
        assert (record.status, record.code, record.outcome) == (503, "draining", "cut")


async def test_a_stream_does_not_keep_it_from_ending() -> None:
    async with asking() as here, here.sent("GET", "/api/events") as (reader, _):
        await reader.readuntil(b"retry")
        here.context.journal.close()
        async with asyncio.timeout(60):
            await here.server.close(3600.0)
        assert (await reader.read()).endswith(b"0\r\n\r\n")
        assert here.records[0].outcome == "ok"


async def test_heads_are_as_long_as_the_data_path_takes_them() -> None:
    async with asking() as here:
        cookies = {f"x_{n}": "y" for n in range(300)}
        assert (await here.get("/healthz", cookie="x" * 60_000, **cookies)).status == 200


async def test_what_is_no_http_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with asking() as here, here.connected() as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    assert caplog.records == []


async def test_a_body_that_nobody_reads_is_not_decoded(caplog: pytest.LogCaptureFixture) -> None:
    async with asking() as here, here.connected() as (reader, writer):
        token = here.server.peer_header("x", "http", True).decode()
        head = f"POST /healthz HTTP/1.1\r\nHost: x\r\nX-Launcher-Peer: {token}\r\n"
        writer.write(f"{head}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n".encode())
        assert (await answer_of(reader)).status == 405
        writer.write(b"hello" + f"{head}Content-Length: 0\r\n\r\n".encode())
        assert (await answer_of(reader)).status == 405
    assert caplog.records == []
