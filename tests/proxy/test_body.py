"""Bodies streamed and kept: the budget, the spool, what is replaced, what is refused."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import IO, cast

import orjson
import pytest

from launcher.errors import LauncherError
from launcher.http.headers import RequestHead
from launcher.proxy.body import (
    NO_BODY,
    Budget,
    KeptBody,
    StreamedBody,
    keep,
    looks_for_stream,
    media_type,
    scanner_for,
)
from launcher.proxy.json_scan import JsonScan
from launcher.proxy.multipart import FormScan
from tests.proxy.sending import Sending, sending

MIB = 1024 * 1024


async def all_of(body: KeptBody) -> bytes:
    got = b""
    while piece := await body.read():
        got += piece
    return got


@pytest.mark.parametrize("limit", [1 << 20, 10, 0])
async def test_a_kept_body_is_read_as_often_as_needed(limit: int) -> None:
    budget = Budget(limit)
    body = await keep(sending(b"abcdefgh", b"ijkl", b"mnop"), budget, MIB)
    assert ("in a file" in repr(body)) is (limit < 16)
    assert budget.used == (0 if limit < 16 else 16)
    assert body.length == 16
    assert body.replayable
    assert await all_of(body) == b"abcdefghijklmnop"
    body.rewind()
    assert await all_of(body) == b"abcdefghijklmnop"
    body.rewind()
    assert body.at_once() == (None if limit < 16 else b"abcdefghijklmnop")
    body.close()
    assert budget.used == 0
    assert repr(body) == "<KeptBody 16 bytes let go>"


@pytest.mark.parametrize("limit", [1 << 20, 0])
@pytest.mark.parametrize("span", [(0, 3), (2, 6), (4, 4), (7, 12), (0, 12)])
async def test_only_those_bytes_are_replaced(limit: int, span: tuple[int, int]) -> None:
    whole = b"abcdefghijkl"
    body = await keep(sending(whole[:5], whole[5:8], whole[8:]), Budget(limit), MIB)
    body.rename(span, "NÉ/!", as_json=False)
    expected = whole[: span[0]] + "NÉ/!".encode() + whole[span[1] :]
    assert body.length == len(expected)
    assert await body.whole() == expected
    assert body.at_once() == (None if limit == 0 else expected)
    body.rename(span, "another", as_json=False)
    assert await body.whole() == whole[: span[0]] + b"another" + whole[span[1] :]
    body.close()


async def test_a_model_is_encoded_for_its_place() -> None:
    whole = b'{"model":"m","x":1}'
    body = await keep(sending(whole), Budget(MIB), MIB)
    body.rename((9, 12), 'Qwen/"é"', as_json=True)
    assert body.at_once() == '{"model":"Qwen/\\"é\\"","x":1}'.encode()
    body.close()


async def test_all_bodies_together_stay_under_the_budget() -> None:
    budget = Budget(20)
    first = await keep(sending(b"x" * 15), budget, MIB)
    second = await keep(sending(b"y" * 4, b"y" * 4), budget, MIB)
    assert ("in memory" in repr(first), "in a file" in repr(second)) == (True, True)
    assert budget.used == 15
    first.close()
    third = await keep(sending(b"z" * 20), budget, MIB)
    assert "in memory" in repr(third)
    assert await all_of(second) == b"y" * 8
    second.close()
    third.close()
    assert budget.used == 0


async def test_a_spooled_body_has_no_name_and_is_gone_when_closed() -> None:
    body = await keep(sending(b"x" * 100), Budget(0), MIB)
    assert body._file is not None
    number = body._file.fileno()
    assert os.fstat(number).st_nlink == 0
    body.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    with pytest.raises(ValueError, match="let go"):
        await body.read()
    with pytest.raises(ValueError, match="let go"):
        body.at_once()


async def test_what_was_read_whole_is_let_go_when_the_response_begins() -> None:
    budget = Budget(MIB)
    body = await keep(sending(b"abc", b"def"), budget, MIB)
    await body.read()
    body.read_up()
    assert budget.used == 6
    await body.read()
    body.read_up()
    assert budget.used == 0


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    exchange = Sending(b"x", length=1001)
    with pytest.raises(LauncherError) as caught:
        await keep(exchange.request, Budget(MIB), 1000)
    assert caught.value.code == "body_too_large"
    assert exchange.reads == 0


@pytest.mark.parametrize("limit", [MIB, 0])
@pytest.mark.parametrize(
    "end", [b"x" * 600, LauncherError("request_timeout", "stalled"), ConnectionError("left")]
)
async def test_nothing_is_held_of_a_body_that_is_never_kept(
    limit: int, end: bytes | Exception
) -> None:
    budget = Budget(limit)
    with pytest.raises((LauncherError, ConnectionError)) as caught:
        await keep(sending(b"x" * 600, end), budget, 1000)
    if isinstance(end, bytes):
        assert getattr(caught.value, "code", "") == "body_too_large"
    else:
        assert caught.value is end
    assert budget.used == 0


@pytest.mark.parametrize("document", [b'{"a":nul}', b'{"a":["x" "y"]}', b'{"a":"\n"}', b"[]"])
async def test_a_small_body_is_parsed_as_a_whole(document: bytes) -> None:
    budget = Budget(MIB)
    with pytest.raises(LauncherError) as caught:
        await keep(sending(document), budget, MIB, JsonScan())
    assert caught.value.code == "invalid_json"
    assert budget.used == 0


@pytest.mark.parametrize("document", [b'{"a":NaN,"model":"m"}', b'{"a":"\\ud83d","model":"m"}'])
async def test_what_only_python_parses_is_left_to_the_backend(document: bytes) -> None:
    scanner = JsonScan()
    body = await keep(sending(document), Budget(MIB), MIB, scanner)
    assert scanner.finish().model == "m"
    body.close()


async def test_others_get_their_turns_while_a_large_body_is_scanned() -> None:
    document = orjson.dumps({"x": [[[[[[[[i]]]]]]] for i in range(100_000)], "model": "m"})
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(others())
    scanner = JsonScan()
    body = await keep(sending(document, length=len(document)), Budget(16 * MIB), 16 * MIB, scanner)
    watching.cancel()
    assert scanner.finish().model == "m"
    assert turns > 10
    body.close()


async def test_a_streamed_body_is_at_hand_until_it_is_read() -> None:
    body = StreamedBody(sending(b"abc", length=3))
    assert body.length == 3
    assert body.replayable
    assert body.at_once() is None
    body.rewind()
    assert await body.read() == b"abc"
    assert not body.replayable
    assert StreamedBody(sending()).length is None
    empty = StreamedBody(sending(b"never read", length=0))
    assert (empty.length, await empty.read(), empty.replayable) == (0, b"", True)


async def test_no_body_is_at_hand() -> None:
    NO_BODY.rewind()
    assert (NO_BODY.length, NO_BODY.replayable, NO_BODY.at_once()) == (0, True, b"")
    assert await NO_BODY.read() == b""


@pytest.mark.parametrize(
    ("document", "stream"),
    [
        (b'{"stream": true}', True),
        (b'{"stream": false}', False),
        (b'{"x": {"stream": true}}', False),
        (b"not json", False),
        (b'{"stream": true', False),
    ],
)
async def test_whether_a_stream_is_asked_for(document: bytes, stream: bool) -> None:
    body = await keep(sending(document), Budget(MIB), MIB)
    assert await looks_for_stream(body) is stream
    assert await body.whole() == document
    body.close()


def head(kind: bytes | None, *more: tuple[bytes, bytes], length: int | None = 5) -> RequestHead:
    headers = (*(() if kind is None else ((b"Content-Type", kind),)), *more)
    return RequestHead(
        method="POST",
        path=b"/",
        query=None,
        version=(1, 1),
        headers=headers,
        fields={name.lower(): (value,) for name, value in headers},
        host=b"a",
        peer="192.0.2.1",
        scheme="http",
        content_length=length,
        chunked=False,
        upgrade=None,
    )


GZIP = (b"Content-Encoding", b"gzip")
FORM = b"multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("asked", "needed", "kind"),
    [
        (head(b"application/json"), True, JsonScan),
        (head(b"application/json; charset=utf-8"), False, JsonScan),
        (head(b"application/vnd.api+JSON"), False, JsonScan),
        (head(b"application/x-www-form-urlencoded"), True, JsonScan),
        (head(b"application/x-www-form-urlencoded"), False, None),
        (head(None), True, JsonScan),
        (head(None), False, None),
        (head(b"application/json", length=None), True, None),
        (head(b"application/json", length=0), True, None),
        (head(b"audio/wav"), True, None),
        (head(b"application/octet-stream"), True, None),
        (head(FORM), True, FormScan),
        (head(FORM), False, FormScan),
        (head(b"application/json", GZIP), False, None),
        (head(b"application/json", (b"Content-Encoding", b" Identity ")), True, JsonScan),
        (head(b"audio/wav", GZIP), True, None),
    ],
)
def test_what_is_looked_through_for_a_model(
    asked: RequestHead, needed: bool, kind: type | None
) -> None:
    scanner = scanner_for(asked, needed=needed)
    assert scanner is None if kind is None else isinstance(scanner, kind)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (head(b"application/json", GZIP), "unsupported_encoding"),
        (head(b"multipart/form-data"), "bad_request"),
    ],
)
def test_what_cant_be_looked_through(asked: RequestHead, code: str) -> None:
    with pytest.raises(LauncherError) as caught:
        scanner_for(asked, needed=True)
    assert caught.value.code == code


def test_a_media_type_is_read_without_its_parameters() -> None:
    assert media_type(head(b" Application/JSON ; charset=x")) == "application/json"
    assert media_type(head(None)) == ""


class Slow:
    """A file whose first reader is held between finding its place and reading there."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.go_on = threading.Event()
        self.read_once = threading.Event()
        self.seeks = 0

    def seek(self, at: int, whence: int) -> int:
        self.seeks += 1
        second = self.seeks > 1
        found = self.file.seek(at, whence)
        if second:
            self.go_on.set()
        (self.read_once if second else self.go_on).wait(20)
        return found

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        self.read_once.set()
        return data

    def close(self) -> None:
        self.file.close()


async def test_a_cancelled_read_disturbs_no_second_attempt() -> None:
    """Its thread goes on."""
    body = KeptBody(Budget(0))
    await body.spool(b"abc")
    assert body._file is not None
    slow = Slow(body._file)
    body._file = cast(IO[bytes], slow)
    first = asyncio.ensure_future(body.read())
    while not slow.seeks:  # noqa: ASYNC110 - in a thread
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.sleep(0)
    body.rewind()
    second = asyncio.ensure_future(body.read())
    await asyncio.sleep(0.01)
    slow.go_on.set()
    assert await second == b"abc"
    body.close()
