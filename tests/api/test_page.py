"""/admin: the page's files, and nothing else of the disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.api.openapi import ENDPOINTS
from launcher.api.page import UI
from tests.api.world import asking

FILES = sorted(one for one in UI.iterdir() if one.is_file())
CONTENT = {one.name: one.read_bytes() for one in FILES}


async def test_the_page_is_html() -> None:
    async with asking() as here:
        answer = await here.get("/admin")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.body.startswith(b"<!doctype html>")


async def test_each_file_is_served_as_what_it_is() -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    async with asking() as here:
        for file in FILES:
            answer = await here.get(f"/admin/{file.name}")
            assert answer.body == CONTENT[file.name]
            assert answer.headers["content-type"].startswith(kinds.get(file.suffix, "text/html"))


async def test_with_a_slash_behind_it_leads_to_the_page() -> None:
    async with asking() as here:
        answer = await here.get("/admin/")
    assert (answer.status, answer.headers["location"]) == (308, "../admin")


@pytest.mark.parametrize(
    "name", ["..%2F__init__.py", "../admin.py", "..", "%2Fetc%2Fpasswd", "waiting", "nothing.js"]
)
async def test_nothing_else_is(name: str) -> None:
    async with asking() as here:
        assert (await here.get(f"/admin/{name}")).code == "unknown_route"


async def test_the_address_itself_points_to_what_there_is() -> None:
    async with asking() as here:
        see = (await here.get("/")).json["see"]
    assert set(see) < {one.path for one in ENDPOINTS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline(file: Path) -> None:
    text = file.read_text("utf-8").replace("http://www.w3.org/", "")
    assert not re.search(r"https?://|(src|href)=\"//|url\((?!#)", text)
    if file.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
        assert re.findall(r"<script[^>]*>(.*?)</script>", text) == [""]
    if file.suffix == ".js":
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert not re.search(r"(local|session)Storage|indexedDB|document\.cookie", text)
