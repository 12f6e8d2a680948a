"""What an exchange puts on the wire, and how its body comes in, over real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from launcher.errors import LauncherError
from launcher.http.errors import ClientDisconnected
from launcher.http.headers import RawHeaders
from launcher.http.server import PIECE, SMALL_REST, Request
from tests.http.raw_client import PATIENCE, Cut, connect
from tests.http.serving import OK, Seen, Watched, say_ok, serving, until

BOTH_LOOPS = True
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_10 = b"GET / HTTP/1.0\r\n\r\n"


class Say:
    """A handler that gives one answer in pieces."""

    def __init__(self, status: int, headers: RawHeaders, *pieces: bytes) -> None:
        self.status = status
        self.headers = headers
        self.pieces = pieces

    async def __call__(self, exchange: Request) -> None:
        await exchange.respond(self.status, b"R\xe9ason x", self.headers)
        for piece in self.pieces:
            await exchange.write(piece)
        await exchange.finish()


async def test_response_headers_go_out_as_given() -> None:
    headers = (
        (b"sEt-cookie", b"a=1"),
        (b"X", b""),
        (b"Set-Cookie", b"b=\xff\xc3\xa9"),
        (b"DATE", b"whenever"),
        (b"Content-length", b"2"),
        (b"sEt-cookie", b"a=1"),
    )
    async with serving(Say(299, headers, b"ok")) as (_, address), connect(address) as client:
        await client.send(GET)
        answer = await client.response()
    assert answer.headers == headers
    assert (answer.status, answer.reason, answer.version) == (299, b"R\xe9ason x", b"HTTP/1.1")


async def test_only_a_date_is_added_to_a_framed_answer() -> None:
    async with serving(Say(200, OK, b"ok")) as (_, address), connect(address) as client:
        await client.send(GET)
        answer = await client.response()
    assert [name for name, _ in answer.headers] == [b"Content-Length", b"Date"]


async def test_a_body_of_unknown_length_is_chunked_piece_by_piece() -> None:
    async with serving(Say(200, (), b"one", b"", b"two")) as (_, address):
        async with connect(address) as client:
            await client.send(GET + GET)
            for _ in range(2):
                head = await client.head()
                assert head.all(b"transfer-encoding") == [b"chunked"]
                assert [await client.chunk() for _ in range(3)] == [b"one", b"two", b""]


async def test_a_body_of_unknown_length_ends_with_the_connection_for_http_1_0() -> None:
    async with serving(Say(200, (), b"one", b"two")) as (_, address), connect(address) as client:
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.response()
    assert answer.body == b"onetwo"
    assert answer.get(b"transfer-encoding") is None
    assert answer.get(b"connection") == b"close"


async def test_hop_by_hop_headers_of_another_connection_do_not_reach_the_client() -> None:
    theirs = ((b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"timeout=5"))
    async with serving(Say(200, theirs + OK, b"ok")) as (_, address), connect(address) as client:
        await client.send(GET)
        answer = await client.response()
    assert answer.get(b"transfer-encoding") is None
    assert answer.get(b"keep-alive") is None


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 404)]
)
async def test_no_body_and_the_headers_as_given(method: bytes, status: int) -> None:
    headers = ((b"Content-Length", b"1234"), (b"ETag", b'"x"'))
    async with serving(Say(status, headers, b"unwanted")) as (_, address):
        async with connect(address) as client:
            await client.send(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method * 2)
            for _ in range(2):
                answer = await client.response("HEAD")
                assert answer.status == status
                assert answer.headers[:2] == headers
                assert answer.get(b"transfer-encoding") is None


async def test_head_and_piece_arrive_although_the_end_does_not_come() -> None:
    go_on = asyncio.Event()

    async def slow(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())
        await go_on.wait()
        await exchange.write(b"first")
        await asyncio.Event().wait()

    async with serving(slow) as (_, address), connect(address) as client:
        await client.send(GET)
        assert (await client.head()).status == 200
        go_on.set()
        assert await client.chunk() == b"first"


async def test_a_short_body_is_cut() -> None:
    short = Say(200, ((b"Content-Length", b"10"),), b"four")
    async with serving(short) as (_, address), connect(address) as client:
        await client.send(GET)
        with pytest.raises(Cut):
            await client.response()


async def test_what_goes_beyond_the_length_is_dropped_with_the_connection() -> None:
    async with serving(Say(200, OK, b"okHTTP/1.1 200 OK\r\n")) as (_, address):
        async with connect(address) as client:
            await client.send(GET + GET)
            assert (await client.response()).body == b"ok"
            assert await client.closed()


async def test_interim_responses_reach_http_1_1_clients_only() -> None:
    async def informing(exchange: Request) -> None:
        exchange.inform(103, b"Early Hints", ((b"Link", b"</x>"), (b"link", b"</y>")))
        await say_ok(exchange)

    async with serving(informing) as (_, address):
        async with connect(address) as client:
            await client.send(GET)
            hints = await client.head()
            assert (hints.status, hints.headers) == (103, ((b"Link", b"</x>"), (b"link", b"</y>")))
            assert (await client.response()).status == 200
        async with connect(address) as client:
            await client.send(GET_10)
            assert (await client.response()).status == 200


@pytest.mark.parametrize("request_head", [GET, GET_10], ids=["1.1", "1.0"])
@pytest.mark.parametrize("headers", [(), ((b"Content-Length", b"100"),)], ids=["open", "length"])
async def test_abort_in_the_body_shows(request_head: bytes, headers: RawHeaders) -> None:
    go_on = asyncio.Event()

    async def dying(exchange: Request) -> None:
        await exchange.respond(200, b"OK", headers)
        await exchange.write(b"part")
        await go_on.wait()
        exchange.abort()

    async with serving(dying) as (_, address), connect(address) as client:
        await client.send(request_head)
        head = await client.head()
        go_on.set()
        with pytest.raises(Cut):
            await client.body(head)


async def test_what_was_written_before_an_abort_arrives() -> None:
    async def dying(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())
        await exchange.write(b"last words")
        exchange.abort()

    async with serving(dying) as (_, address), connect(address) as client:
        await client.send(GET)
        with pytest.raises(Cut) as cut:
            await client.response()
    assert cut.value.got == b"last words"


async def test_abort_before_the_head_is_a_reset() -> None:
    async def dying(exchange: Request) -> None:
        exchange.abort()

    async with serving(dying) as (_, address), connect(address) as client:
        await client.send(GET)
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_handler_goes_on_after_its_own_abort() -> None:
    async def dying(exchange: Request) -> None:
        await exchange.respond(200, b"OK", ())
        exchange.abort()
        with pytest.raises(ClientDisconnected):
            await exchange.write(b"more")
        await asyncio.sleep(0.05)

    watched = Watched(dying)
    async with serving(watched) as (_, address), connect(address) as client:
        await client.send(GET)
        assert await watched.ended() is None


async def test_a_slow_client_slows_the_writer() -> None:
    written = 0

    async def torrent(exchange: Request) -> None:
        nonlocal written
        await exchange.respond(200, b"OK", ())
        for _ in range(128):
            await exchange.write(b"x" * PIECE)
            written += PIECE
        await exchange.finish()

    async with serving(torrent) as (_, address), connect(address) as client:
        client.writer.transport.pause_reading()
        await client.send(GET)
        stalled = -1
        while stalled != written:
            stalled = written
            await asyncio.sleep(0.3)
        assert written < 64 * PIECE
        client.writer.transport.resume_reading()
        assert len((await client.response()).body) == 128 * PIECE


# -- the request's body ----------------------------------------------------------------------


async def test_a_body_arrives_whole_and_its_bytes_are_counted() -> None:
    total = 0

    async def count(exchange: Request) -> None:
        nonlocal total
        while piece := await exchange.read():
            assert len(piece) <= PIECE
            total += len(piece)
        assert await exchange.read() == b""
        assert exchange.body_read == total
        await say_ok(exchange)

    size = 24 * 1024 * 1024
    async with serving(count) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // PIECE):
            await client.send(b"y" * PIECE)
        assert (await client.response()).status == 200
        assert total == size


async def test_a_compressed_body_is_left_alone() -> None:
    seen = Seen()
    async with serving(seen) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n"
            b"Transfer-Encoding: Chunked\r\n\r\n4\r\nnot \r\n4;x=y\r\ngzip\r\n0\r\nT: r\r\n\r\n"
        )
        assert (await client.response()).status == 200
    assert seen.bodies == [b"not gzip"]


async def test_an_unread_upload_stops_being_read() -> None:
    async def waiting(exchange: Request) -> None:
        await asyncio.Event().wait()

    async with serving(waiting) as (_, address), connect(address) as client:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        sent = 0
        with suppress(TimeoutError):
            while sent < 64 * 1024 * 1024:
                client.writer.write(b"z" * PIECE)
                await asyncio.wait_for(client.writer.drain(), 2.5)
                sent += PIECE
        assert sent < 64 * 1024 * 1024


async def test_100_continue_comes_with_the_first_read() -> None:
    go_on = asyncio.Event()
    seen = Seen()

    async def patient(exchange: Request) -> None:
        await go_on.wait()
        await seen(exchange)

    async with serving(patient) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.2)
        go_on.set()
        assert (await client.head()).status == 100
        await client.send(b"hi" + GET)
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
    assert seen.bodies[0] == b"hi"


async def test_no_100_continue_once_the_body_comes_or_the_answer_is_known() -> None:
    async with serving(Seen()) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert (await client.head()).status == 200
    async with serving(say_ok) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        answer = await client.response()
        # Whether the two bytes come or not can't be known: no other request may follow.
        assert (answer.status, answer.get(b"connection")) == (200, b"close")


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: something-else\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_other_expectations_are_ignored(head: bytes) -> None:
    watched = Watched(Seen())
    async with serving(watched) as (_, address), connect(address) as client:
        await client.send(head)
        await watched.entered.wait()
        await client.send(b"hi")
        assert (await client.response()).status == 200


async def test_a_backends_100_is_not_said_twice() -> None:
    async def forwarding(exchange: Request) -> None:
        exchange.inform(100, b"Continue", ())
        await Seen()(exchange)

    async with serving(forwarding) as (_, address), connect(address) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.head()).status == 100
        await client.send(b"hi")
        assert (await client.head()).status == 200


async def test_a_stalled_body_is_a_408() -> None:
    seen = Seen()
    async with serving(seen, body_timeout=0.1) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhi")
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (408, b"close")
        assert json.loads(answer.body)["error"]["code"] == "request_timeout"


@pytest.mark.parametrize("rubbish", [b"zz\r\n", b"5\nhello", b"1\r\nabc\r\n", b"-1\r\n"])
async def test_a_malformed_body_fails_the_reader(rubbish: bytes) -> None:
    watched = Watched(Seen())
    async with serving(watched) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await watched.entered.wait()
        await client.send(b"2\r\nok\r\n")
        await client.send(rubbish)
        answer = await client.response()
        assert (answer.status, answer.get(b"connection")) == (400, b"close")
        client.half_close()
        assert await client.rest() == b""
    assert isinstance(watched.outcome, LauncherError)


async def test_a_small_rest_of_a_body_is_skipped_and_the_connection_kept() -> None:
    async with serving(say_ok) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 9)
        assert (await client.response()).get(b"connection") is None
        await client.send(b"x" * 991 + GET)
        assert (await client.response()).status == 200


@pytest.mark.parametrize("size", [SMALL_REST * 2, 8 * 1024 * 1024, None])
async def test_a_large_rest_of_a_body_ends_the_connection_behind_the_answer(
    size: int | None,
) -> None:
    framing = b"Transfer-Encoding: chunked" if size is None else b"Content-Length: %d" % size
    body = b"400\r\n" + b"x" * 1024 + b"\r\n" if size is None else b"x" * 1024
    async with serving(say_ok) as (_, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        for _ in range(16):
            await client.send(body)
        answer = await client.response()
        assert (answer.body, answer.get(b"connection")) == (b"ok", b"close")
        # A client that is slow to notice doesn't lose the answer to a reset.
        await client.send(body)
        client.half_close()
        assert await client.closed()


async def test_methods_meet_a_client_that_left() -> None:
    raised: list[str] = []

    async def stubborn(exchange: Request) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for call in (
                exchange.read(),
                exchange.respond(200, b"OK", OK),
            ):
                try:
                    await call
                except ClientDisconnected:
                    raised.append(call.__qualname__.rpartition(".")[2])
            for name, now in (
                ("inform", lambda: exchange.inform(103, b"", ())),
                ("detach", exchange.detach),
            ):
                try:
                    now()
                except ClientDisconnected:
                    raised.append(name)
            exchange.abort()
            raise

    watched = Watched(stubborn)
    async with serving(watched) as (front, address), connect(address) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhi")
        await watched.entered.wait()
        client.reset()
        assert isinstance(await watched.ended(), asyncio.CancelledError)
        await until(lambda: front.active == 0)
    assert raised == ["read", "respond", "inform", "detach"]


async def test_calls_out_of_order_are_bugs() -> None:
    caught = asyncio.Event()

    async def twice(exchange: Request) -> None:
        with pytest.raises(RuntimeError):
            await exchange.write(b"too early")
        with pytest.raises(RuntimeError):
            await exchange.finish()
        await say_ok(exchange)
        with pytest.raises(RuntimeError):
            await exchange.respond(200, b"OK", OK)
        with pytest.raises(RuntimeError):
            await exchange.write(b"too late")
        await exchange.finish()
        caught.set()

    async with serving(twice) as (_, address), connect(address) as client:
        await client.send(GET)
        assert (await client.response()).body == b"ok"
        await asyncio.wait_for(caught.wait(), PATIENCE)
