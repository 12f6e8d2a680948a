"""For whoever opens the launcher's address in a browser: `/`, and the operators' page at `/admin`.

The page's files lie in launcher/ui. They hold nothing that is secret: who opens the page gives
it a key, with which it asks the API.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.endpoint import Context, EndpointTable, Request
from launcher.api.shapes import shape
from launcher.auth.browsers import PAGE_HEADERS
from launcher.errors import LauncherError

ENDPOINTS = EndpointTable()

UI: Final = Path(__file__).resolve().parent.parent / "ui"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE_HEADERS: Final = {name.decode(): value.decode() for name, value in PAGE_HEADERS}


@shape
class Pointer(TypedDict):
    """Where to look next."""

    message: str
    see: list[str]
    """Paths."""


@ENDPOINTS.add("GET", "/", need="open", tag="page", answers={200: Pointer})
async def get_pointer(context: Context, request: Request) -> web.Response:
    """Points to the others."""
    return json_answer(
        Pointer(
            message="This is a lazy-launch proxy. Clients of the OpenAI API use "
            "/openai/v1; each route answers under its own prefix.",
            see=["/admin", "/openai/v1/models", "/routes", "/stats", "/healthz", "/readyz"],
        )
    )


@ENDPOINTS.add("GET", "/admin", need="open", tag="page", produces="text/html")
async def get_page(context: Context, request: Request) -> web.Response:
    """The page: what runs, what waits, the last hour, and the buttons. It asks for a key where
    one is set."""
    return _answer("index.html", await asyncio.to_thread(_content, "index.html"))


@ENDPOINTS.add("GET", "/admin/", need="open", tag="page", produces="text/html")
async def find_page(context: Context, request: Request) -> web.Response:
    """Leads to the page."""
    # Relative, since another proxy may have put a prefix before it.
    return web.Response(status=308, headers={"Location": "../admin"})


@ENDPOINTS.add("GET", "/admin/{file}", need="open", tag="page", produces="text/javascript")
async def get_page_file(context: Context, request: Request) -> web.Response:
    """The page's script, style and pictures."""
    name = request.args["file"]
    if name not in await asyncio.to_thread(_names):
        raise LauncherError("unknown_route", "The page has no such file. It is at /admin.")
    return _answer(name, await asyncio.to_thread(_content, name))


@cache
def _names() -> frozenset[str]:
    return frozenset(one.name for one in UI.iterdir() if one.suffix in _TYPES)


@cache
def _content(name: str) -> bytes:
    return (UI / name).read_bytes()


def _answer(name: str, content: bytes) -> web.Response:
    suffix = Path(name).suffix
    # Asked for anew each time: a few kilobytes, and never the page of another version.
    headers = {"Content-Type": _TYPES[suffix], "Cache-Control": "no-cache"}
    if suffix == ".html":
        headers |= _PAGE_HEADERS
    return web.Response(body=content, headers=headers)
