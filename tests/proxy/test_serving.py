"""Waiting, heartbeats, second attempts, and being cut: the gate's side of an exchange."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from launcher.config import AliasConfig, BackendConfig, KeyConfig, ModelSpec, RouteConfig, Secret
from launcher.core.types import BackendId, Priority, Wake
from launcher.drivers.base import ContainerSpec
from launcher.errors import LauncherError
from launcher.proxy.exchange import CutBlock
from launcher.proxy.handler import Trusted, opened_by_own_page
from launcher.proxy.router import OWN, Target
from tests.http.raw_client import Cut
from tests.http.serving import until
from tests.keyring import api
from tests.proxy.awkward import Peer, backend
from tests.proxy.fake_exchange import request
from tests.proxy.house import House, Saying, a_config, a_route, get, house, post

CHAT = BackendId("chat")
STREAM = b'{"model":"coder-fast","stream":true}'
ONCE = b'{"model":"coder-fast"}'
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n"
STOPPED = LauncherError("backend_stopped", "stopped by an operator")


async def waits(here: House) -> None:
    await until(lambda: bool(here.gate.waiting))


def quick(**fields: Any) -> RouteConfig:
    """A route whose heartbeat is soon due."""
    return a_route(heartbeat=0.01, **fields)


# -- waiting -----------------------------------------------------------------------------


async def test_a_cold_response_says_so() -> None:
    async with backend(Saying()) as model, house(a_config(), model.endpoint, ready=False) as here:
        await here.client.send(get("/coder/x"))
        await waits(here)
        here.gate.open()
        answer = await here.client.response()
        assert answer.get(b"x-launcher-cold-start") == b"1"
        timing = answer.get(b"server-timing")
        assert timing is not None
        assert timing.startswith(b"queue;dur=500.0, start;dur=1500.0, upstream;dur=")
        record = await here.record()
        assert (record.cold, record.queued, record.starting) == (True, 2.0, 1.5)


async def test_the_answer_to_a_failed_start_says_how_long_it_took() -> None:
    async with house(a_config(), ready=False) as here:
        await here.client.send(get("/coder/x"))
        await waits(here)
        here.gate.refuse(LauncherError("start_timeout", "not healthy"), starting=1.5)
        answer = await here.client.response()
        assert answer.status == 504
        assert answer.get(b"x-launcher-cold-start") == b"1"
        assert answer.get(b"server-timing") == b"queue;dur=0.0, start;dur=1500.0"
        record = await here.record()
        assert (record.cold, record.starting) == (True, 1.5)


async def test_who_waited_for_no_start_is_not_called_cold() -> None:
    async with house(a_config(), ready=False) as here:
        await here.client.send(get("/coder/x"))
        await waits(here)
        here.gate.refuse(LauncherError("queue_timeout", "too long"))
        answer = await here.client.response()
        assert answer.get(b"x-launcher-cold-start") is None
        assert not (await here.record()).cold


async def test_what_is_asked_of_the_gate() -> None:
    route = a_route(max_wait=7.0, queue_timeout=50.0)
    async with backend(Saying()) as model, house(a_config(route), model.endpoint) as here:
        await here.ask(get("/coder/x"))
        await here.ask(get("/coder/health?x"))
        ask, quiet = (one.ask for one in here.gate.admissions)
        assert (ask.backends, ask.max_wait, ask.quiet) == (("coder",), 7.0, False)
        assert 49.0 < ask.queue_timeout <= 50.0
        assert quiet.quiet


async def test_a_request_may_ask_for_less_than_its_route_has() -> None:
    route = a_route(max_wait=7.0, priority=Priority.INTERACTIVE)
    saying, config = Saying(), a_config(route, batch_max_wait=900.0)
    async with backend(saying) as model, house(config, model.endpoint) as here:
        await here.ask(get("/coder/x", "X-Launcher-Wake: always"))
        await here.ask(get("/coder/x", "X-Launcher-Priority: batch", "X-Launcher-Wake: if-idle"))
        own, meek = (one.ask for one in here.gate.admissions)
        assert (own.priority, own.wake, own.max_wait) == (route.priority, Wake.ALWAYS, 7.0)
        assert (meek.priority, meek.wake, meek.max_wait) == (Priority.BATCH, Wake.IF_IDLE, 900.0)
        assert (own.ages, meek.ages) == (300.0, 900.0)
        assert all(b"x-launcher" not in head.lower() for head in saying.heads)
        answer = await here.ask(get("/coder/x", "X-Launcher-Priority: urgent"))
        assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (400, "bad_request")
        assert b"interactive, normal, batch" in answer.body
        assert len(here.gate.admissions) == 2


async def test_an_alias_is_served_as_its_granted_member() -> None:
    chat = a_route(
        name="chat",
        backends=(CHAT,),
        prefixes=("/chat",),
        models=(ModelSpec("chat", upstream="org/Chat"),),
        host_header="backend",
    )
    base = a_config(
        a_route(max_wait=7.0, auth="passthrough"),
        chat,
        aliases=(AliasConfig("any", ("coder-fast", "chat")),),
    )
    key = BackendConfig(CHAT, ContainerSpec("chat", 8000), backend_key=Secret("sk-chat"))
    config = replace(base, backends=(*base.backends, key))
    saying = Saying()
    async with backend(saying) as model, house(config, model.endpoint) as here:
        sent = post("/v1/chat/completions", b'{"model":"any"}', "Authorization: Bearer mine")
        await here.ask(sent)
        assert saying.bodies == [ONCE]
        assert saying.header(b"authorization") == b"Bearer mine"
        assert (await here.record()).route == "coder"
        here.gate.resident = CHAT
        await here.ask(sent)
        assert saying.bodies[1] == b'{"model":"org/Chat"}'
        assert saying.header(b"authorization") == b"Bearer sk-chat"
        assert saying.header(b"host") == model.endpoint.authority.encode()
        await until(lambda: len(here.records) == 2)
        record = here.records[-1]
        assert (record.route, record.backend, record.model) == ("chat", "chat", "any")
        assert here.gate.admissions[-1].ask.backends == ("coder", "chat")
        assert here.gate.admissions[-1].ask.max_wait == 7.0


async def test_quiet_paths_wake_nobody() -> None:
    async with house(a_config(), ready=False) as here:
        answer = await here.ask(get("/coder/metrics"))
        assert answer.status == 503
        assert (await here.record()).code == "not_resident"


@pytest.mark.parametrize(
    ("route", "keys", "wakes"),
    [
        (a_route(), (), False),
        (a_route(public=True), (), True),
        (a_route(), api("sk-one"), True),
    ],
)
async def test_a_picture_in_a_page_from_elsewhere_wakes_nobody(
    route: RouteConfig, keys: tuple[KeyConfig, ...], wakes: bool
) -> None:
    fetched = ("X-API-Key: sk-one", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    asked = get("/coder/x.png", *fetched)
    async with house(a_config(route, keys=keys), ready=False) as here:
        await here.client.send(asked)
        if wakes:
            await until(lambda: len(here.gate.waiting) == 1)
            here.client.half_close()
        record = await here.record()
        assert record.code == ("" if wakes else "not_resident")


async def test_a_picture_of_what_is_up_is_served() -> None:
    async with backend(Saying()) as seen, house(a_config(), seen.endpoint) as here:
        answer = await here.ask(get("/coder/x.png", "Sec-Fetch-Site: cross-site"))
        assert (answer.status, answer.body) == (200, b"ok")


async def test_a_100_continue_waits_for_the_admission() -> None:
    saying = Saying()
    async with backend(saying) as model, house(a_config(), model.endpoint, ready=False) as here:
        head, body = post("/coder/x", ONCE, "Expect: 100-continue").split(b"\r\n\r\n")
        await here.client.send(head + b"\r\n\r\n")
        await waits(here)
        here.gate.open()
        assert (await here.client.head()).status == 100
        await here.client.send(body)
        assert (await here.client.response()).status == 200
        assert saying.bodies == [ONCE]
        assert saying.header(b"expect") is None


# -- heartbeats --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asking",
    [
        post("/v1/chat/completions", STREAM),
        post("/coder/v1/chat/completions", STREAM),
        get("/coder/events", "Accept: text/event-stream"),
    ],
)
async def test_who_waits_for_a_stream_hears_a_heartbeat(asking: bytes) -> None:
    saying = Saying(SSE)
    config = a_config(quick())
    async with backend(saying) as model, house(config, model.endpoint, ready=False) as here:
        await here.client.send(asking.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n", 1))
        head = await here.client.head()
        assert (head.status, head.get(b"content-type")) == (
            200,
            b"text/event-stream; charset=utf-8",
        )
        assert head.get(b"x-launcher-cold-start") == b"1"
        for _ in range(3):
            beat = await here.client.chunk()
            assert beat.startswith(b": starting coder")
            assert beat.endswith(b", 12 s of about 38 s (\xc2\xb1 4 s)\n\n")
        here.gate.open()
        rest = await here.client.body(head)
        assert rest.endswith(b"data: 1\n\n")
        assert saying.header(b"accept-encoding") == b"identity"
        record = await here.record()
        assert (record.status, record.cold, record.outcome) == (200, True, "ok")


@pytest.mark.parametrize(
    "asking", [post("/v1/chat/completions", ONCE), get("/coder/x"), post("/coder/x", b"nonsense")]
)
async def test_who_waits_for_anything_else_hears_none(asking: bytes) -> None:
    config = a_config(quick())
    async with backend(Saying()) as model, house(config, model.endpoint, ready=False) as here:
        await here.client.send(asking)
        await waits(here)
        await asyncio.sleep(0.1)
        here.gate.open()
        answer = await here.client.response()
        assert (answer.status, answer.body) == (200, b"ok")


async def test_heartbeats_can_be_turned_off() -> None:
    route = a_route(heartbeat=0.0)
    async with backend(Saying(SSE)) as model:
        async with house(a_config(route), model.endpoint, ready=False) as here:
            await here.client.send(post("/v1/chat/completions", STREAM))
            await waits(here)
            await asyncio.sleep(0.1)
            here.gate.open()
            assert (await here.client.response()).body == b"data: 1\n\n"


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("/v1/chat/completions", b'data: {"error":{"message":"exited",'),
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded'),
        ("/v1/responses", b'event: error\ndata: {"type":"error","code":"backend_start_failed"'),
    ],
)
async def test_an_error_after_a_heartbeat_is_an_event(path: str, start: bytes) -> None:
    async with house(a_config(quick()), ready=False) as here:
        await here.client.send(post(path, STREAM))
        head = await here.client.head()
        await here.client.chunk()
        here.gate.refuse(LauncherError("backend_start_failed", "exited"))
        body = await here.client.body(head)
        events = [one for one in body.split(b"\n\n") if one and not one.startswith(b":")]
        assert len(events) == 1
        assert events[0].startswith(start)
        record = await here.record()
        assert (record.status, record.code) == (503, "backend_start_failed")
        assert record.queued > 0


async def test_a_backends_error_after_a_heartbeat_keeps_its_status_in_the_record() -> None:
    error = b'{"error":{"message":"too long","code":"context_length"}}'
    says = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(error), error)
    async with backend(Saying(says)) as model:
        async with house(a_config(quick()), model.endpoint, ready=False) as here:
            await here.client.send(post("/v1/chat/completions", STREAM))
            head = await here.client.head()
            await here.client.chunk()
            here.gate.open()
            body = await here.client.body(head)
            event = body[body.index(b"data: ") + 6 :]
            assert orjson.loads(event)["error"]["code"] == "context_length"
            assert (await here.record()).status == 400


async def test_a_client_that_leaves_between_two_heartbeats() -> None:
    async with house(a_config(quick()), ready=False) as here:
        await here.client.send(post("/v1/chat/completions", STREAM))
        await here.client.head()
        here.client.reset()
        assert (await here.record()).status == 499
        assert here.gate.held == []


# -- a second attempt --------------------------------------------------------------------


class Dropping(Saying):
    """Takes a request and closes without an answer, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def __call__(self, peer: Peer) -> None:
        if self.times > 0:
            self.times -= 1
            await peer.head()
            peer.reset()
        else:
            await super().__call__(peer)


