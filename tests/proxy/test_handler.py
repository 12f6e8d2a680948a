"""A request's way through the whole proxy, and the record it leaves."""

from __future__ import annotations

import asyncio
import gc
import logging

import orjson
import pytest
from aiohttp import StreamReader

from launcher.core.types import Priority, Wake
from launcher.errors import LauncherError
from launcher.http.server import Request
from launcher.http.upstream import UpstreamConnection
from launcher.proxy.body import KeptBody
from launcher.proxy.json_scan import JsonScan
from launcher.proxy.own import Own
from tests.http.raw_client import Cut, Response, connect
from tests.http.serving import until
from tests.keyring import a_key, admin, api
from tests.proxy.awkward import Peer, backend
from tests.proxy.house import NoPaths, Saying, a_config, a_route, get, house, post

CHAT = b'{"model": "gpt-4o", "messages": []}'


def code_of(answer: Response) -> str:
    code = orjson.loads(answer.body)["error"]["code"]
    assert isinstance(code, str)
    return code


async def test_the_way_of_a_request() -> None:
    saying = Saying()
    async with backend(saying) as model, house(a_config(key="secret"), model.endpoint) as here:
        request = post("/openai/v1/chat/completions", CHAT, "Authorization: Bearer theirs")
        answer = await here.ask(request)
        assert (answer.status, answer.body) == (200, b"ok")
        assert saying.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert saying.bodies[0] == CHAT.replace(b"gpt-4o", b"Qwen/Qwen2.5-7B")
        assert saying.header(b"content-length") == b"%d" % len(saying.bodies[0])
        assert saying.header(b"authorization") == b"Bearer secret"
        assert saying.header(b"x-forwarded-prefix") == b"/openai"
        timing = answer.get(b"server-timing")
        assert timing is not None
        assert timing.startswith(b"queue;dur=0.0, start;dur=0.0, upstream;dur=")
        assert answer.get(b"x-launcher-cold-start") is None
        record = await here.record()
        assert (record.method, record.path, record.route, record.backend, record.model) == (
            "POST",
            "/openai/v1/chat/completions",
            "coder",
            "coder",
            "gpt-4o",
        )
        assert (record.status, record.outcome, record.code) == (200, "ok", "")
        assert (record.request_bytes, record.response_bytes) == (len(CHAT), 2)
        assert record.first_byte != -1.0
        assert 0 < record.first_byte <= record.duration
        assert here.gate.admissions[0].ok


async def test_a_routes_path_is_verbatim_behind_its_prefix() -> None:
    saying = Saying()
    async with backend(saying) as model, house(a_config(), model.endpoint) as here:
        for sent, seen in [
            ("/coder", b"/"),
            ("/coder/", b"/"),
            ("/coder//%41/%zz/a/../b?", b"//%41/%zz/a/../b?"),
            ("/coder/x?y=%2f", b"/x?y=%2f"),
        ]:
            assert (await here.ask(get(sent))).status == 200
            assert saying.heads[-1].split(b" ")[1] == seen
            assert saying.header(b"x-forwarded-prefix") == b"/coder"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/coderx", "unknown_route"),
        ("/coder/../chat", "bad_target"),
        ("/coder/%2e%2E/chat", "bad_target"),
        ("/coder/..%5cchat", "bad_target"),
        ("/coder/\\x", "bad_target"),
        ("/coder/%00", "bad_target"),
        ("/openai/v1/../../coder/x", "bad_target"),
        ("/openai/v1/chat/completions", "missing_model"),
        ("/v1/x?model=nobody", "unknown_model"),
    ],
)
async def test_bad_requests_ask_for_nothing(path: str, code: str) -> None:
    async with house(a_config()) as here:
        answer = await here.ask(get(path))
        assert code_of(answer) == code
        assert answer.status in (400, 404)
        assert here.gate.admissions == []
        if code != "bad_target":
            record = await here.record()
            assert (record.code, record.outcome, record.status) == (code, "error", answer.status)


