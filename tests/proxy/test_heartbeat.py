"""Comments while a client waits, and what becomes of answers after them."""

from __future__ import annotations

import orjson
import pytest

from launcher.core.types import BackendId, Forecast
from launcher.http.upstream import ResponseHead
from launcher.proxy.waiting import Dialect, Heartbeat, comment, dialect_of, error_event
from launcher.runtime.admission import Progress
from tests.http.recording import Asked, dechunked

SSE = (b"content-type: text/event-stream; charset=utf-8",)
JSON = (b"Content-Type: application/json", b"Content-Length: 2")


class Beating:
    """A client that was given comments, and the answer that came then."""

    def __init__(self) -> None:
        self.asked = Asked()
        self.request = self.asked.request
        self.heart = Heartbeat(self.request, Dialect.OPENAI)

    def answer(self, status: int, lines: tuple[bytes, ...], *pieces: bytes) -> None:
        head = ResponseHead(b"HTTP/1.1 %d X" % status, status, b"X")
        head.lines += lines
        self.heart.take_head(head)
        for piece in pieces:
            self.heart.push(piece)
        self.heart.end()
        assert self.request.end()

    def written(self) -> tuple[bytes, bytes]:
        """The head that went out, and the body, which is chunked and whole."""
        head, _, body = self.asked.written.partition(b"\r\n\r\n")
        assert body.endswith(b"0\r\n\r\n")
        return head, dechunked(body[:-5])


def a_progress(phase: str, forecast: Forecast | None) -> Progress:
    return Progress(BackendId("b"), phase, 12.4, forecast)


def test_comments_are_for_people_and_never_more_than_a_comment() -> None:
    soon = Forecast(3, 40.2, 11.8)
    assert comment(a_progress("queued", soon), "chat-general").decode() == (
        ": queued for chat-general, place 3, about 40 s (± 12 s)\n\n"
    )
    assert comment(a_progress("starting", None), "x") == b": starting x, 12 s\n\n"
    assert comment(a_progress("starting", soon), "x").decode() == (
        ": starting x, 12 s of about 53 s (± 12 s)\n\n"
    )
    text = comment(a_progress("stopping coder for it", soon), "a\n\ndata: x").decode()
    assert text == ": a data: x: stopping coder for it, place 3, about 40 s (± 12 s)\n\n"


async def test_a_stream_goes_on_where_the_comments_ended() -> None:
    beating = Beating()
    assert not beating.heart.begun
    await beating.heart.beat(b": one\n\n", cold=True)
    await beating.heart.beat(b": two\n\n", cold=True)
    assert beating.heart.begun
    assert not beating.heart.responded
    beating.answer(200, SSE, b"data: 1\n\n")
    assert beating.heart.responded
    head, body = beating.written()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.lower().count(b"content-type") == 1
    assert b"\r\nContent-Type: text/event-stream; charset=utf-8" in head
    assert b"\r\nX-Launcher-Cold-Start: 1" in head
    assert body == b": one\n\n: two\n\ndata: 1\n\n"
    assert beating.request.finished


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        (500, JSON, b'{"error":{"message":"boom","type":"server_error"}}', "boom"),
        (400, JSON, b'{"error":"no such thing"}', "no such thing"),
        (422, JSON, b'{"detail":"missing field"}', "missing field"),
        (500, SSE, b"data: oh\n\n", "The backend answered 500 and no event stream: data: oh"),
        (200, JSON, b"[]", "The backend answered 200 and no event stream: []"),
        (200, (*SSE, b"Content-Encoding: gzip"), b"\x1f\x8b", None),
        (204, (), b"", "The backend answered 204 and no event stream."),
        (500, JSON, b'{"error":{"code":7}}', "The backend answered 500."),
    ],
)
async def test_anything_else_becomes_one_error(
    status: int, headers: tuple[bytes, ...], body: bytes, message: str | None
) -> None:
    beating = Beating()
    await beating.heart.beat(b": one\n\n", cold=False)
    beating.answer(status, headers, *(body[at : at + 1] for at in range(len(body))))
    _, written = beating.written()
    start, _, event = written.partition(b"\n\n")
    assert start == b": one"
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    error = orjson.loads(event[6:])["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    if message is not None:
        assert error["message"] == message


async def test_an_endless_answer_is_not_kept_whole() -> None:
    beating = Beating()
    await beating.heart.beat(b": one\n\n", cold=False)
    beating.answer(500, JSON, *[b"x" * 65536] * 100)
    assert len(beating.written()[1]) < 10_000


async def test_an_error_of_our_own_is_an_event_too() -> None:
    beating = Beating()
    await beating.heart.beat(b": one\n\n", cold=False)
    beating.heart.tell(503, BODY)
    assert beating.request.end()
    assert beating.heart.responded
    assert beating.written()[1] == b": one\n\ndata: " + BODY + b"\n\n"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (b"/v1/chat/completions", Dialect.OPENAI),
        (b"/v1/messages", Dialect.ANTHROPIC),
        (b"/v1/responses", Dialect.RESPONSES),
        (b"/generate", Dialect.OPENAI),
    ],
)
def test_the_dialect_is_the_paths(path: bytes, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


BODY = b'{"error":{"message":"no room","type":"server_error","code":"queue_full","param":null}}'


def test_each_dialect_has_its_own_event() -> None:
    assert error_event(503, BODY, Dialect.OPENAI) == b"data: " + BODY + b"\n\n"
    name, data = error_event(503, BODY, Dialect.ANTHROPIC).rstrip().split(b"\n")
    assert name == b"event: error"
    assert orjson.loads(data[6:]) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "no room"},
    }
    name, data = error_event(503, BODY, Dialect.RESPONSES).rstrip().split(b"\n")
    assert name == b"event: error"
    assert orjson.loads(data[6:]) == {
        "type": "error",
        "code": "queue_full",
        "message": "no room",
        "param": None,
        "sequence_number": 0,
    }