@pytest.mark.parametrize("asking", [post("/v1/embeddings", ONCE), get("/coder/x")])
async def test_once_more_where_the_backend_lives_and_said_nothing(asking: bytes) -> None:
    saying = Dropping(1)
    async with backend(saying) as model, house(a_config(), model.endpoint) as here:
        assert (await here.ask(asking)).status == 200
        assert len(here.gate.suspected) == 1
        assert [one.ok for one in here.gate.admissions] == [False, True]
        assert (await here.record()).retried
        if asking.startswith(b"POST"):
            assert saying.bodies == [ONCE]


async def test_once_and_not_twice() -> None:
    async with backend(Dropping(9)) as model, house(a_config(), model.endpoint) as here:
        answer = await here.ask(get("/coder/x"))
        assert answer.status == 502
        assert model.connections == 2
        assert len(here.gate.suspected) == 2
        record = await here.record()
        assert (record.code, record.retried) == ("backend_unreachable", True)


async def test_a_request_that_its_backend_died_of_is_not_sent_again() -> None:
    async with backend(Dropping(1)) as model, house(a_config(), model.endpoint) as here:
        here.gate.on_suspect = lambda: False
        assert (await here.ask(get("/coder/x"))).status == 502
        assert model.connections == 1


@pytest.mark.parametrize(
    "asking",
    [
        post("/v1/responses", ONCE),
        post("/coder/prompt", ONCE),
        b"POST /coder/v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\n\r\n",
    ],
)
async def test_what_may_have_been_done_is_not_done_again(asking: bytes) -> None:
    async with backend(Dropping(1)) as model, house(a_config(), model.endpoint) as here:
        assert (await here.ask(asking)).status == 502
        assert model.connections == 1
        assert len(here.gate.suspected) == 1


