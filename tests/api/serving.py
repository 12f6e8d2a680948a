"""The endpoints behind a real socket, on a loop and a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from aiohttp import web

from launcher.api.contract import ApiRequest, ApiStream
from launcher.api.endpoint import OwnEndpoints
from launcher.api.shapes import from_json, from_query
from launcher.errors import LauncherError, render


@contextmanager
def served(
    make: Callable[[], OwnEndpoints], *, key: str | None = None, unix: Path | None = None
) -> Iterator[str]:
    """Serve what `make` makes (on the serving loop); yields the URL. With `key`, every path
    needs it."""
    ready = threading.Event()
    where: list[str] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        api = make()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await _answer(api, request, key)
            except LauncherError as error:
                status, _, _, body = render(error, show_detail=True)
                return web.Response(status=status, body=body, content_type="application/json")

        server = web.Server(handle, handler_cancellation=True)
        runner = web.ServerRunner(server)
        await runner.setup()
        if unix is not None:
            await web.UnixSite(runner, str(unix)).start()
            where.append(f"unix:{unix}")
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            where.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="served")
    thread.start()
    assert ready.wait(30)
    try:
        yield where[0]
    finally:
        stop[0]()
        thread.join(30)
        assert not thread.is_alive()


async def _answer(
    api: OwnEndpoints, request: web.BaseRequest, key: str | None
) -> web.StreamResponse:
    sent = request.headers.get("Authorization")
    if key is not None and sent is None:
        raise LauncherError("missing_key", "An API key is needed.")
    if key is not None and sent != f"Bearer {key}":
        raise LauncherError("wrong_key", "That key opens nothing here.")
    found = api.find(request.method, request.raw_path.partition("?")[0])
    if found is None:
        raise LauncherError("unknown_route", "No route matches the path.")
    endpoint = found.endpoint
    answer = await endpoint.answer(
        ApiRequest(
            request.method,
            request.path,
            found.args,
            True,
            from_query(endpoint.query, request.query_string.encode()),
            from_json(endpoint.body, await request.read(), found.args),
        )
    )
    if isinstance(answer, ApiStream):
        stream = web.StreamResponse(
            headers={"Content-Type": answer.content_type, **dict(answer.headers)}
        )
        await stream.prepare(request)
        async with aclosing(answer.pieces) as pieces:
            async for piece in pieces:
                await stream.write(piece)
        return stream
    return web.Response(
        status=answer.status,
        body=answer.body,
        headers={"Content-Type": answer.content_type, **dict(answer.headers)},
    )
