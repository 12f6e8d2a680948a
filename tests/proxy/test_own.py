"""The launcher's own endpoints through the front: keys, bodies, HEAD."""

from __future__ import annotations

import asyncio

import pytest

from tests.keyring import a_key, admin, api
from tests.proxy.house import Sent, a_config, a_route, get, house, post


async def test_an_endpoint_is_asked_and_its_answer_sent() -> None:
    async with house(a_config()) as here:
        answer = await here.ask(get("/stats?word=x&word=%20b"))
        assert (answer.status, answer.reason, answer.body) == (202, b"Accepted", b'{"ok":true}')
        assert answer.get(b"content-type") == b"application/json"
        assert answer.get(b"x-more") == b"1"
        assert here.own.asked[0].args == {"of": "path"}
        assert here.own.asked[0].asked(Sent) == Sent(" b")
        assert here.own.asked[0].admin
        record = await here.record()
        assert (record.route, record.status, record.response_bytes) == ("-", 202, 11)


async def test_head_is_told_the_length_and_no_body() -> None:
    async with house(a_config()) as here:
        request = get("/healthz").replace(b"GET", b"HEAD")
        answer = await here.ask(request, "HEAD")
        assert (answer.status, answer.get(b"content-length")) == (202, b"11")
        assert here.own.asked[0].method == "GET"
        assert (await here.ask(get("/healthz"))).status == 202


async def test_a_body_reaches_the_endpoint_up_to_a_mebibyte() -> None:
    async with house(a_config()) as here:
        most = b'{"word": "%b"}' % (b"x" * (2**20 - 12))
        assert (await here.ask(post("/admin", most))).status == 202
        assert here.own.asked[0].sent(Sent) == Sent("x" * (2**20 - 12))
        answer = await here.ask(post("/admin", most + b" "))
        assert answer.status == 413
        assert len(here.own.asked) == 1


async def test_what_is_no_json_is_refused_before_it_is_read() -> None:
    async with house(a_config()) as here:
        await here.client.send(
            b"POST /admin HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        assert (await here.client.response()).status == 415
        assert here.own.asked == []


async def test_what_was_sent_is_checked_before_the_endpoint_is_asked() -> None:
    async with house(a_config()) as here:
        for request, param in [
            (post("/admin", b'{"word": 1}'), b"word"),
            (get("/stats?wrod=x"), b"wrod"),
        ]:
            answer = await here.ask(request)
            assert (answer.status, b'"param":"' + param in answer.body) == (400, True)
        assert here.own.asked == []


async def test_a_chunked_body_is_capped_too() -> None:
    async with house(a_config()) as here:
        await here.client.send(
            b"POST /admin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % (b"x" * 65536) * 17
        )
        assert (await here.client.response()).status == 413


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/healthz", None, 202),
        ("/stats", None, 401),
        ("/stats", "wrong", 403),
        ("/stats", "api", 202),
        ("/stats", "root", 202),
        ("/admin", None, 401),
        ("/admin", "api", 403),
        ("/admin", "root", 202),
    ],
)
async def test_each_need_has_its_keys(path: str, key: str | None, status: int) -> None:
    config = a_config(a_route(), keys=(*api("api"), *admin("root")))
    headers = [] if key is None else [f"Authorization: Bearer {key}"]
    async with house(config) as here:
        answer = await here.ask(post(path, b"", *headers))
        assert answer.status == status
        assert bool(answer.get(b"www-authenticate")) is (status == 401)
        assert len(here.own.asked) == (status == 202)
        if status == 202:
            assert here.own.asked[0].admin is (key == "root")


@pytest.mark.parametrize(
    ("path", "head", "code"),
    [
        ("/stats", "Host: evil.example", "wrong_host"),
        ("/page", "Host: evil.example:8000", "wrong_host"),
        ("/admin", "Host: evil.example", "wrong_host"),
        ("/admin", "Host: x\r\nOrigin: http://evil.example", "cross_origin"),
        ("/admin", "Host: x\r\nSec-Fetch-Site: same-site", "cross_origin"),
        ("/admin", "Host: x\r\nContent-Type: text/plain", "unsupported_media_type"),
        ("/stats", "Host: x", "missing_key"),
        ("/models", "Host: x", "missing_key"),
    ],
)
async def test_what_is_refused_is_refused_before_a_byte_is_read(
    path: str, head: str, code: str
) -> None:
    async with house(a_config(keys=(*api("api"), *admin("root")))) as here:
        # A body is promised and never sent: who waits for it hangs.
        key = "" if code == "missing_key" else "X-API-Key: root\r\n"
        method = "POST" if path == "/admin" else "GET"
        await here.client.send(
            f"{method} {path} HTTP/1.1\r\n{head}\r\n{key}Content-Length: 9\r\n\r\n".encode()
        )
        answer = await here.client.response()
        assert f'"code":"{code}"'.encode() in answer.body
        assert here.own.asked == []
        record = await here.record()
        assert (record.status, record.code, record.request_bytes) == (answer.status, code, 0)