async def test_the_key_that_opened_the_door_stays_here() -> None:
    saying = Saying()
    config = a_config(a_route(auth="passthrough"), keys=api("door"))
    async with backend(saying) as model, house(config, model.endpoint) as here:
        request = get("/coder/", "Authorization: Bearer theirs", "X-API-Key: door")
        assert (await here.ask(request)).status == 200
        assert saying.header(b"authorization") == b"Bearer theirs"
        assert saying.header(b"x-api-key") is None
        assert (await here.ask(get("/coder/"))).status == 401
        assert (await here.ask(get("/coder/", "api-key: no"))).status == 403
        assert len(here.gate.admissions) == 1


async def test_a_keys_limits_hold_for_what_it_has_under_way() -> None:
    config = a_config(keys=(a_key("alice", max_in_flight=1, requests_per_minute=2),))
    alice = get("/coder/", "X-API-Key: alice")
    async with house(config, ready=False) as here:
        await here.client.send(alice)
        await until(lambda: bool(here.gate.waiting))
        async with connect(here.front.addresses[0]) as second:
            await second.send(alice)
            answer = await second.response()
            assert (answer.status, code_of(answer)) == (429, "too_many_in_flight")
            assert answer.get(b"retry-after") == b"1"
            # However it ends, its place is free again.
            here.client.half_close()
            await until(lambda: len(here.records) == 2)
            await second.send(post("/v1/chat/completions", b"{}", "X-API-Key: alice"))
            assert (await second.response()).status == 400
            await second.send(alice)
            answer = await second.response()
            assert (answer.status, code_of(answer)) == (429, "rate_limited")
            retry = answer.get(b"retry-after")
            assert retry is not None
            assert 50 <= int(retry) <= 60
        await until(lambda: len(here.records) == 4)
        keys = [record.key for record in here.records]
        assert sorted(zip(keys, (one.status for one in here.records), strict=True)) == [
            ("alice", 400),
            ("alice", 429),
            ("alice", 429),
            ("alice", 499),
        ]


async def test_a_keys_class_and_wake_are_in_the_place_of_the_routes() -> None:
    keys = (
        a_key("boss", priority=Priority.INTERACTIVE, wake=Wake.ALWAYS),
        a_key("night", priority=Priority.BATCH, wake=Wake.NEVER),
        a_key("plain"),
    )
    config = a_config(a_route(wake=Wake.IF_IDLE), keys=keys)
    async with backend(Saying()) as model, house(config, model.endpoint) as here:
        for key, header, wanted in [
            ("boss", "", (Priority.INTERACTIVE, Wake.ALWAYS)),
            ("boss", "X-Launcher-Wake: never", (Priority.INTERACTIVE, Wake.NEVER)),
            ("night", "X-Launcher-Priority: normal", (Priority.BATCH, Wake.NEVER)),
            ("plain", "", (Priority.NORMAL, Wake.IF_IDLE)),
        ]:
            headers = [f"X-API-Key: {key}", *([header] if header else [])]
            assert (await here.ask(get("/coder/", *headers))).status == 200
            ask = here.gate.admissions[-1].ask
            assert (ask.priority, ask.wake) == wanted


async def test_details_are_for_admins_where_keys_are_set() -> None:
    async with house(a_config(keys=(*api("api"), *admin("root"))), ready=False) as here:
        for headers, shown in [
            (["X-API-Key: api"], False),
            (["X-API-Key: api", "api-key: root"], True),
        ]:
            await here.client.send(get("/coder/", *headers))
            await until(lambda: bool(here.gate.waiting))
            here.gate.refuse(
                LauncherError("backend_start_failed", "exited", detail="a log line", retry_after=7)
            )
            answer = await here.client.response()
            assert answer.status == 503
            assert answer.get(b"retry-after") == b"7"
            assert (b"a log line" in answer.body) is shown
            timing = answer.get(b"server-timing")
            assert timing is not None
            assert timing.startswith(b"queue;dur=")


async def test_a_client_that_leaves_while_it_waits() -> None:
    async with house(a_config(), ready=False) as here:
        await here.client.send(post("/v1/chat/completions", CHAT))
        await until(lambda: bool(here.gate.waiting))
        here.client.half_close()
        record = await here.record()
        assert (record.status, record.outcome, record.route) == (499, "client_gone", "coder")
        assert here.gate.held == []


