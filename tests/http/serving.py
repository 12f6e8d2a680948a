"""A server on a free port for one test, and handlers that tell the test what they saw."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from launcher.http.endpoint import Listen
from launcher.http.headers import RequestHead
from launcher.http.listener import Server
from launcher.http.server import Limits, Request
from tests.http.raw_client import PATIENCE

LOCAL = Listen("127.0.0.1", 0)
OK = ((b"Content-Length", b"2"),)


Handler = Callable[[Request], Coroutine[Any, Any, None]]


def carrying(handler: Handler) -> Callable[[Request], None]:
    """Return an `on_request` that runs a coroutine for each request."""

    def on_request(request: Request) -> None:
        request.carry(handler(request))

    return on_request


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, at: Listen = LOCAL, **limits: Any
) -> AsyncIterator[tuple[Server, Listen]]:
    """An open server and its address."""
    server = Server(carrying(handler), Limits(**limits))
    await server.bind([at])
    await server.open(tls)
    try:
        yield server, server.addresses[0]
    finally:
        await server.close(0)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.005)


async def say_ok(exchange: Request) -> None:
    """The shortest answer."""
    await exchange.respond(200, b"OK", OK)
    await exchange.write(b"ok")
    await exchange.finish()


class Seen:
    """A handler that keeps the heads and bodies it was given, and answers."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.bodies: list[bytes] = []

    async def __call__(self, exchange: Request) -> None:
        self.heads.append(exchange.head)
        body = b""
        while piece := await exchange.read():
            body += piece
        self.bodies.append(body)
        await say_ok(exchange)


class Watched:
    """Runs a handler and keeps how it ended: None, or the exception."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.outcome: BaseException | None = None

    async def __call__(self, exchange: Request) -> None:
        self.entered.set()
        try:
            await self.handler(exchange)
        except BaseException as error:
            self.outcome = error
            raise
        finally:
            self.left.set()

    async def ended(self) -> BaseException | None:
        """Wait until the handler is over, however."""
        await asyncio.wait_for(self.left.wait(), PATIENCE)
        return self.outcome
