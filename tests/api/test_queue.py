"""`/api/queue`."""

from __future__ import annotations

import asyncio

import pytest

from launcher.api.queue import QueueApi, QueueQuery
from tests.api.world import read, request
from tests.control.house import life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual


@virtual
async def test_who_waits_and_for_how_long_yet() -> None:
    async with living(life()) as run:
        api = QueueApi(run.house.dispatcher)
        assert read(await api.show(request(query=QueueQuery())))["waiting"] == []
        run.driver.script(B).ready_after = 50.0
        with run.house.asking(B) as first:
            await asyncio.sleep(10)
            run.leases.take(routes=(B,), ttl=60.0)
            with run.house.asking(A):
                await asyncio.sleep(1)
                told = read(await api.show(request(query=QueueQuery())))
                assert told["queued"] == 3
                assert [(one["backend"], one["queued"]) for one in told["backends"]] == [
                    ("a", 1),
                    ("b", 2),
                ]
                waiting = told["waiting"]
                assert [one["kind"] for one in waiting] == ["request", "lease", "request"]
                assert (waiting[0]["backends"], waiting[0]["phase"]) == (["b"], "starting")
                assert waiting[0]["waited_ms"] == pytest.approx(11_000, abs=50)
                assert waiting[0]["predicted"]["waitMs"] > 0
                assert waiting[0]["priority"] == "normal"
                few = read(await api.show(request(query=QueueQuery(limit=1))))
                assert read(await api.show(request(query=QueueQuery(limit=10**30))))["waiting"]
                assert [one["ticket"] for one in few["waiting"]] == [first.ticket.id]
