"""A front on a free port for one test, and handlers that tell the test what they saw."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from launcher.http.exchange import Exchange, Handler, RequestHead
from launcher.proxy.front import Front
from tests.proxy.raw_client import PATIENCE

from launcher.config import Listen

LOCAL = Listen("127.0.0.1", 0)
OK = ((b"Content-Length", b"2"),)


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, at: Listen = LOCAL, **options: Any
) -> AsyncIterator[tuple[Front, Listen]]:
    """An open front and its address."""
    front = Front(handler, **options)
    await front.bind([at])
    await front.open(tls)
    try:
        yield front, front.addresses[0]
    finally:
        await front.close(0)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.005)


async def say_ok(exchange: Exchange) -> None:
    """The shortest answer."""
    await exchange.respond(200, b"OK", OK)
    await exchange.write(b"ok")
    await exchange.finish()


class Seen:
    """A handler that keeps the heads and bodies it was given, and answers."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.bodies: list[bytes] = []

    async def __call__(self, exchange: Exchange) -> None:
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

    async def __call__(self, exchange: Exchange) -> None:
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
