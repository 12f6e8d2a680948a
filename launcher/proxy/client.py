"""The Exchange that a client's connection carries: its body in, its response out.

Bytes go straight to the transport, one write per event. It must not know how requests are
parsed, how connections are kept, or anything of aiohttp but its stream of the body.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from aiohttp import StreamReader

from launcher.errors import LauncherError
from launcher.http.exchange import ClientGone, Detached, RawHeaders, RequestHead
from launcher.proxy.outgoing import Framing, Outgoing, interim

#: The largest piece `read` returns, in bytes.
PIECE = 256 * 1024
#: An unread rest of a body up to this many bytes is taken in so that the connection can be kept.
SMALL_REST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of the front. Seconds and bytes."""

    head_timeout: float
    body_timeout: float
    keepalive: float
    max_head: int


class Link(Protocol):
    """What an exchange needs of the connection it came on."""

    transport: asyncio.Transport | None
    """None when the client is gone, or the connection is no longer ours."""

    @property
    def limits(self) -> Limits: ...

    @property
    def writing_paused(self) -> bool: ...

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was written."""
        ...

    def cut(self, *, reset: bool) -> None:
        """Drop the connection now; `reset` makes even a body that ends with it look broken."""
        ...

    def take_over(self) -> Detached:
        """Take the transport out of HTTP."""
        ...


class ClientExchange:
    """One request of a client and its response. Implements `Exchange`."""

    __slots__ = (
        "_body",
        "_continue_due",
        "_held",
        "_loop",
        "aborted",
        "body_read",
        "detached",
        "finished",
        "gone",
        "head",
        "link",
        "outgoing",
        "problem",
        "received_at",
        "responded",
    )

    def __init__(
        self,
        link: Link,
        head: RequestHead,
        body: StreamReader,
        outgoing: Outgoing,
        problem: LauncherError | None = None,
    ) -> None:
        self.link = link
        self.head = head
        """Checked; of a refused request NO_HEAD."""
        self._body = body
        self._loop = loop = asyncio.get_running_loop()
        self._held = b""
        # Looked at when the handler first reads: until then nobody has to know.
        self._continue_due: bool | None = None
        self.outgoing = outgoing
        self.problem = problem
        """Why the request is refused; the handler never sees it then."""
        self.received_at = loop.time()
        self.body_read = 0
        self.responded = False
        self.finished = False
        self.aborted = False
        self.detached: asyncio.Transport | None = None
        self.gone = False

    def __repr__(self) -> str:
        state = (
            "detached"
            if self.detached
            else "aborted"
            if self.aborted
            else "finished"
            if self.finished
            else "responding"
            if self.responded
            else "received"
        )
        return f"<ClientExchange {self.head.method} {state}{' gone' if self.gone else ''}>"

    @property
    def ended(self) -> bool:
        """Nothing more can be written to the client in HTTP."""
        return self.finished or self.aborted or self.detached is not None

    # -- the request's body ------------------------------------------------------------

    async def read(self) -> bytes:
        """The next piece of the body, at most PIECE bytes, b"" at its end."""
        if self.gone:
            raise ClientGone("the client left")
        try:
            data = self._body.read_nowait(PIECE)
            if not data and not self._body.at_eof():
                self._send_continue()
                async with asyncio.timeout(self.link.limits.body_timeout):
                    data = await self._body.read(PIECE)
        except TimeoutError:
            self.outgoing.keep_alive = False
            raise LauncherError(
                "request_timeout",
                f"Nothing more of the request's body came for {self.link.limits.body_timeout:g} s; "
                "send it again.",
            ) from None
        except (RuntimeError, ConnectionError) as error:
            # A body whose connection is closed can't be waited for (RuntimeError).
            if self.link.transport is None:
                # The body keeps its error, and that the frames that hold the body: a cycle.
                error.__traceback__ = None
                raise ClientGone("the client left") from None
            raise
        self.body_read += len(data)
        return data

    def _send_continue(self) -> None:
        """RFC 9110 §10.1.1: the client waits for it, and now its body is wanted. Where part of
        the body is here already, nobody waits any more."""
        if self._continue_due is None:
            self._continue_due = expects_continue(self.head)
        if self._continue_due and not self.responded:
            self._continue_due = False
            self._send(interim(100, b"Continue", ()))

    @property
    def body_rest(self) -> int | None:
        """Bytes of the body that have not arrived; None: unknown, or not worth waiting for
        since the client still waits for its 100 Continue."""
        if self._body.is_eof():
            return 0
        head = self.head
        if head.content_length is None:
            return None
        if self._continue_due is None and expects_continue(head) and not self._body.total_bytes:
            return None
        return head.content_length - self._body.total_bytes

    async def skip_body(self, seconds: float) -> bool:
        """Take in and drop what is still to come of a small body; whether it all came."""
        try:
            async with asyncio.timeout(seconds):
                while await self._body.readany():
                    pass
        except (TimeoutError, LauncherError, RuntimeError, ConnectionError):
            return False
        return self._body.is_eof()

    # -- the response ------------------------------------------------------------------

    async def inform(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """An interim response; HTTP/1.0 clients don't know any (RFC 9110 §15.2)."""
        if self.responded or self.head.version < (1, 1):
            return
        if status == 100:
            self._continue_due = False
        self._send(interim(status, reason, headers))

    async def respond(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        """The final head. It goes out together with the first piece of the body if that comes
        at once, else at the end of this turn of the loop."""
        if self.responded or self.ended:
            raise RuntimeError(f"a second final response: {self!r}")
        if self.link.transport is None or self.gone:
            raise ClientGone("the client left")
        rest = self.body_rest
        if rest is None or rest > SMALL_REST:
            # What the client still sends would be in the way of its next request.
            self.outgoing.keep_alive = False
        self._held = self.outgoing.head(status, reason, headers)
        self.responded = True
        self._loop.call_soon(self._flush)

    def push(self, data: bytes) -> bool:
        """A piece of the body; False where the client is behind by more than the transport's
        high-water mark (64 KiB)."""
        if not self.responded or self.finished:
            raise RuntimeError(f"a piece of a body outside a response: {self!r}")
        self._send(self.outgoing.piece(data))
        return not self.link.writing_paused

    async def drained(self) -> None:
        """Return when the client isn't behind."""
        if not self.link.writing_paused:
            return
        try:
            await self.link.drained()
        except ConnectionError as error:
            raise ClientGone("the client left") from error
        if self.gone:
            raise ClientGone("the client left")

    async def write(self, data: bytes) -> None:
        """A piece of the body; returns when the client isn't behind."""
        if not self.push(data):
            await self.drained()

    async def finish(self) -> None:
        """The clean end of the response, or an abort where it would be a lie."""
        if self.ended:
            return
        if not self.responded:
            raise RuntimeError("finished before a final response")
        end = self.outgoing.end()
        if end is None:
            self.abort()
            return
        self._send(end)
        self.finished = True
        # Answers without a body would else pile up behind a client that only asks.
        await self.drained()

    def abort(self) -> None:
        """Drop the connection so that the client can tell."""
        if self.ended:
            if self.detached is not None:
                self.detached.abort()
            return
        self.aborted = True
        self._flush()
        self.link.cut(reset=not (self.responded and self.outgoing.ends_visibly))

    def detach(self) -> Detached:
        """The connection, taken out of HTTP; reading is on. Call `set_protocol` on its
        transport before anything is awaited."""
        if self.link.transport is None or self.gone:
            raise ClientGone("the client left")
        self._flush()
        taken = self.link.take_over()
        self.detached = taken.transport
        return taken

    # -- what the connection tells -----------------------------------------------------

    def lost(self) -> None:
        """The connection is gone, whoever ended it."""
        self.gone = True
        if not self._body.is_eof():
            self._body.set_exception(ClientGone("the client left"))

    # -- writing -----------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        transport = self.link.transport
        if transport is None or self.gone:
            raise ClientGone("the client left")
        if self.aborted:
            raise ClientGone("the connection was aborted")
        if self._held:
            data = self._held + data
            self._held = b""
        if data:
            transport.write(data)

    def _flush(self) -> None:
        if self._held and not self.gone:
            transport = self.link.transport
            if transport is not None:
                transport.write(self._held)
            self._held = b""


def expects_continue(head: RequestHead) -> bool:
    """Whether the client holds its body back until it is told to go on. HTTP/1.0 can't ask
    for that; other expectations are ignored (RFC 9110 §10.1.1 allows both)."""
    if not head.has_body or head.version < (1, 1):
        return False
    expect = head.get(b"expect")
    return expect is not None and expect.lower() == b"100-continue"


async def answer(exchange: ClientExchange, rendered: tuple[int, bytes, RawHeaders, bytes]) -> None:
    """Send a whole answer of our own, unless one has begun already: then abort."""
    status, reason, headers, body = rendered
    if exchange.responded or exchange.ended:
        exchange.abort()
        return
    await exchange.respond(status, reason, headers)
    if exchange.outgoing.framing is not Framing.NONE:
        await exchange.write(body)
    await exchange.finish()
