"""`/admin`: the operators' page, its script and its style, as they lie in launcher/ui.

The files hold nothing that is secret and know nobody: who opens the page gives it a key, with
which it asks the API.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Final

from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.errors import LauncherError

UI: Final = Path(__file__).resolve().parent.parent / "ui"

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Page:
    """The page's files, read when they are first asked for."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /admin and below"""
        return (
            Endpoint(
                method="GET", path="/admin", need="open", answer=self.index,
                tag="page", operation="get_page", produces="text/html",
                summary="The page: what runs, what waits, the last hour, and the buttons. It asks "
                "for a key where one is set.",
            ),
            Endpoint(
                method="GET", path="/admin/", need="open", answer=self.astray,
                tag="page", operation="find_page", produces="text/html",
                summary="Leads to the page.",
            ),
            Endpoint(
                method="GET", path="/admin/{file}", need="open", answer=self.file,
                tag="page", operation="get_page_file", produces="text/javascript",
                summary="The page's script, style and pictures.",
            ),
        )  # fmt: skip

    async def index(self, request: ApiRequest) -> ApiResponse:
        """GET /admin"""
        return await asyncio.to_thread(_answer, "index.html")

    async def astray(self, request: ApiRequest) -> ApiResponse:
        """GET /admin/: relative, for another proxy may have put a prefix before it."""
        return ApiResponse(b"", 308, "text/html; charset=utf-8", (("Location", "../admin"),))

    async def file(self, request: ApiRequest) -> ApiResponse:
        """GET /admin/{file}"""
        name = request.args["file"]
        if name not in await asyncio.to_thread(_names):
            raise LauncherError("unknown_route", "The page has no such file. It is at /admin.")
        return await asyncio.to_thread(_answer, name)


@cache
def _names() -> frozenset[str]:
    return frozenset(one.name for one in UI.iterdir() if one.suffix in _KINDS)


@cache
def _answer(name: str) -> ApiResponse:
    # Asked for anew each time: a few kilobytes, and never the page of another version.
    kind, headers = _KINDS[Path(name).suffix], (("Cache-Control", "no-cache"),)
    return ApiResponse((UI / name).read_bytes(), 200, kind, headers)
