"""The front over real sockets: what arrives at the handler, and what is refused before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from pathlib import Path

import pytest

from launcher.errors import ConfigError, LauncherError
from launcher.http.endpoint import Listen
from launcher.http.listener import Server
from launcher.http.server import Limits, Request
from tests.http.raw_client import PATIENCE, connect
from tests.http.serving import LOCAL, OK, Seen, Watched, carrying, say_ok, serving, until

BOTH_LOOPS = True
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        b"/%41",
        b"/%zz",
        b"//a//b/",
        b"/a/../b",
        b"/a?",
        b"/a?b=%20&c=d+e;\\%00?x",
        b'/[a]{b}|^`"<>',
        b"/a:b@c//[/d",
        b"//user@[::1",
        b"/%2e%2e/x%2Fy",
        b"/" + b"x" * 9000,
    ],
)
async def test_path_and_query_arrive_as_sent(target: bytes) -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert (await client.response()).status == 200
    (head,) = seen.heads
    path, mark, query = target.partition(b"?")
    assert head.path == path
    assert head.query == (query if mark else None)


async def test_headers_arrive_as_sent() -> None:
    seen = Seen()
    lines = (
        (b"hOsT", b"example.org:81"),
        (b"X-Bytes", b"caf\xc3\xa9 \xff\xfe\ttab"),
        (b"Cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"X-Empty", b""),
        (b"Upgrade", b"h2c"),
        (b"Connection", b"Upgrade, X-Empty"),
    )
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"GET / HTTP/1.1\r\n" + b"".join(b"%b:  %b \r\n" % x for x in lines))
        await client.send(b"\r\n")
        assert (await client.response()).status == 200
    (head,) = seen.heads
    assert head.headers == lines
    assert head.host == b"example.org:81"
    assert head.upgrade is None
    assert (head.peer, head.scheme) == ("127.0.0.1", "http")


async def test_absolute_form_wins_over_host() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"GET HTTP://Real.example:8/x?y HTTP/1.1\r\nHost: other\r\n\r\n")
        assert (await client.response()).status == 200
    (head,) = seen.heads
    assert (head.host, head.path, head.query) == (b"Real.example:8", b"/x", b"y")


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *headers, b"", body])


BAD = {
    "no host": (request(b"GET / HTTP/1.1"), 400, "bad_request"),
    "two hosts": (request(b"GET / HTTP/1.1", b"Host: a", b"Host: b"), 400, "bad_request"),
    "same host twice": (request(b"GET / HTTP/1.1", b"Host: a", b"host: a"), 400, "bad_request"),
    "empty host": (request(b"GET / HTTP/1.1", b"Host:"), 400, "bad_request"),
    "host with a path": (request(b"GET / HTTP/1.1", b"Host: a/b"), 400, "bad_request"),
    "host with userinfo": (request(b"GET / HTTP/1.1", b"Host: u@a"), 400, "bad_request"),
    "two hosts in 1.0": (request(b"GET / HTTP/1.0", b"Host: a", b"Host: b"), 400, "bad_request"),
    "backslash": (request(b"GET /a\\b HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "null byte": (request(b"GET /a%00b HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "fragment": (request(b"GET /a#b HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "fragment in query": (request(b"GET /a?b#c HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "tab in target": (request(b"GET /a\tb HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "no slash": (request(b"GET a HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "asterisk": (request(b"OPTIONS * HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "connect": (request(b"CONNECT a:80 HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "connect to a path": (request(b"CONNECT /a HTTP/1.1", b"Host: a"), 405, "method_not_allowed"),
    "trace": (request(b"TRACE /a HTTP/1.1", b"Host: a"), 405, "method_not_allowed"),
    "other scheme": (request(b"GET ftp://a/ HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "userinfo": (request(b"GET http://u@a/ HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "no URL": (request(b"GET http://[::1]:1@/ HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "bad port": (request(b"GET http://a:x/ HTTP/1.1", b"Host: a"), 400, "bad_target"),
    "HTTP/0.9": (request(b"GET /"), 505, "http_version"),
    "HTTP/1.2": (request(b"GET / HTTP/1.2", b"Host: a"), 505, "http_version"),
    "HTTP/2.0": (request(b"GET / HTTP/2.0", b"Host: a"), 505, "http_version"),
    "RTSP": (request(b"GET / RTSP/1.0", b"Host: a"), 505, "http_version"),
    "RTSP as HTTP/1.1": (request(b"GET / RTSP/1.1", b"Host: a"), 505, "http_version"),
    "an RTSP method": (request(b"DESCRIBE / RTSP/1.0", b"Host: a"), 505, "http_version"),
    "Icecast": (request(b"SOURCE / ICE/1.0", b"Host: a"), 505, "http_version"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
    "unknown method": (request(b"FOO / HTTP/1.1", b"Host: a"), 400, "bad_request"),
    "both lengths": (
        request(
            b"POST / HTTP/1.1",
            b"Host: a",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            body=b"0\r\n\r\n",
        ),
        400,
        "bad_request",
    ),
    "both lengths the other way": (
        request(
            b"POST / HTTP/1.1",
            b"Host: a",
            b"Transfer-Encoding: chunked",
            b"Content-Length: 5",
            body=b"0\r\n\r\n",
        ),
        400,
        "bad_request",
    ),
    "gzip, chunked": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"),
        501,
        "not_implemented",
    ),
    "identity": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: identity"),
        400,
        "bad_request",
    ),
    "chunked twice": (
        request(
            b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"
        ),
        400,
        "bad_request",
    ),
    "chunked in 1.0": (
        request(b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
        "bad_request",
    ),
    "two lengths": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Content-Length: 1"),
        400,
        "bad_request",
    ),
    "a list of lengths": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1, 1"),
        400,
        "bad_request",
    ),
    "signed length": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: +1"),
        400,
        "bad_request",
    ),
    "empty length": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: "),
        400,
        "bad_request",
    ),
    "huge length": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"9" * 30),
        400,
        "bad_request",
    ),
    "endless length": (
        request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"0" * 5000 + b"5"),
        400,
        "bad_request",
    ),
    "two types": (
        request(
            b"POST / HTTP/1.1",
            b"Host: a",
            b"Content-Type: application/json",
            b"content-type: text/plain",
            b"Content-Length: 2",
            body=b"{}",
        ),
        400,
        "bad_request",
    ),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    "bare LF in a header": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, "bad_request"),
    "bare CR in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400, "bad_request"),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", 400, "bad_request"),
    "folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400, "bad_request"),
    "space before colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, "bad_request"),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nXY\r\n\r\n", 400, "bad_request"),
    "upgrade with a body": (
        request(
            b"POST / HTTP/1.1",
            b"Host: a",
            b"Connection: upgrade",
            b"Upgrade: x",
            b"Content-Length: 2",
            body=b"hi",
        ),
        400,
        "bad_request",
    ),
    "websocket with a body": (
        request(
            b"POST / HTTP/1.1",
            b"Host: a",
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Content-Length: 2",
            body=b"hi",
        ),
        400,
        "bad_request",
    ),
    "one long header": (
        request(b"GET / HTTP/1.1", b"Host: a", b"X: " + b"x" * 70_000),
        431,
        "headers_too_large",
    ),
    "many headers": (
        request(b"GET / HTTP/1.1", b"Host: a", *[b"X%d: y" % n for n in range(1000)]),
        431,
        "headers_too_large",
    ),
    "many long headers": (
        request(b"GET / HTTP/1.1", b"Host: a", *[b"X: " + b"y" * 2000 for _ in range(100)]),
        431,
        "headers_too_large",
    ),
    "long target": (
        request(b"GET /" + b"x" * 70_000 + b" HTTP/1.1", b"Host: a"),
        431,
        "headers_too_large",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("pieces", ["whole", "in pieces"])
async def test_what_breaks_the_rules_is_answered_and_goes_nowhere(name: str, pieces: str) -> None:
    raw, status, code = BAD[name]
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        if pieces == "whole":
            await client.send(raw + GET)
        else:
            for at in range(0, len(raw), max(1, len(raw) // 16)):
                client.writer.write(raw[at : at + max(1, len(raw) // 16)])
                await asyncio.sleep(0)
        answer = await client.response()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
        assert answer.get(b"connection") == b"close"
        assert answer.get(b"content-type") == b"application/json"
        client.half_close()
        assert await client.rest() == b""
    assert seen.heads == []


async def test_who_sends_a_target_that_is_no_ascii_is_told_what_to_do() -> None:
    async with serving(say_ok) as (_, address), connect(address) as client:
        await client.send("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await client.response()
        assert answer.status == 400
        assert b"percent-encode" in answer.body


async def test_an_endless_head_is_refused_before_it_ends() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(20):
            client.writer.write(b"y" * 4096 + b"\r\nX: ")
        assert (await client.response()).status == 431
    assert seen.heads == []


async def test_garbage_behind_a_request_does_not_cost_that_request_its_answer() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(GET + b"nonsense\r\n\r\n")
        assert (await client.response()).status == 200
        assert (await client.response()).status == 400
    assert len(seen.heads) == 1


async def test_http_1_0_needs_no_host() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.response()
        assert (answer.status, answer.version, answer.body) == (200, b"HTTP/1.1", b"ok")
        assert answer.get(b"connection") == b"close"
        assert await client.closed()
    assert seen.heads[0].host == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def echo(exchange: Request) -> None:
        path = exchange.head.path
        if path == b"/0":
            await asyncio.sleep(0.05)
        while piece := await exchange.read():
            path += piece
        await exchange.respond(200, b"OK", ((b"Content-Length", b"%d" % len(path)),))
        await exchange.write(path)
        await exchange.finish()

    parts = []
    for n in range(100):
        if n % 2:
            parts.append(
                b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nab\r\n\r\ncd" % n
            )
        else:
            parts.append(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
    bodies = [b"", b"ab\r\n\r\ncd"]
    async with serving(echo) as (_, address), connect(address) as client:
        await client.send(b"\r\n".join(parts))
        for n in range(100):
            assert (await client.response()).body == b"/%d" % n + bodies[n % 2]


CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_trailer_is_no_header_of_the_next_request(at_once: bool) -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        body = b"2\r\nhi\r\n0\r\nX-First: 1\r\nX-Last: 2\r\n\r\n"
        await client.send(CHUNKED + body + (GET if at_once else b""))
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (200, None)
        if not at_once:
            await client.send(GET)
        assert (await client.response()).status == 200
    assert [head.path for head in seen.heads] == [b"/a", b"/"]
    assert [name for name, _ in seen.heads[1].headers] == [b"Host"]


@pytest.mark.parametrize("body", [b"0x5\r\nhello", b"5\r\nhello\r0\r\n\r\n", b"5;a\nb\r\n"])
async def test_a_body_known_to_be_malformed_goes_nowhere(body: bytes) -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(CHUNKED + body + GET)
        answer = await client.response()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "bad_request")
        assert answer.get(b"connection") == b"close"
        client.half_close()
        assert await client.rest() == b""
    assert seen.heads == []


async def test_close_is_respected() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n" + GET)
        answer = await client.response()
        assert answer.get(b"connection") == b"close"
        assert await client.closed()
    assert len(seen.heads) == 1


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_the_last_answer_arrives_whole_although_the_client_still_sends(
    version: bytes,
) -> None:
    """A kernel that gets data for a closed connection drops what it had still to send."""
    body = bytes(60_000)
    headers = () if version == b"HTTP/1.0" else ((b"Content-Length", b"%d" % len(body)),)

    async def handler(exchange: Request) -> None:
        await exchange.respond(200, b"OK", headers)
        await exchange.write(body)
        await exchange.finish()

    loop = asyncio.get_running_loop()
    async with serving(handler) as (front, address):
        with socket.socket() as sock:
            # The client's kernel takes next to nothing before the client reads.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, (address.host, address.port))
            request = b"GET / %b\r\nHost: a\r\nConnection: close\r\n\r\n" % version
            await loop.sock_sendall(sock, request)
            await until(lambda: select.select([sock], [], [], 0)[0] != [])
            await until(lambda: front.active == 0)
            got = b""
            while piece := await asyncio.wait_for(loop.sock_recv(sock, 1024), PATIENCE):
                if not got:
                    await loop.sock_sendall(sock, GET)
                got += piece
            assert got.endswith(b"\r\nConnection: close\r\n\r\n" + body)


async def test_http_1_0_keeps_the_connection_where_asked() -> None:
    async with serving(say_ok) as (_, address), connect(address) as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await client.response()
            assert (answer.body, answer.get(b"connection")) == (b"ok", b"keep-alive")


async def test_a_bug_before_the_head_is_a_500_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(exchange: Request) -> None:
        raise KeyError("oops")

    async with serving(broken) as (_, address), connect(address) as client:
        await client.send(GET)
        answer = await client.response()
        assert answer.status == 500
        error = json.loads(answer.body)["error"]
        assert (error["code"], error["type"]) == ("internal_error", "server_error")
        assert "oops" not in answer.body.decode()
    assert "oops" in caplog.text


async def test_a_bug_behind_the_head_cuts_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())
        await exchange.write(b"part")
        raise KeyError("oops")

    async with serving(broken) as (_, address), connect(address) as client:
        await client.send(GET)
        head = await client.head()
        assert await client.chunk() == b"part"
        assert head.status == 200
        assert (await client.rest()).strip() == b""
    assert "oops" in caplog.text


async def test_a_handler_that_forgets_the_end_does_not_fake_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def forgetful(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())

    async with serving(forgetful) as (_, address), connect(address) as client:
        await client.send(GET)
        assert (await client.head()).status == 200
        assert b"0\r\n" not in await client.rest()
    assert "without an end" in caplog.text


async def test_a_launcher_error_is_rendered() -> None:
    async def refuse(exchange: Request) -> None:
        raise LauncherError("queue_full", "Later.", retry_after=2.1)

    async with serving(refuse) as (_, address), connect(address) as client:
        await client.send(GET + GET)
        for _ in range(2):
            answer = await client.response()
            assert (answer.status, answer.get(b"retry-after")) == (503, b"3")


async def test_an_error_for_head_has_no_body() -> None:
    async def refuse(exchange: Request) -> None:
        raise LauncherError("unknown_route", "No.")

    async with serving(refuse) as (_, address), connect(address) as client:
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        assert (await client.response("HEAD")).status == 404
        assert (await client.response()).status == 404


# -- listening and closing ---------------------------------------------------------------


async def test_an_address_in_use_is_a_clear_error() -> None:
    async with serving(say_ok) as (_, address):
        second = Server(carrying(say_ok))
        with pytest.raises(ConfigError, match=f"127.0.0.1:{address.port}: it is in use"):
            await second.bind([LOCAL, address])
        assert second.addresses == ()
        with pytest.raises(ConfigError):
            await second.bind([LOCAL], [address])
        assert second.addresses == ()


async def test_an_exchange_knows_by_whose_address_it_came() -> None:
    seen = Seen()
    for operators in ([], [LOCAL]):
        front = Server(carrying(seen))
        await front.bind([LOCAL], operators)
        await front.open(None)
        assert len(front.addresses) == 1 + len(operators)
        assert front.operators == front.addresses[-1:]
        for address in front.addresses:
            async with connect(address) as client:
                await client.send(GET)
                assert (await client.response()).status == 200
        await front.close(0)
    assert [head.operators for head in seen.heads] == [True, False, True]


async def test_who_comes_before_it_is_open_waits() -> None:
    front = Server(carrying(say_ok))
    await front.bind([LOCAL])
    async with connect(front.addresses[0]) as client:
        await client.send(GET)
        await front.open(None)
        assert (await client.response()).body == b"ok"
        await front.close(0)
    await front.close(0)


async def test_what_was_never_opened_lets_go_of_its_address() -> None:
    front = Server(carrying(say_ok))
    await front.bind([LOCAL])
    where = front.addresses[0]
    await front.close(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(where.host, where.port)


async def test_a_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "l.sock"
    seen = Seen()
    async with serving(seen, at=Listen(unix_path=str(path))) as (_, address):
        async with connect(address) as client:
            await client.send(GET)
            assert (await client.response()).body == b"ok"
    assert seen.heads[0].peer == "unix"
    assert not path.exists()


async def test_an_idle_connection_is_closed_at_once() -> None:
    async with serving(say_ok) as (front, address), connect(address) as client:
        await client.send(GET)
        await client.response()
        await front.close(60)
        assert await client.closed()


async def test_closing_lets_a_running_exchange_end_with_its_upload() -> None:
    seen = Seen()
    watched = Watched(seen)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await watched.entered.wait()
        closing = asyncio.ensure_future(front.close(60))
        await until(lambda: front.addresses == ())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.host, address.port)
        await client.send(b"def")
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (200, b"close")
        assert await client.closed()
        await closing
        assert front.active == 0
    assert seen.bodies == [b"abcdef"]


async def test_closing_doesnt_wait_for_more_behind_a_body_that_was_skipped() -> None:
    watched = Watched(say_ok)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        assert (await client.response()).status == 200
        await watched.ended()
        closing = asyncio.ensure_future(front.close(10 * PATIENCE))
        await until(lambda: front.addresses == ())
        await client.send(b"def")
        assert await client.closed()
        await closing


async def test_what_does_not_end_in_time_is_cut() -> None:
    async def endless(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())
        await exchange.write(b"part")
        await asyncio.Event().wait()

    watched = Watched(endless)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(GET)
        head = await client.head()
        assert await client.chunk() == b"part"
        assert head.get(b"transfer-encoding") == b"chunked"
        assert front.active == 1
        await front.close(0)
        assert isinstance(await watched.ended(), asyncio.CancelledError)
        assert front.active == 0
        with contextlib.suppress(ConnectionError):
            assert await client.rest() == b""


async def test_keepalive_ends_an_idle_connection() -> None:
    async with serving(say_ok, keepalive=0.1) as (_, address), connect(address) as client:
        await client.send(GET)
        assert (await client.response()).get(b"content-length") == OK[0][1]
        assert await client.closed()


def say_much(request: Request) -> None:
    """More than kernels take, without waiting for the client."""
    request.start(200, b"OK", ((b"Content-Length", b"%d" % MUCH),))
    request.push(bytes(MUCH))
    request.end()
    request.over()


MUCH = 16 * 1024 * 1024


@pytest.mark.parametrize("requests", [GET, GET * 3, GET.replace(b"1.1", b"1.0")])
async def test_who_doesnt_fetch_its_answers_isnt_waited_for(requests: bytes) -> None:
    front = Server(say_much, Limits(keepalive=0.2))
    await front.bind([LOCAL])
    await front.open(None)
    async with connect(front.addresses[0]) as client:
        client.writer.transport.pause_reading()
        await client.send(requests)
        shared = front._shared
        await until(lambda: any(one.writing_paused for one in shared.connections))
        await until(lambda: not shared.connections)
    await front.close(0)


async def test_closing_lets_the_last_answer_reach_its_client() -> None:
    front = Server(say_much)
    await front.bind([LOCAL])
    await front.open(None)
    async with connect(front.addresses[0]) as client:
        client.writer.transport.pause_reading()
        await client.send(GET)
        await until(lambda: any(one.writing_paused for one in front._shared.connections))
        closing = asyncio.ensure_future(front.close(PATIENCE))
        await until(lambda: front.addresses == ())
        client.writer.transport.resume_reading()
        assert len((await client.response()).body) == MUCH
        await closing


async def test_a_slow_head_is_refused() -> None:
    async with serving(say_ok, head_timeout=0.1) as (_, address), connect(address) as client:
        await client.send(GET)
        await client.response()
        await client.send(b"GET / HTTP/1.1\r\nHost")
        assert (await client.response()).status == 408
        client.half_close()
        assert await client.closed()


async def test_a_slow_head_has_longer_than_an_idle_connection() -> None:
    async with serving(say_ok, keepalive=0.2) as (_, address), connect(address) as client:
        await client.send(GET[:9])
        await asyncio.sleep(0.5)
        await client.send(GET[9:])
        assert (await client.response()).status == 200


class Broken:
    """A carrier with a bug."""

    def client_gone(self) -> None:
        """Nothing has to be put in order."""

    def tick(self, now: float) -> None:
        raise KeyError("oops")

    def shut_down(self) -> None:
        """Nothing has to be put in order."""


async def test_a_bug_while_one_is_looked_after_is_no_others_misfortune(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def wait(exchange: Request) -> None:
        exchange.carrier = Broken()
        await asyncio.Event().wait()

    async with (
        serving(wait, keepalive=0.1) as (front, address),
        connect(address) as broken,
        connect(address) as idle,
    ):
        await broken.send(GET)
        await until(lambda: front.active == 0)
        assert await idle.closed()
    assert "oops" in caplog.text