async def test_a_backend_found_dead_is_started_again_whatever_the_method() -> None:
    saying = Saying()
    async with backend(saying) as model, house(a_config()) as here:
        # Nobody listens there; then the gate hands out where the restarted one does.
        def died() -> bool:
            here.gate.endpoint = model.endpoint
            here.gate.ready = False
            asyncio.get_running_loop().call_soon(reopen)
            return False

        def reopen() -> None:
            if here.gate.waiting:
                here.gate.open()
            else:
                asyncio.get_running_loop().call_later(0.001, reopen)

        here.gate.on_suspect = died
        asking = b"PATCH /coder/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        answer = await here.ask(asking)
        assert answer.status == 200
        assert answer.get(b"x-launcher-cold-start") == b"1"
        assert saying.bodies == [b"abc"]


async def test_an_answer_that_breaks_http_is_not_asked_for_twice() -> None:
    async with backend(Saying(b"nonsense\r\n\r\n")) as model:
        async with house(a_config(), model.endpoint) as here:
            assert (await here.ask(get("/coder/x"))).status == 502
            assert (await here.record()).code == "bad_upstream"
            assert model.connections == 1
            assert here.gate.suspected == []


async def test_an_answer_that_takes_too_long_is_not_asked_for_twice() -> None:
    async def mute(peer: Peer) -> None:
        await peer.gone()

    async with backend(mute) as model:
        async with house(a_config(a_route(response_timeout=0.05)), model.endpoint) as here:
            assert (await here.ask(get("/coder/x"))).status == 502
            assert model.connections == 1


