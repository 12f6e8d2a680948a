"""The endpoints at an address, on a loop and a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launcher.api.endpoint import Context
from tests.api.world import a_server
from tests.keyring import a_key


@contextmanager
def served(
    make: Callable[[], Context], *, key: str | None = None, unix: Path | None = None
) -> Iterator[str]:
    """Serve what `make` makes (on the serving loop); yields the URL. With `key`, every path
    needs it."""
    ready = threading.Event()
    where: list[str] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        context = make()
        if key is not None:
            keys = (a_key(key, "infer", "admin"),)
            context = replace(context, config=replace(context.config, keys=keys))
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        sock = _bound(unix)
        async with a_server(context) as (server, _):
            create = loop.create_unix_server if unix else loop.create_server
            listener = await create(server.protocol, sock=sock)
            where.append(f"unix:{unix}" if unix else f"http://127.0.0.1:{sock.getsockname()[1]}")
            ready.set()
            await stopped.wait()
            listener.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="served")
    thread.start()
    assert ready.wait(30)
    try:
        yield where[0]
    finally:
        stop[0]()
        thread.join(30)
        assert not thread.is_alive()


def _bound(unix: Path | None) -> socket.socket:
    if unix is None:
        return socket.create_server(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(unix))
    return sock
