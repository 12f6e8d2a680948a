"""The launcher's own endpoints, asked over a socket pair like a backend that is always up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from launcher.api.app import OwnPaths
from launcher.api.endpoint import Context
from launcher.proxy.own import Own
from tests.api.test_streams import LOGS, Printing
from tests.api.world import FakeControl, a_context, a_server
from tests.http.serving import until
from tests.proxy.house import House, a_config, a_route, get, house, post


@asynccontextmanager
async def behind(context: Context | None = None, **fields: object) -> AsyncIterator[House]:
    """A proxy before the real endpoints; their records are the house's."""
    async with a_server(context or a_context()) as (server, records):
        route = a_route(**fields)
        async with house(a_config(route), own=Own(OwnPaths(), server), ready=False) as here:
            here.records = records
            yield here


async def test_an_endpoint_is_asked_and_its_answer_sent() -> None:
    async with behind() as here:
        for _ in range(3):
            answer = await here.ask(get("/v1/models/Qwen%2FQwen2.5-Coder"))
            assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
            assert b'"id":"Qwen/Qwen2.5-Coder"' in answer.body
        assert [one.peer for one in here.records] == ["127.0.0.1"] * 3
        answer = await here.ask(get("/healthz").replace(b"GET", b"HEAD"), "HEAD")
        assert (answer.status, answer.get(b"content-length")) == (200, b"16")
        assert (await here.ask(get("/api/leases/7"))).status == 404


async def test_a_connection_carries_one_request_after_another() -> None:
    async with a_server(a_context()) as (server, records):
        connected: list[socket.socket] = []

        class Counting:
            def connect(self) -> socket.socket:
                connected.append(server.connect())
                return connected[-1]

            peer_header = staticmethod(server.peer_header)

        async with house(a_config(), own=Own(OwnPaths(), Counting())) as here:
            for _ in range(3):
                assert (await here.ask(get("/healthz"))).status == 200
            for _ in range(3):
                assert (await here.ask(get("/api/leases/x"))).status == 404
        assert (len(records), len(connected)) == (6, 1)


async def test_a_client_cannot_vouch_for_itself() -> None:
    async with behind() as here:
        assert (
            await here.ask(get("/healthz", "X-Launcher-Peer: x 192.0.2.7 http 1"))
        ).status == 200
        assert here.records[0].peer == "127.0.0.1"


async def test_bodies_reach_the_endpoint() -> None:
    async with behind() as here:
        body = b'{"route": "chat"}'
        assert b'"routes":["chat"]' in (await here.ask(post("/api/drain", body))).body
        chunked = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        await here.client.send(b"POST /api/resume HTTP/1.1\r\nHost: localhost\r\n" + chunked)
        await here.client.send(b"2\r\n{}\r\n0\r\n\r\n")
        assert b'"routes":[]' in (await here.client.response()).body


async def test_a_body_that_is_refused_is_not_asked_for() -> None:
    async with behind() as here:
        head = post("/api/drain", b'{"route": "chat"}', "Expect: 100-continue").partition(b"{")[0]
        await here.client.send(head.replace(b"launcher.test", b"evil.example"))
        assert (await here.client.response()).status == 421
    async with behind() as here:
        await here.client.send(head)
        assert (await here.client.response()).status == 100
        await here.client.send(b'{"route": "chat"}')
        assert (await here.client.response()).status == 200


async def test_a_stream_goes_out_piece_by_piece_and_ends_with_its_client() -> None:
    output = Printing(["one"])
    async with behind(a_context(output=output)) as here:
        await here.client.send(get(LOGS))
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"one\n")
        assert here.records == []
        output.batches.put_nowait(["two"])
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"two\n")
        here.client.half_close()
        await until(lambda: bool(output.closed))
        await until(lambda: bool(here.records))
        assert (here.records[0].status, here.records[0].outcome) == (499, "client_gone")


async def test_a_slow_client_slows_its_stream_down() -> None:
    output = Printing(*(["x" * 65536] for _ in range(1000)))
    async with behind(a_context(output=output)) as here:
        await here.client.send(get(LOGS))
        async with asyncio.timeout(30):
            await here.client.reader.readexactly(1)
        before = -1
        while before != output.taken:
            before = output.taken
            await asyncio.sleep(0.2)
        assert before < 900


async def test_a_client_that_leaves_gives_up_what_it_waits_for() -> None:
    control = FakeControl()
    async with behind(a_context(control)) as here:
        await here.client.send(post("/api/routes/coder/start?wait=1", b""))
        await until(lambda: bool(control.admissions))
        here.client.half_close()
        await until(lambda: control.admissions[0].left)


async def test_on_a_routes_host_the_launchers_own_paths_are_the_routes() -> None:
    async with behind(hosts=("launcher.test",)) as here:
        await here.client.send(get("/stats"))
        await until(lambda: bool(here.gate.held))
        here.client.half_close()
        await until(lambda: not here.gate.held)
        await until(lambda: bool(here.records))
        assert [one.route for one in here.records] == ["coder"]


async def test_connections_to_the_endpoints_are_used_again() -> None:
    async with a_server(a_context()) as (server, _):
        own = Own(OwnPaths(), server)
        made = 0
        connect = server.connect

        def counted() -> socket.socket:
            nonlocal made
            made += 1
            return connect()

        server.connect = counted  # type: ignore[method-assign]
        async with house(a_config(a_route()), own=own, ready=False) as here:
            for _ in range(5):
                assert (await here.ask(get("/healthz"))).status == 200
        assert made == 1
