"""Comments for a client that waits for a stream, so that its read timeout doesn't fire.

Once the first comment is out, the response is an event stream: whatever comes next that
isn't one becomes a single error event in the dialect of the API that was asked. Nobody who
writes to the exchange has to know. It must not know the gate or where errors come from.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import orjson

from launcher.errors import error_type
from launcher.http.exchange import Detached, Exchange, RawHeaders, RequestHead
from launcher.runtime.admission import Progress

#: Seconds between two comments, at most.
INTERVAL: Final = 10.0

_HEAD: Final = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-cache"),
    # nginx collects a response before it hands it on, unless told.
    (b"X-Accel-Buffering", b"no"),
)

#: How much of an answer that isn't a stream is kept for the error event.
_LONGEST: Final = 64 * 1024

_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Dialect(Enum):
    """How an API spells an error in the middle of a stream."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


def dialect_of(path: bytes) -> Dialect:
    """By the backend's path."""
    if path.endswith(b"/messages"):
        return Dialect.ANTHROPIC
    if path.endswith(b"/responses"):
        return Dialect.RESPONSES
    return Dialect.OPENAI


def comment(progress: Progress, name: str) -> bytes:
    """One SSE comment for a person who reads along; `name` is what they asked for."""
    match progress.phase:
        case "starting":
            text = f"starting {name}"
        case "queued":
            text = f"queued for {name}"
        case phase:
            text = f"{name}: {phase}"
    forecast = progress.forecast
    if forecast is None:
        text += f", {progress.waited:.0f} s"
    elif progress.phase == "starting":
        whole = progress.waited + forecast.seconds
        text += f", {progress.waited:.0f} s of about {whole:.0f} s (± {forecast.spread:.0f} s)"
    else:
        text += f", place {forecast.place}, about {forecast.seconds:.0f} s"
        text += f" (± {forecast.spread:.0f} s)"
    # A line end would begin something that isn't a comment.
    return b": %b\n\n" % " ".join(text.split()).encode("utf-8", "replace")


def error_event(status: int, body: bytes, dialect: Dialect) -> bytes:
    """An answer that isn't a stream, as one event. An error that the answer holds keeps its
    own fields; of any other answer a short piece is shown."""
    error = _error_in(body)
    if error is None:
        shown = body[:500].decode("utf-8", "replace").strip()
        message = f"The backend answered {status} and no event stream"
        error = {"message": f"{message}: {shown}" if shown else f"{message}."}
    if not isinstance(error.get("message"), str):
        error["message"] = f"The backend answered {status}."
    match dialect:
        case Dialect.OPENAI:
            error.setdefault("type", error_type(status))
            error.setdefault("code", status)
            error.setdefault("param", None)
            return b"data: %b\n\n" % orjson.dumps({"error": error})
        case Dialect.RESPONSES:
            event = {
                "type": "error",
                "code": str(error.get("code") or error_type(status)),
                "message": error["message"],
                "param": error.get("param"),
                "sequence_number": 0,
            }
        case Dialect.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(status, "api_error")
            event = {"type": "error", "error": {"type": kind, "message": error["message"]}}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(event)


# The fields are the backend's own and go on as they are.
def _error_in(body: bytes) -> dict[str, Any] | None:
    """What an answer in one of the usual envelopes says, or None."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    match answer.get("error"):
        case dict() as error:
            return error
        case str() as message:
            return {"message": message}
        case _:
            pass
    for key in ("message", "detail"):
        if isinstance(answer.get(key), str):
            return {"message": answer[key]}
    return None


class HeartbeatExchange:
    """An exchange that may begin to answer before there is an answer."""

    def __init__(self, inner: Exchange, dialect: Dialect) -> None:
        self._inner = inner
        self._dialect = dialect
        self._begun = False
        self._responded = False
        self._status = 0
        self._instead: bytearray | None = None
        """What is collected of an answer that isn't an event stream."""
        self.read = inner.read
        self.drained = inner.drained
        self.abort = inner.abort

    @property
    def head(self) -> RequestHead:
        """The client's."""
        return self._inner.head

    @property
    def received_at(self) -> float:
        """The client's."""
        return self._inner.received_at

    @property
    def responded(self) -> bool:
        """A final head came for this exchange; comments don't count."""
        return self._responded

    @property
    def gone(self) -> bool:
        """The client left."""
        return self._inner.gone

    @property
    def body_read(self) -> int:
        """Bytes read of the client's body."""
        return self._inner.body_read

    async def beat(self, text: bytes, more: RawHeaders = ()) -> None:
        """Write a comment; the first one begins the response, with `more` in its head."""
        if not self._begun:
            self._begun = True
            await self._inner.respond(200, b"OK", _HEAD + more)
        await self._inner.write(text)

    async def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """An interim response; too late once the response has begun."""
        if not self._begun:
            await self._inner.inform(status, reason, headers)

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """The final head: dropped where the response has begun."""
        self._responded = True
        self._status = status
        if not self._begun:
            await self._inner.respond(status, reason, headers)
        elif not _is_stream(status, headers):
            self._instead = bytearray()

    def push(self, data: bytes) -> bool:
        """A piece of the body."""
        if self._instead is None:
            return self._inner.push(data)
        self._instead += data[: _LONGEST - len(self._instead)]
        return True

    async def write(self, data: bytes) -> None:
        """A piece of the body; waits while the client is behind."""
        if not self.push(data):
            await self.drained()

    async def finish(self) -> None:
        """The end; what was collected goes out as one event."""
        if self._instead is not None:
            await self._inner.write(error_event(self._status, bytes(self._instead), self._dialect))
        await self._inner.finish()

    def detach(self) -> Detached:
        """Only before the response has begun."""
        return self._inner.detach()


def _is_stream(status: int, headers: RawHeaders) -> bool:
    """Whether a response can go on where the comments ended: bytes of an event stream."""
    kind = b""
    for name, value in headers:
        match name.lower():
            case b"content-type":
                kind = value.partition(b";")[0].strip().lower()
            case b"content-encoding" if value.strip().lower() != b"identity":
                return False
    return status == 200 and kind == b"text/event-stream"
