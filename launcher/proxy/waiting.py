"""What a client sees while it waits: a page in a browser, comments in an event stream.

The page keeps the visitor's place in the queue, tells how far things are, and goes on to what was
asked for by itself. There is one place for each client and route, so that a reload keeps it;
it lasts for as long as a page follows it, and a moment longer. Nothing else is ever answered
here: who doesn't ask for a page waits as before.

The comments are for a client that waits for a stream, so that its read timeout doesn't fire.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any, Final, Protocol

import orjson

from launcher.core.types import BackendId
from launcher.errors import LauncherError, error_type, retry_after
from launcher.http.headers import RawHeaders, RequestHead
from launcher.http.server import NO_BODY, Request
from launcher.http.upstream import ResponseHead
from launcher.proxy.own import send
from launcher.proxy.router import Destination
from launcher.runtime.admission import Admission, Grant, Progress
from launcher.telemetry.record import Outcome

UI: Final = Path(__file__).resolve().parent.parent / "ui" / "waiting"

#: With this header the page asks how far things are, at the address that it stands for.
FOLLOWS: Final = b"x-launcher-waiting"

#: Seconds in which a backend may come up without a page in between.
SHORT: Final = 0.5
#: Seconds between two lines of progress.
EVERY: Final = 1.0
#: Seconds that a place is kept for which nobody asks any more, and, once it is granted, for
#: the browser to come back.
GRACE: Final = 15.0
BACK: Final = 5.0

LastLine = Callable[[BackendId], Awaitable[str]]
"""The last line that a backend printed, redacted; empty without one. Never raises."""

_Key = tuple[str, str, tuple[BackendId, ...]]
"""The client, the route, and where it leads."""


class Record(Protocol):
    """What is noted of the answer to a browser."""

    request: Request
    status: int
    code: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Guest:
    """A browser that is to be shown something."""

    record: Record
    route: str
    """The route's name."""
    backends: tuple[BackendId, ...]
    """Where it leads."""
    details: bool
    """May see what is for operators."""
    elsewhere: Callable[[], object]
    """True where it leads to others by now: there has been a reload."""

    @property
    def exchange(self) -> Request:
        """The browser's request."""
        return self.record.request

    def may_go_on(self, error: LauncherError) -> bool:
        """What it waited for is no longer configured, and the route is."""
        return error.code == "backend_stopped" and bool(self.elsewhere())


