"""What a browser is shown that opens a page of a backend which isn't up: a page that waits.

It keeps the visitor's place in the queue, tells how far things are, and goes on to what was
asked for by itself. There is one place for each client and route, so that a reload keeps it;
it lasts for as long as a page follows it, and a moment longer. Nothing else is ever answered
here: who doesn't ask for a page waits as before. It must not know how backends are started.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Final

import orjson

from launcher.core.types import BackendId
from launcher.errors import LauncherError, retry_after
from launcher.http.exchange import Exchange, RawHeaders, RequestHead
from launcher.proxy.open_record import OpenRecord
from launcher.proxy.own import send
from launcher.proxy.resolved import Resolved
from launcher.runtime.admission import Admission, Grant, Progress

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


@dataclass(frozen=True, slots=True)
class Guest:
    """A browser that is to be shown something."""

    exchange: Exchange
    record: OpenRecord
    route: str
    """The route's name."""
    backends: tuple[BackendId, ...]
    """Where it leads."""
    details: bool
    """May see what is for operators."""
    elsewhere: Callable[[], object]
    """True where it leads to others by now: there has been a reload."""

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
        record.status, record.response_bytes = status, len(body)
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
            record.response_bytes += len(line)
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


def opens_a_page(head: RequestHead, found: Resolved) -> bool:
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
