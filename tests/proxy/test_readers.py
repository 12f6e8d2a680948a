"""Answers that go on: who may read them, for how long, and who isn't waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from launcher.http.errors import ClientDisconnected
from launcher.proxy import readers
from launcher.proxy.readers import Readers, Right
from tests.http.serving import until
from tests.keyring import a_key, admin, api
from tests.proxy.fake_exchange import FakeExchange, request
from tests.proxy.house import a_config, get, house

RIGHT = Right(request(), "observe", details=False)


class Source:
    """Pieces as a test puts them; `closed` when nobody reads them any more."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        for piece in pieces:
            self.pieces.put_nowait(piece)
        self.closed = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            while (piece := await self.pieces.get()) is not None:
                yield piece
        finally:
            self.closed = True


async def test_to_the_end() -> None:
    exchange, source = FakeExchange(), Source(b"one", b"two")
    source.pieces.put_nowait(None)
    assert await Readers().send(exchange, (), source.read(), RIGHT) == 6
    assert (exchange.status, exchange.body, exchange.finished) == (200, b"onetwo", True)
    assert source.closed


async def test_head_is_told_and_given_nothing() -> None:
    exchange, source = FakeExchange(request("HEAD")), Source(b"one")
    assert await Readers().send(exchange, (), source.read(), RIGHT) == 0
    assert (exchange.status, exchange.body, exchange.finished) == (200, b"", True)


async def test_who_may_no_longer_reads_no_further_and_the_others_go_on() -> None:
    all_readers = Readers()
    stays, goes = FakeExchange(), FakeExchange()
    sources = Source(b"one"), Source(b"one")
    rights = RIGHT, RIGHT._replace(need="admin")
    async with asyncio.TaskGroup() as group:
        for exchange, source, right in zip((stays, goes), sources, rights, strict=True):
            group.create_task(all_readers.send(exchange, (), source.read(), right))
        await until(lambda: [stays.body, goes.body] == [b"one", b"one"])
        all_readers.recheck(lambda right: right.need == "observe")
        await until(lambda: goes.finished)
        for source in sources:
            source.pieces.put_nowait(b"two")
        await until(lambda: stays.body == b"onetwo")
        assert goes.body == b"one"
        assert sources[1].closed
        sources[0].pieces.put_nowait(None)
    # Whoever comes by what was so before: as if they had been there.
    late, source = FakeExchange(), Source(b"one")
    assert await all_readers.send(late, (), source.read(), rights[1]) == 0
    assert late.finished


async def test_who_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "STALLED", 0.05)
    exchange, source = FakeExchange(), Source(b"one")
    exchange.open.clear()
    with pytest.raises(ClientDisconnected):
        await Readers().send(exchange, (), source.read(), RIGHT)
    assert source.closed


@pytest.mark.parametrize("behind", [True, False])
async def test_the_end_waits_a_moment_for_who_is_behind(
    monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    monkeypatch.setattr(readers, "PARTING", 0.05)
    all_readers, exchange, source = Readers(), FakeExchange(), Source(b"one")
    if behind:
        exchange.open.clear()
    reading = asyncio.ensure_future(all_readers.send(exchange, (), source.read(), RIGHT))
    await until(lambda: bool(exchange.body))
    all_readers.close()
    exchange.open.clear()
    source.pieces.put_nowait(None)
    with pytest.raises(ClientDisconnected):
        await reading


async def test_a_key_that_is_taken_away_reads_no_further() -> None:
    async with house(a_config(keys=(*api("api"), *admin("root")))) as here:
        await here.client.send(get("/stream", "X-API-Key: root"))
        here.own.pieces.put_nowait(b"one")
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"one")
        async with house(a_config(keys=(*api("api"), *admin("root")))) as same:
            here.readers.recheck(same.handler.admits)
        here.own.pieces.put_nowait(b"two")
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"two")
        # It is still a key, and no operator's any more: details aren't for it.
        async with house(a_config(keys=(*api("api"), *admin("x"), a_key("root")))) as other:
            here.readers.recheck(other.handler.admits)
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"0\r\n\r\n")
        record = await here.record()
        assert (record.status, record.outcome, record.response_bytes) == (200, "ok", 6)
