"""The proxy that one would write first: aiohttp in front, its ClientSession behind.

    python -m bench.datapath.plain PORT BACKEND_PORT

Written for the comparison, as its documentation suggests and with care: one session, no limits,
hop-by-hop headers dropped, bodies streamed both ways, WebSockets carried. It looks at nothing.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import ClientSession, ClientTimeout, TCPConnector, WSMsgType, web

DROPPED = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding "
    "upgrade host".split()
)


class Plain:
    """Forwards everything to one backend."""

    def __init__(self, session: ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request, and its answer."""
        url = self._base + request.raw_path
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, url)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in DROPPED]
        body = request.content.iter_any() if request.body_exists else None
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in DROPPED:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def _websocket(self, request: web.Request, url: str) -> web.StreamResponse:
        front = web.WebSocketResponse(compress=False)
        await front.prepare(request)
        async with self._session.ws_connect(url) as back:

            async def back_to_front() -> None:
                async for message in back:
                    if message.type is WSMsgType.BINARY:
                        await front.send_bytes(message.data)

            task = asyncio.create_task(back_to_front())
            try:
                async for message in front:
                    if message.type is WSMsgType.BINARY:
                        await back.send_bytes(message.data)
            finally:
                task.cancel()
        return front


async def serve(port: int, backend: int) -> None:
    """Serve until the process is ended."""
    async with ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=60),
        timeout=ClientTimeout(total=None),
        auto_decompress=False,
    ) as session:
        plain = Plain(session, f"http://127.0.0.1:{backend}")
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", plain.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