async def test_a_server_error_doesnt_clear_a_back_off() -> None:
    says = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    async with backend(Saying(says)) as model, house(a_config(), model.endpoint) as here:
        assert (await here.ask(get("/coder/x"))).status == 500
        record = await here.record()
        assert (record.outcome, record.code) == ("error", "")
        assert not here.gate.admissions[0].ok


# -- being cut ---------------------------------------------------------------------------


async def test_cut_before_a_head_the_client_is_told() -> None:
    arrived = asyncio.Event()

    async def mute(peer: Peer) -> None:
        await peer.head()
        arrived.set()
        await peer.gone()

    async with backend(mute) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/x"))
        await arrived.wait()
        here.gate.abort(STOPPED)
        answer = await here.client.response()
        assert answer.status == 503
        assert (await here.record()).code == "backend_stopped"
        # The connection to the backend is gone, the one to the client is not.
        await until(lambda: model.running == 0)
        assert (await here.ask(get("/nowhere"))).status == 404


async def test_cut_in_the_middle_the_client_can_tell() -> None:
    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.gone()

    async with backend(endless) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/x"))
        head = await here.client.head()
        assert await here.client.chunk() == b"x"
        here.gate.abort(STOPPED)
        with pytest.raises(Cut):
            await here.client.body(head)
        record = await here.record()
        assert (record.status, record.outcome, record.code) == (200, "cut", "backend_stopped")
        await until(lambda: model.running == 0)


async def test_a_cut_is_told_apart_from_a_cancellation() -> None:
    async def block(cut: CutBlock, entered: asyncio.Event) -> str:
        with cut:
            entered.set()
            await asyncio.Event().wait()
        return "left"

    async def run(*, cut_it: bool, cancel: bool) -> BaseException | str:
        cut, entered = CutBlock(), asyncio.Event()
        task = asyncio.ensure_future(block(cut, entered))
        await entered.wait()
        if cut_it:
            cut(STOPPED)
        if cancel:
            task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    assert await run(cut_it=True, cancel=False) is STOPPED
    assert isinstance(await run(cut_it=False, cancel=True), asyncio.CancelledError)
    assert isinstance(await run(cut_it=True, cancel=True), asyncio.CancelledError)