async def test_a_client_that_leaves_its_upload() -> None:
    async with house(a_config()) as here:
        await here.client.send(post("/v1/chat/completions", CHAT)[:-5])
        here.client.reset()
        record = await here.record()
        assert (record.status, record.outcome) == (499, "client_gone")
        assert here.gate.admissions == []


async def test_what_a_client_got_before_it_left_is_counted() -> None:
    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await peer.gone()

    async with backend(endless) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/"))
        await here.client.reader.readuntil(b"half")
        here.client.reset()
        record = await here.record()
        assert (record.status, record.outcome, record.response_bytes) == (499, "client_gone", 4)


async def test_a_backend_that_dies_in_the_middle() -> None:
    async def dying(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        peer.reset()

    async with backend(dying) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/"))
        with pytest.raises(Cut):
            await here.client.response()
        record = await here.record()
        assert (record.status, record.outcome) == (200, "aborted")
        assert not here.gate.admissions[0].ok


async def test_what_a_shutdown_cuts_did_not_leave() -> None:
    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await peer.gone()

    async with backend(endless) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/"))
        await here.client.reader.readuntil(b"half")
        await here.front.close(0)
        record = await here.record()
        assert (record.status, record.outcome, record.code) == (200, "cut", "draining")
        assert record.response_bytes == 4


async def test_what_a_shutdown_cuts_before_an_answer_was_not_served() -> None:
    async def mute(peer: Peer) -> None:
        await peer.head()
        arrived.set()
        await peer.gone()

    arrived = asyncio.Event()
    async with backend(mute) as model, house(a_config(), model.endpoint) as here:
        await here.client.send(get("/coder/"))
        await arrived.wait()
        await here.front.close(0)
        record = await here.record()
        assert (record.status, record.outcome, record.code) == (503, "cut", "draining")


class Broken(NoPaths):
    """Fails at one path."""

    def find(self, path: bytes) -> None:
        if path == b"/broken":
            raise ZeroDivisionError


async def test_a_bug_is_logged_and_told() -> None:
    broken = Broken()
    async with house(a_config(), own=Own(broken, broken)) as here:
        logger = logging.getLogger("launcher.proxy.handler")
        seen: list[logging.LogRecord] = []
        logger.addFilter(lambda line: bool(seen.append(line)))
        try:
            answer = await here.ask(get("/broken"))
        finally:
            logger.filters.clear()
        assert code_of(answer) == "internal_error"
        assert answer.status == 500
        assert seen[0].exc_info is not None
        assert (await here.record()).code == "internal_error"
        assert (await here.ask(get("/nowhere"))).status == 404


async def test_head_of_an_error_has_no_body() -> None:
    async with house(a_config()) as here:
        answer = await here.ask(get("/nowhere").replace(b"GET", b"HEAD"), "HEAD")
        assert answer.status == 404
        assert (await here.ask(get("/nowhere"))).status == 404


def upload(sent: int, *headers: str) -> bytes:
    """A request whose body won't come whole."""
    lines = ["POST /coder/upload HTTP/1.1", "Host: launcher.test", *headers, "", ""]
    return "\r\n".join(lines).encode() + bytes(sent)


@pytest.mark.parametrize(
    "request_",
    [
        post("/openai/v1/chat/completions", CHAT),
        post("/openai/v1/chat/completions", CHAT + b" ")[:-1],
        upload(1000, "Content-Length: 9999"),
        upload(0, "Transfer-Encoding: chunked") + b"20\r\n0123",
    ],
    ids=["whole", "half a document", "half an upload", "half a chunk"],
)
async def test_who_leaves_leaves_nothing_for_the_garbage_collector(request_: bytes) -> None:
    """It comes by seldom, and an upload's buffers are large."""

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    def of_exchanges() -> int:
        kinds = (Request, StreamReader, KeptBody, JsonScan, UpstreamConnection)
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    async with backend(silent) as model, house(a_config(), model.endpoint) as here:
        gc.collect()
        gc.disable()
        try:
            before = of_exchanges()
            await here.client.send(request_)
            await until(lambda: of_exchanges() > before and here.front.active == 1)
            here.client.reset()
            await here.record()
            await until(lambda: here.front.active == 0 and of_exchanges() <= before)
        finally:
            gc.enable()