class WaitingRoom:
    """The places of browsers that wait."""

    def __init__(self, last_line: LastLine) -> None:
        self._last_line = last_line
        self._places: dict[_Key, _Place] = {}

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self._places)} places>"

    async def receive(self, guest: Guest, admission: Admission, held: ExitStack) -> Grant | None:
        """A browser whose ticket isn't granted yet; `held` lets go of the ticket.

        The grant where it comes at once; None where the browser has been answered. Raises
        `backend_stopped` where it has to be asked for elsewhere now.
        """
        await asyncio.to_thread(_parts)
        key = (guest.exchange.head.peer, guest.route, guest.backends)
        while True:
            place = self._places.get(key)
            first = admission if place is None else place.admission
            try:
                async with asyncio.timeout(SHORT if place is None else 0.0):
                    grant = await first.granted()
            except TimeoutError:
                break
            except LauncherError as error:
                self._leave(key, place)
                if guest.may_go_on(error):
                    raise
                await self._refuse(guest, error)
                return None
            if place is None:
                return grant
            # What was waited for is there, and this is the browser coming back for it.
            self._leave(key, place)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(admission, held.pop_all())
        else:
            held.close()
        place.come()
        try:
            if guest.exchange.head.get(FOLLOWS) is not None:
                await self._follow(guest, key, place)
            else:
                told = _told(guest, place.admission.progress())
                body = _page(title=str(told["title"]), phase=str(told["phase"]))
                await self._send(guest, 202, body)
        finally:
            place.go(partial(self._leave, key, place))
        return None

    def _leave(self, key: _Key, place: _Place | None) -> None:
        if place is not None:
            place.leave()
            if self._places.get(key) is place:
                del self._places[key]

    async def _refuse(self, guest: Guest, error: LauncherError) -> None:
        guest.record.code, guest.record.outcome = error.code, "error"
        told = _failed(guest, error)
        body = _page(title=told["title"], phase=told["error"], detail=told["detail"], failed=True)
        await self._send(guest, error.status, body, retry_after(error))

    async def _send(self, guest: Guest, status: int, body: bytes, more: RawHeaders = ()) -> None:
        record = guest.record
        record.status = status
        length = (b"Content-Length", b"%d" % len(body))
        headers = (*_HEADERS, (b"Content-Security-Policy", _policy()), length, *more)
        await send(guest.exchange, status, HTTPStatus(status).phrase.encode(), headers, body)

    async def _follow(self, guest: Guest, key: _Key, place: _Place) -> None:
        """Lines of progress until there is nothing to wait for."""
        exchange, record = guest.exchange, guest.record
        record.status = 200
        await exchange.respond(200, b"OK", _STREAM)
        while True:
            line = await self._line(guest, place)
            await exchange.write(line)
            try:
                async with asyncio.timeout(EVERY):
                    await place.admission.granted()
            except TimeoutError:
                continue
            except LauncherError as error:
                # Told now: who tries again has a place of their own.
                self._leave(key, place)
                last: dict[str, str] | dict[str, bool] = _failed(guest, error)
                if guest.may_go_on(error):
                    last = {"ready": True}
                else:
                    record.code = error.code
            else:
                last = {"ready": True}
            await exchange.write(orjson.dumps(last, option=orjson.OPT_APPEND_NEWLINE))
            await exchange.finish()
            return

    async def _line(self, guest: Guest, place: _Place) -> bytes:
        progress = place.admission.progress()
        told = _told(guest, progress)
        if guest.details and progress.phase == "starting":
            told["line"] = await self._last_line(progress.backend)
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


class _Place:
    """One ticket, kept for as long as somebody comes back to it."""

    def __init__(self, admission: Admission, held: ExitStack) -> None:
        self.admission = admission
        self._held = held
        self._here = 0
        self._end: asyncio.TimerHandle | None = None

    def come(self) -> None:
        """One more page stands for it."""
        self._here += 1
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def go(self, forget: Callable[[], object]) -> None:
        """One less; after a moment without any the ticket is let go of."""
        self._here -= 1
        if self._here:
            return
        delay = GRACE if self.admission.grant is None else BACK
        self._end = asyncio.get_running_loop().call_later(delay, forget)

    def leave(self) -> None:
        """Let go of the ticket; once more: nothing."""
        self._held.close()


def opens_a_page(head: RequestHead, found: Destination) -> bool:
    """Whether somebody looks at what comes: a browser that goes to an address, or the waiting
    page itself. Asked only where there is something to wait for."""
    if head.method != "GET" or head.upgrade is not None or found.asked or head.has_body:
        return False
    if head.get(FOLLOWS) is not None:
        return True
    mode = head.get(b"sec-fetch-mode")
    if mode is not None:
        # W3C Fetch Metadata: sent to trustworthy addresses only, and never by a script's word.
        return mode.strip().lower() == b"navigate"
    if head.get(b"x-requested-with") is not None:
        return False
    return (head.get(b"accept") or b"").strip().lower().startswith(b"text/html")


_HEADERS: Final[RawHeaders] = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"same-origin"),
    (b"X-Launcher-Waiting", b"1"),
)
_STREAM: Final[RawHeaders] = (
    (b"Content-Type", b"application/x-ndjson"),
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),
    (b"X-Launcher-Waiting", b"1"),
)


def _told(guest: Guest, progress: Progress) -> dict[str, object]:
    """How far things are, for the page's script."""
    forecast = progress.forecast
    starting = progress.phase == "starting"
    phase = progress.phase
    if not starting and phase != "queued" and not guest.details:
        phase = "making room for it"  # whom it is made by is nobody else's business
    return {
        "title": f"Starting {guest.route}" if starting else f"Waiting for {guest.route}",
        "phase": "It is being started." if starting else f"{phase[0].upper()}{phase[1:]}.",
        "waited_seconds": round(progress.waited, 1),
        "left_seconds": None if forecast is None else round(forecast.seconds, 1),
        "spread_seconds": None if forecast is None else round(forecast.spread, 1),
        "place": None if forecast is None else forecast.place,
        "line": "",
    }