async def test_a_cut_that_comes_too_late_cuts_nothing() -> None:
    cut = CutBlock()
    with cut:
        cut(STOPPED)
    cut(STOPPED)
    await asyncio.sleep(0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# -- tunnels -----------------------------------------------------------------------------

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


class Echo:
    """Switches protocols and says back what it hears."""

    async def __call__(self, peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await peer.reader.read(100):
            await peer.send(data)


async def test_a_tunnel() -> None:
    async with backend(Echo()) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/ws", *UPGRADE))
        head = await here.client.head()
        assert head.status == 101
        await here.client.send(b"hello")
        assert await here.client.reader.readexactly(5) == b"hello"
        assert len(here.gate.held) == 1
        here.client.writer.close()
        record = await here.record()
        assert (record.status, record.outcome, record.response_bytes) == (101, "tunnel", 5)


async def test_a_tunnel_tells_the_gate_that_it_fell_silent() -> None:
    route = a_route(tunnel_idle=0.05)
    async with backend(Echo()) as model, house(a_config(route), model.endpoint) as here:
        await here.client.send(get("/coder/ws", *UPGRADE))
        await here.client.head()
        admission = here.gate.admissions[0]
        await until(lambda: admission.silences == [True])
        await here.client.send(b"x" * 5000)
        await until(lambda: admission.silences[:2] == [True, False])


async def test_a_tunnel_is_cut() -> None:
    async with backend(Echo()) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/ws", *UPGRADE))
        await here.client.head()
        await here.client.send(b"hello")
        assert await here.client.reader.readexactly(5) == b"hello"
        here.gate.abort(STOPPED)
        await here.client.closed()
        record = await here.record()
        assert (record.status, record.outcome, record.response_bytes) == (101, "cut", 5)
        await until(lambda: model.running == 0)


async def test_a_page_left_open_wakes_nobody() -> None:
    headers = (*UPGRADE, "Origin: http://launcher.test")
    async with backend(Echo()) as model, house(a_config(), model.endpoint) as here:
        here.gate.ready = False
        answer = await here.ask(get("/coder/ws", *headers))
        assert answer.status == 503
        assert (await here.record()).code == "not_resident"
        assert here.gate.waiting == []
        here.gate.ready = True
        await here.client.send(get("/coder/ws", *headers))
        assert (await here.client.head()).status == 101
        # It holds its backend as any tunnel does.
        assert [one.ask.quiet for one in here.gate.held] == [True, False]


async def test_other_websockets_wake_their_backend() -> None:
    async with backend(Echo()) as model, house(a_config(), model.endpoint, ready=False) as here:
        await here.client.send(
            get("/v1/realtime?model=coder-fast", *UPGRADE, "Origin: http://launcher.test")
        )
        await waits(here)
        here.gate.open()
        assert (await here.client.head()).status == 101


async def test_an_upgrade_with_a_body_starts_nothing() -> None:
    async with house(a_config(), ready=False) as here:
        answer = await here.ask(post("/coder/ws", b"x", *UPGRADE))
        assert answer.status == 400
        assert here.gate.admissions == []


# -- small rules -------------------------------------------------------------------------


def test_what_is_stateless() -> None:
    assert Target(OWN, "", b"/v1/chat/completions").stateless
    assert Target(OWN, "", b"/v1/audio/transcriptions").stateless
    assert not Target(OWN, "", b"/v1/responses").stateless
    assert not Target(OWN, "", b"/prompt").stateless
    assert not Target(OWN, "", b"/v1/files").stateless


def test_whose_forwarded_headers_are_believed() -> None:
    trusted = Trusted(("192.0.2.0/24", "::1/128"))
    assert trusted.has("192.0.2.7")
    assert trusted.has("::ffff:192.0.2.7")
    assert trusted.has("::1")
    assert not trusted.has("198.51.100.1")
    assert not trusted.has("unix")
    assert not Trusted(()).has("127.0.0.1")


@pytest.mark.parametrize(
    ("upgrade", "origin", "own"),
    [
        (b"websocket", b"http://example.test", True),
        (b"WebSocket", b"https://Example.Test", True),
        (b"websocket", b"http://example.test:8188", False),
        (b"websocket", b"null", False),
        (b"websocket", None, False),
        (b"other", b"http://example.test", False),
        (None, b"http://example.test", False),
    ],
)
def test_who_is_a_page_of_the_same_host(
    upgrade: bytes | None, origin: bytes | None, own: bool
) -> None:
    headers = () if origin is None else ((b"Origin", origin),)
    assert opened_by_own_page(request(upgrade=upgrade, headers=headers)) is own
