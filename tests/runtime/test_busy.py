"""Whether a backend says that it has work of its own, and what its silence means."""

from __future__ import annotations

import asyncio

import pytest

from launcher.config import BackendConfig, Secret
from launcher.core.events import Busy
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.runtime import probe
from tests.runtime.awkward import awkward, body, nobody
from tests.runtime.house import A, House, opened
from tests.runtime.house import config as house_config

CONFIG = BackendConfig(
    BackendId("comfy"), ContainerSpec("comfy", 8188), busy="/queue", backend_key=Secret("k")
)


@pytest.mark.parametrize(
    "text",
    [
        b'{"queue_running": [[0, "id", {}]], "queue_pending": []}',
        b'{"queue_running": [], "queue_pending": [[1]]}',
        b'{"busy": true}',
        b'{"running": 2}',
        b'{"running": 0.5, "other": 0}',
        b"true",
        b"[1]",
        b"3",
    ],
)
def test_work(text: bytes) -> None:
    assert probe.says_busy(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"queue_running": [], "queue_pending": []}',
        b'{"busy": false, "running": 0}',
        b'{"anything": true}',
        b"{}",
        b"[]",
        b"false",
        b"0",
        b"null",
        b"",
        b"  \n",
        b"not JSON",
        b'{"busy": "yes"}',
        b'{"running": -1}',
    ],
)
def test_no_work(text: bytes) -> None:
    assert not probe.says_busy(text)


async def test_it_asks_the_path_with_the_key() -> None:
    async with awkward(body(b'{"queue_running": [1]}')) as server:
        assert await probe.ask_busy(CONFIG, server.endpoint) is True
        assert server.headers[0] == b"GET /queue HTTP/1.1"
        assert b"Authorization: Bearer k" in server.headers
        server.says = b"HTTP/1.1 204 No Content\r\n\r\n"
        assert await probe.ask_busy(CONFIG, server.endpoint) is False


async def test_a_queue_too_long_to_read_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BUSY_LIMIT", 10)
    async with awkward(body(b'{"queue_pending": [1, 2, 3, 4, 5]}')) as server:
        assert await probe.ask_busy(CONFIG, server.endpoint) is True


async def test_nobody_there_is_not_busy() -> None:
    assert await probe.ask_busy(CONFIG, await nobody()) is False


@pytest.mark.parametrize("says", [b"", body(b"", b"500 Oops"), b"garbage\r\n\r\n"])
async def test_no_usable_answer_is_neither(says: bytes) -> None:
    async with awkward(says) as server:
        assert await probe.ask_busy(CONFIG, server.endpoint) is None


async def test_an_eviction_waits_for_a_backends_own_work() -> None:
    """Real sockets and real time: the backend is asked before it makes way."""
    async with awkward(body(b'{"queue_running": [1]}')) as server:
        house = House(house_config(A, busy="/queue"))
        house.driver.script(A).endpoints = (server.endpoint,)
        async with opened(house):
            await house.use(A)
            handle = house.dispatcher._handles[A]
            liveness = house.dispatcher._liveness

            async def answer() -> bool:
                told = len(house.ledger.of(Busy))
                liveness.ask_busy(handle, house.dispatcher.epoch(A))
                await house.until(lambda: len(house.ledger.of(Busy)) > told, within=30)
                said: bool = house.ledger.of(Busy)[-1].busy
                return said

            assert await answer() is True
            server.says = body(b'{"queue_running": []}')
            assert await answer() is False
            # Three times in a row without an answer, and it no longer counts as busy.
            server.says = b""
            assert [await answer() for _ in range(4)] == [True, True, False, False]
            server.says = body(b"{}")
            assert await answer() is False
            server.says = b""
            # Asked twice at once, the answers come in order.
            told = len(house.ledger.of(Busy))
            for _ in range(3):
                liveness.ask_busy(handle, house.dispatcher.epoch(A))
            await house.until(lambda: len(house.ledger.of(Busy)) == told + 3, within=30)
            assert [said.busy for said in house.ledger.of(Busy)[told:]] == [True, True, False]
            await asyncio.sleep(0)