def _failed(guest: Guest, error: LauncherError) -> dict[str, str]:
    """Why there is nothing to wait for any more."""
    return {
        "title": f"{guest.route} isn't up",
        "error": error.message,
        "detail": (error.detail or "") if guest.details else "",
    }


def _page(*, title: str, phase: str, failed: bool = False, detail: str = "") -> bytes:
    """The page, whole: at the address of another there is nowhere to load a script from."""
    template, style, script = _parts()
    return (
        template.substitute(
            title=html.escape(title),
            phase=html.escape(phase),
            detail=html.escape(detail),
            failed="true" if failed else "false",
            nodetail="" if detail else " hidden",
            noagain="" if failed else " hidden",
            refresh="" if failed else _REFRESH,
            style=style,
            script=script,
        )
    ).encode("utf-8", "replace")


_REFRESH: Final = '<noscript><meta http-equiv="refresh" content="5"></noscript>'


@cache
def _parts() -> tuple[Template, str, str]:
    read = [(UI / name).read_text("utf-8") for name in ("page.html", "style.css", "script.js")]
    return Template(read[0]), read[1], read[2]


@cache
def _policy() -> bytes:
    """Its own style and script, known by their digests, and its own address to ask."""
    _, style, script = _parts()
    return (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    ).encode()


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- comments in an event stream ------------------------------------------------------------

#: Seconds between two comments, at most.
INTERVAL: Final = 10.0

_COMMENTS_HEAD: Final = (
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


class Heartbeat:
    """The response of a client that waits for a stream, which may begin before there is an answer.
    Once the first comment is out it is an event stream: whatever comes next that isn't one becomes
    a single error event in the dialect of the API that was asked."""

    framing = NO_BODY
    """Nothing is passed on as it came: see `http.upstream.Sink`."""

    def __init__(self, request: Request, dialect: Dialect) -> None:
        self._request = request
        self._dialect = dialect
        self.begun = False
        """A comment is out."""
        self.responded = False
        """A final head came for this exchange; comments don't count."""
        self._status = 0
        self._instead: bytearray | None = None
        """What is collected of an answer that isn't an event stream."""

    async def beat(self, text: bytes, *, cold: bool) -> None:
        """Write a comment; the first one begins the response."""
        if not self.begun:
            self.begun = True
            more = ((b"X-Launcher-Cold-Start", b"1"),) if cold else ()
            self._request.start(200, b"OK", _COMMENTS_HEAD + more)
        await self._request.write(text)

    def take_head(self, head: ResponseHead) -> None:
        """The final head came: dropped, since the response has begun."""
        self.responded = True
        self._status = head.status
        if not _is_stream(head):
            self._instead = bytearray()

    def push(self, data: bytes) -> bool:
        """Take a piece of the body."""
        if self._instead is None:
            return self._request.push(data)
        self._instead += data[: _LONGEST - len(self._instead)]
        return True

    def push_chunks(self, data: bytes, payload: int) -> None:
        """Never asked for: see `framing`."""
        raise AssertionError("a heartbeat's body is taken apart")

    def flush(self) -> None:
        """Nothing is held back."""

    def tell(self, status: int, body: bytes) -> None:
        """The answer is an error of our own."""
        self.responded = True
        self._request.push(error_event(status, body, self._dialect))

    def end(self) -> None:
        """The answer is whole; what was collected goes out as one event."""
        if self._instead is not None:
            self.tell(self._status, bytes(self._instead))


def _is_stream(head: ResponseHead) -> bool:
    """Whether a response can go on where the comments ended: bytes of an event stream."""
    kind = head.value_of(b"content-type: ").partition(b";")[0].strip().lower()
    coding = head.value_of(b"content-encoding: ").strip().lower()
    return head.status == 200 and kind == b"text/event-stream" and coding in (b"", b"identity")
