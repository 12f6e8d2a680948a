"""Comments while a client waits, and what becomes of answers after them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from launcher.core.types import BackendId, Forecast
from launcher.proxy.heartbeat import Dialect, HeartbeatExchange, comment, dialect_of, error_event
from launcher.runtime.admission import Progress
from tests.proxy.fake_exchange import FakeExchange

SSE = ((b"content-type", b"text/event-stream; charset=utf-8"),)
JSON = ((b"Content-Type", b"application/json"), (b"Content-Length", b"2"))


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


async def test_without_a_beat_nothing_is_changed() -> None:
    inner = FakeExchange()
    heart = HeartbeatExchange(inner, Dialect.OPENAI)
    await heart.inform(103, b"Early Hints", ())
    await heart.respond(404, b"Not Found", JSON)
    await heart.write(b"{}")
    await heart.finish()
    assert (inner.status, inner.headers, inner.body, inner.finished) == (404, JSON, b"{}", True)
    assert len(inner.informed) == 1


async def test_a_stream_goes_on_where_the_comments_ended() -> None:
    inner = FakeExchange()
    heart = HeartbeatExchange(inner, Dialect.OPENAI)
    await heart.beat(b": one\n\n", ((b"X-Launcher-Cold-Start", b"1"),))
    await heart.beat(b": two\n\n")
    assert (inner.status, inner.get(b"content-type")) == (
        200,
        [b"text/event-stream; charset=utf-8"],
    )
    assert inner.get(b"x-launcher-cold-start") == [b"1"]
    assert not heart.responded
    await heart.inform(103, b"Early Hints", ())
    await heart.respond(200, b"OK", SSE)
    assert heart.responded
    await heart.write(b"data: 1\n\n")
    await heart.finish()
    assert inner.body == b": one\n\n: two\n\ndata: 1\n\n"
    assert inner.finished
    assert inner.informed == []


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        (500, JSON, b'{"error":{"message":"boom","type":"server_error"}}', "boom"),
        (400, JSON, b'{"error":"no such thing"}', "no such thing"),
        (422, JSON, b'{"detail":"missing field"}', "missing field"),
        (500, SSE, b"data: oh\n\n", "The backend answered 500 and no event stream: data: oh"),
        (200, JSON, b"[]", "The backend answered 200 and no event stream: []"),
        (200, (*SSE, (b"Content-Encoding", b"gzip")), b"\x1f\x8b", None),
        (204, (), b"", "The backend answered 204 and no event stream."),
        (500, JSON, b'{"error":{"code":7}}', "The backend answered 500."),
    ],
)
async def test_anything_else_becomes_one_error(
    status: int, headers: Any, body: bytes, message: str | None
) -> None:
    inner = FakeExchange()
    heart = HeartbeatExchange(inner, Dialect.OPENAI)
    await heart.beat(b": one\n\n")
    await heart.respond(status, b"X", headers)
    for at in range(len(body)):
        await heart.write(body[at : at + 1])
    await heart.finish()
    assert inner.finished
    start, _, event = inner.body.partition(b"\n\n")
    assert start == b": one"
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    error = orjson.loads(event[6:])["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    if message is not None:
        assert error["message"] == message


async def test_an_endless_answer_is_not_kept_whole() -> None:
    inner = FakeExchange()
    heart = HeartbeatExchange(inner, Dialect.OPENAI)
    await heart.beat(b": one\n\n")
    await heart.respond(500, b"X", JSON)
    for _ in range(100):
        await heart.write(b"x" * 65536)
    await heart.finish()
    assert len(inner.body) < 10_000


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
