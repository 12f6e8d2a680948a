"""A backend's response read from bytes: heads, pieces of the body, and where it ends.

On httptools (llhttp), one reader per exchange. It must not know sockets or loops: whoever
owns the connection feeds it and asks what has come.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from launcher.errors import LauncherError
from launcher.http.exchange import RawHeaders
from launcher.proxy.headers import response_headers

#: Bytes of heads, interim ones included, that a backend may send before its final one ends.
MAX_HEAD: Final = 256 * 1024


class BadResponse(Exception):
    """The backend's answer breaks HTTP."""


class Truncated(ConnectionError):
    """The connection ended before the response did."""


class ResponseHead(NamedTuple):
    """An interim or final head, without hop-by-hop headers."""

    status: int
    reason: bytes
    headers: RawHeaders
    upgrade: bytes | None = None
    """What the backend switches to, on a 101."""

    @property
    def final(self) -> bool:
        """101 is the last that HTTP says here, and so as final as a 200."""
        return self.status >= 200 or self.status == 101


class ResponseReader:
    """Reads one response, with the interim ones before it."""

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_method",
        "_parser",
        "_reason",
        "_upgrade",
        "buffered",
        "close_delimited",
        "complete",
        "heads",
        "keep_alive",
        "leftover",
        "pieces",
        "started",
        "surplus",
        "switched",
    )

    def __init__(self, method: str, *, upgrade: bool = False) -> None:
        self._method = method
        self._upgrade = upgrade
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_bytes = 0
        self.heads: list[ResponseHead] = []
        """Not yet fetched, in order; the last one may be final."""
        self.pieces: list[bytes] = []
        """Of the body, not yet fetched."""
        self.buffered = 0
        """Their bytes."""
        self.started = False
        """The final head has come."""
        self.complete = False
        self.close_delimited = False
        """The end of the connection is the end of the body."""
        self.keep_alive = False
        """The backend means to keep the connection."""
        self.surplus = False
        """More came than the response: the connection is not to be trusted any more."""
        self.switched = False
        """A 101 has come: the connection no longer speaks HTTP."""
        self.leftover = b""
        """What came behind a 101: not HTTP any more."""
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "body" if self.started else "head"
        return f"<ResponseReader {self._method} {state}, {self.buffered} bytes held>"

    def feed(self, data: bytes) -> None:
        """Take in bytes. Raises BadResponse; what came before the fault is kept."""
        if self.complete:
            if self.switched:
                self.leftover += data
            else:
                self.surplus = True
            return
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as at:
            # Nothing but a 101 that was asked for gets here; see on_headers_complete.
            self.leftover = data[at.args[0] :]
        except HttpParserError as error:
            if self.complete:
                self.surplus = True
                return
            if isinstance(error.__context__, BadResponse):
                raise error.__context__ from None
            raise BadResponse(f"its response can't be parsed: {error}") from None
        if self.complete:
            # Parser and reader refer to each other; let go without the garbage collector.
            self._parser = None
        elif not self.started:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                raise BadResponse(f"the head of its response is larger than {MAX_HEAD} bytes")

    def end(self) -> None:
        """The backend closed, cleanly. Raises Truncated where the response isn't whole."""
        if self.complete:
            return
        if not self.close_delimited:
            raise Truncated("it closed the connection in the middle of its response")
        self.complete = True
        self._parser = None

    def close(self) -> None:
        """Nothing more comes; what came can still be read. Parser and reader refer to each
        other: let go, an aborted response doesn't wait for the garbage collector."""
        self._parser = None

    def take(self) -> bytes:
        """All of the body that has come and wasn't taken yet."""
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered = 0
        return data

    # -- called by the parser ----------------------------------------------------------

    def on_message_begin(self) -> None:
        """A status line begins: of the next head, or of what nobody asked for."""
        if self.complete:
            self.surplus = True

    def on_status(self, status: bytes) -> None:
        """A part of the reason."""
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped (RFC 9110 §6.5.1 allows that)."""
        if not self.started:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is whole: decide how its body is framed (RFC 9112 §6.3)."""
        if self.complete:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        reason, headers = self._reason, self._headers
        self._reason, self._headers = b"", []
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0") or status < 100:
            raise BadResponse(f"its response is HTTP/{version} with status {status}")
        try:
            fields = response_headers(headers, reason)
        except LauncherError as error:
            raise BadResponse("it sent control characters in its headers") from error
        codings = fields.codings
        if codings and (
            version == "1.0" or len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked"
        ):
            raise BadResponse("it used a transfer coding other than `chunked`")
        if status == 101:
            if not self._upgrade or fields.upgrade is None:
                raise BadResponse("it switched to a protocol that nobody asked for")
        elif status < 200 and (codings or fields.content_length is not None):
            raise BadResponse("it gave an interim response a body")
        self.heads.append(ResponseHead(status, reason, fields.headers, fields.upgrade))
        if status < 200 and status != 101:
            return
        self.started = True
        self.switched = status == 101
        if status == 101 or status in (204, 304) or self._method == "HEAD":
            # llhttp has no switch for this: what it reads behind such a head is surplus.
            self.complete = True
        else:
            self.close_delimited = not codings and fields.content_length is None
        if version == "1.1":
            self.keep_alive = b"close" not in fields.connection and not self.close_delimited
        else:
            self.keep_alive = b"keep-alive" in fields.connection and not self.close_delimited

    def on_body(self, data: bytes) -> None:
        """A piece of the body; or of what nobody asked for, a second response in disguise."""
        if self.complete:
            self.surplus = True
            return
        self.pieces.append(data)
        self.buffered += len(data)

    def on_message_complete(self) -> None:
        """The end of the message that is being read."""
        if self.started:
            self.complete = True
