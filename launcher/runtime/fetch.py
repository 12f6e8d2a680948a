"""One GET on a connection of its own, for probes and `busy` questions.

Not for clients' traffic. It follows no redirect, keeps no connection and no cookie, and
translates every foreign exception into FetchFailed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

import httptools

from launcher.http.endpoint import Endpoint

Stage = Literal["refused", "unanswered", "closed", "silent", "malformed"]
"""How far it came: nobody listens; the connection wasn't taken; it was taken and closed;
it was taken and nothing was said in time; what was said isn't HTTP."""


class FetchFailed(Exception):
    """No answer. The text says what was seen, for a person."""

    def __init__(self, stage: Stage, seen: str) -> None:
        super().__init__(seen)
        self.stage = stage
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Reply:
    """A response's status and as much of its body as was asked for."""

    status: int
    body: bytes = b""
    truncated: bool = False
    """The body went on beyond the limit."""


class _Parsed:
    """httptools' callbacks: the first final response."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status: int | None = None
        self.body = bytearray()
        self.complete = False

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.status is None and status >= 200:
            self.status = status

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        # An interim (1xx) response is a message of its own.
        self.complete = self.status is not None


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@contextlib.asynccontextmanager
async def connected(
    endpoint: Endpoint, timeout: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, closed at the end of the block. The time allowed covers connect and block.

    Raises FetchFailed for everything that the network may do.
    """
    stage: Stage = "unanswered"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            if endpoint.unix_path is not None:
                reader, writer = await asyncio.open_unix_connection(endpoint.unix_path)
            elif endpoint.scheme == "https":
                name = endpoint.server_name or endpoint.host
                reader, writer = await asyncio.open_connection(
                    endpoint.host, endpoint.port, ssl=_tls(), server_hostname=name
                )
            else:
                reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            stage = "silent"
            yield reader, writer
    except TimeoutError:
        did = (
            "did not take the connection"
            if stage == "unanswered"
            else ("took the connection but did not answer")
        )
        raise FetchFailed(stage, f"{endpoint} {did} within {timeout:g} s") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise FetchFailed("refused", f"{endpoint} refused the connection") from None
    except ssl.SSLError as error:
        reason = error.reason or type(error).__name__
        raise FetchFailed("malformed", f"{endpoint} failed TLS ({reason})") from None
    except socket.gaierror:
        raise FetchFailed("refused", f"the name {endpoint.host} is unknown") from None
    except (ConnectionError, EOFError):
        raise FetchFailed(
            "closed", f"{endpoint} took the connection and closed it without an answer"
        ) from None
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise FetchFailed("unanswered", f"{endpoint} can't be reached ({what})") from None
    finally:
        if writer is not None:
            writer.transport.abort()
            # The socket is closed in the loop's next round: none is left when this returns.
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def fetch(
    endpoint: Endpoint,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    timeout: float,
    limit: int = 0,
) -> Reply:
    """GET `path` (behind the endpoint's base path). `timeout` in seconds for all of it.

    With `limit` 0 it returns as soon as the status is known, else with up to that many
    bytes of the body. Raises FetchFailed.
    """
    lines = [
        f"GET {endpoint.base_path}{path} HTTP/1.1",
        f"Host: {endpoint.authority}",
        "Accept: */*",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    parsed = _Parsed()
    async with connected(endpoint, timeout) as (reader, writer):
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        while not parsed.complete:
            data = await reader.read(65536)
            if not data:
                if parsed.status is None:
                    raise EOFError
                break
            try:
                parsed.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                break
            except httptools.HttpParserError:
                raise FetchFailed("malformed", f"{endpoint} did not answer in HTTP") from None
            if parsed.status is not None and (not limit or len(parsed.body) > limit):
                break
    if parsed.status is None:
        raise FetchFailed("malformed", f"{endpoint} did not answer in HTTP")
    truncated = bool(limit) and len(parsed.body) > limit
    return Reply(parsed.status, bytes(parsed.body[:limit]), truncated)
