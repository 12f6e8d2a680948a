"""Answers that go on: who may read them, for how long, and who isn't waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from launcher.api import streams
from launcher.core.types import BackendId, Snapshot
from tests.api.world import (
    CONFIG,
    FakeControl,
    FakeOutputs,
    a_context,
    answer_of,
    asking,
    chunk_of,
    head_of,
    until,
)
from tests.keyring import a_key, admin, api

LOGS = "/api/backends/chat/logs?follow=1"


class Printing(FakeOutputs):
    """A backend that prints what a test puts; None ends it."""

    def __init__(self, *batches: list[str] | None) -> None:
        super().__init__()
        self.batches: asyncio.Queue[list[str] | None] = asyncio.Queue()
        self.taken = 0
        for batch in batches:
            self.batches.put_nowait(batch)

    async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
        try:
            while (batch := await self.batches.get()) is not None:
                self.taken += 1
                yield batch
        finally:
            self.closed.append(backend)


def followed(output: Printing, **config: Any) -> Any:
    return asking(a_context(config=replace(CONFIG, **config), output=output))


async def test_each_piece_goes_out_as_it_comes_until_the_end() -> None:
    output = Printing(["one"])
    async with followed(output) as here, here.sent("GET", LOGS) as (reader, writer):
        status, headers = await head_of(reader)
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert headers["x-accel-buffering"] == "no"
        assert "content-length" not in headers
        assert await chunk_of(reader) == b"one\n"
        assert here.records == []
        for batch in (["two", "three"], None):
            output.batches.put_nowait(batch)
        assert await chunk_of(reader) == b"two\nthree\n"
        assert await chunk_of(reader) == b""
        await until(lambda: here.records)
        record = here.records[0]
        assert (record.status, record.outcome, record.response_bytes) == (200, "ok", 14)
        assert output.closed == ["chat"]
        # The connection goes on.
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer_of(reader)).status == 200


async def test_head_gets_the_head_and_nothing_is_read_for_it() -> None:
    output = Printing(["one"])
    async with followed(output) as here:
        answer = await here.ask("HEAD", LOGS)
        assert (answer.status, answer.headers["content-type"]) == (
            200,
            "text/plain; charset=utf-8",
        )
        assert output.taken == 0


async def test_a_client_that_leaves_closes_its_stream_though_nothing_comes() -> None:
    output = Printing(["one"])
    async with followed(output) as here:
        async with here.sent("GET", LOGS) as (reader, _):
            await reader.readuntil(b"one")
        await until(lambda: output.closed)
        await until(lambda: here.records)
        assert (here.records[0].status, here.records[0].outcome) == (499, "client_gone")


async def test_a_stream_goes_no_faster_than_its_client_reads() -> None:
    output = Printing(*(["x" * 65536] for _ in range(1000)))
    async with followed(output) as here, here.sent("GET", LOGS) as (reader, _):
        await reader.readexactly(1)
        before = -1
        while before != output.taken:
            before = output.taken
            await asyncio.sleep(0.2)
        assert before < 900


async def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALLED", 0.05)
    output = Printing(*(["x" * 65536] for _ in range(1000)))
    async with followed(output) as here, here.sent("GET", LOGS):
        await until(lambda: output.closed)
        await until(lambda: here.records)
        assert here.records[0].outcome == "client_gone"


@pytest.mark.parametrize("before", [True, False], ids=["behind before", "behind after"])
async def test_the_end_waits_a_moment_for_a_client_that_is_behind(
    monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(streams, "CLOSING", 0.05)
    many = [["x" * 65536] for _ in range(1000)]
    output = Printing(*(many if before else ()))
    async with followed(output) as here, here.sent("GET", LOGS) as (reader, _):
        await head_of(reader)
        if before:
            await reader.readexactly(1)
        here.server.end_streams()
        if not before:
            for batch in many:
                output.batches.put_nowait(batch)
        await until(lambda: output.closed)
        assert output.taken < 1000


async def test_a_bug_in_a_stream_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Printing):
        async def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
            yield ["one"]
            raise ZeroDivisionError

    async with followed(Broken()) as here, here.sent("GET", LOGS) as (reader, _):
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await until(lambda: here.records)
        record = here.records[0]
        assert (record.status, record.code, record.outcome) == (200, "internal_error", "cut")
    assert len(caplog.records) == 1


async def test_a_key_that_is_taken_away_ends_its_streams_and_no_others() -> None:
    keys = (*api("api"), *admin("root"))
    stays, goes = Printing(["one"]), Printing(["one"])
    outputs = {"coder": stays, "chat": goes}

    class Both(FakeOutputs):
        def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
            return outputs[backend].follow(backend, lines)

    context = a_context(config=replace(CONFIG, keys=(*keys, *admin("other"))), output=Both())
    async with (
        asking(context) as here,
        here.sent("GET", LOGS.replace("chat", "coder"), x_api_key="other") as (staying, _),
        here.sent("GET", LOGS, x_api_key="root") as (going, _),
    ):
        for reader in (staying, going):
            await head_of(reader)
            assert await chunk_of(reader) == b"one\n"
        here.server.take(context.config)
        goes.batches.put_nowait(["two"])
        assert await chunk_of(going) == b"two\n"
        # It is still a key, and no operator's any more.
        here.server.take(replace(CONFIG, keys=(*api("api"), *admin("other"), a_key("root"))))
        assert await chunk_of(going) == b""
        stays.batches.put_nowait(["two"])
        assert await chunk_of(staying) == b"two\n"
        await until(lambda: here.records)
        record = here.records[0]
        assert (record.status, record.outcome, record.response_bytes) == (200, "ok", 8)


async def test_a_stream_that_begins_after_a_reload_is_checked_by_it() -> None:
    output = Printing(["one"])
    control = FakeControl()
    config = replace(CONFIG, keys=admin("root"))
    async with asking(a_context(control, config, output=output)) as here:
        snapshot = control.snapshot

        def reload() -> Snapshot:
            here.server.take(replace(CONFIG, keys=admin("other")))
            return snapshot()

        control.snapshot = reload  # type: ignore[method-assign]
        answer = await here.get(LOGS, x_api_key="root")
        assert (answer.status, answer.body, output.taken) == (200, b"", 0)