async def test_health_answers_to_any_name_and_lists_of_models_to_programs() -> None:
    async with house(a_config()) as here:
        for request in ("/healthz", "/models"):
            asked = get(request).replace(b"launcher.test", b"evil.example")
            assert (await here.ask(asked)).status == 202
        browser = get("/models", "User-Agent: Mozilla/5.0").replace(b"launcher.test", b"evil.com")
        assert (await here.ask(browser)).status == 421


async def test_what_an_answer_tells_a_browser() -> None:
    async with house(a_config()) as here:
        for request, script in [
            (get("/healthz"), False),
            (get("/page"), True),
            (get("/nowhere"), False),
            (get("/broken", "Origin: http://x"), False),
        ]:
            answer = await here.ask(request)
            policy = answer.get(b"content-security-policy")
            assert policy is not None
            assert (b"script-src 'self'" in policy) is script
            assert answer.get(b"x-content-type-options") == b"nosniff"
            assert answer.get(b"access-control-allow-origin") is None


async def test_an_endpoint_is_told_whose_key_it_was() -> None:
    alice = a_key("k", "observe", name="alice", routes=frozenset({"coder"}))
    async with house(a_config(keys=(alice, *admin("root")))) as here:
        for path, key, name in [("/models", "k", "alice"), ("/stats", "root", "root")]:
            assert (await here.ask(get(path, f"X-API-Key: {key}"))).status == 202
            assert here.own.asked[-1].key == here.records[-1].key == name
        assert here.own.asked[0].routes == {"coder"}
        assert here.own.asked[1].routes is None


async def test_a_stream_goes_out_piece_by_piece_to_its_end() -> None:
    async with house(a_config()) as here:
        await here.client.send(get("/stream"))
        here.own.pieces.put_nowait(b"one,")
        async with asyncio.timeout(30):
            head = await here.client.reader.readuntil(b"one,")
        assert b"content-length" not in head.lower()
        assert b"X-More: 1" in head
        assert here.records == []
        for piece in (b"two", None):
            here.own.pieces.put_nowait(piece)
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"two\r\n0\r\n\r\n")
        record = await here.record()
        assert (record.route, record.status, record.response_bytes) == ("-", 200, 7)
        assert (await here.ask(get("/healthz"))).status == 202


async def test_head_is_told_of_a_stream_and_given_none() -> None:
    async with house(a_config()) as here:
        answer = await here.ask(get("/stream").replace(b"GET", b"HEAD"), "HEAD")
        assert (answer.status, answer.get(b"content-type")) == (200, b"text/plain")
        assert here.gate.held == []
        assert (await here.ask(get("/healthz"))).status == 202


async def test_a_stream_whose_client_left_is_closed_though_it_has_nothing_to_say() -> None:
    async with house(a_config()) as here:
        await here.client.send(get("/stream"))
        here.own.pieces.put_nowait(b"one")
        async with asyncio.timeout(30):
            await here.client.reader.readuntil(b"one")
            here.client.half_close()
            await here.own.closed.wait()
        assert (await here.record()).status == 499


async def test_a_stream_is_taken_no_faster_than_the_client_reads() -> None:
    async with house(a_config()) as here:
        await here.client.send(get("/stream"))
        for _ in range(1000):
            here.own.pieces.put_nowait(b"x" * 65536)
        async with asyncio.timeout(30):
            await here.client.reader.readexactly(1)
        before = -1
        while before != here.own.taken:
            before = here.own.taken
            await asyncio.sleep(0.2)
        assert before < 900
        here.client.half_close()
        async with asyncio.timeout(30):
            await here.own.closed.wait()


async def test_another_method_is_refused() -> None:
    async with house(a_config()) as here:
        answer = await here.ask(get("/admin"))
        assert answer.status == 405
        record = await here.record()
        assert record.code == "method_not_allowed"


async def test_on_a_routes_host_the_launchers_own_paths_are_the_routes() -> None:
    async with house(a_config(a_route(hosts=("launcher.test",))), ready=False) as here:
        await here.client.send(get("/stats"))
        here.client.half_close()
        record = await here.record()
        assert (record.route, here.own.asked) == ("coder", [])
