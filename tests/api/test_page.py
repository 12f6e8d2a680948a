"""/admin: the page's files, and nothing else of the disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.api.page import UI, Page
from launcher.errors import LauncherError
from tests.api.world import request

FILES = sorted(one for one in UI.iterdir() if one.is_file())
CONTENT = {one.name: one.read_bytes() for one in FILES}


async def test_the_page_is_html() -> None:
    answer = await Page().index(request(path="/admin"))
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
async def test_each_file_is_served_as_what_it_is(file: Path) -> None:
    answer = await Page().file(request(file=file.name))
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.body == CONTENT[file.name]
    assert answer.content_type.startswith(kinds.get(file.suffix, "text/html"))


async def test_with_a_slash_behind_it_leads_to_the_page() -> None:
    answer = await Page().astray(request(path="/admin/"))
    assert (answer.status, dict(answer.headers)["Location"]) == (308, "../admin")


@pytest.mark.parametrize("name", ["../__init__.py", "..", "", "/etc/passwd", "nothing.js"])
async def test_nothing_else_is(name: str) -> None:
    with pytest.raises(LauncherError) as caught:
        await Page().file(request(file=name))
    assert caught.value.code == "unknown_route"


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_is_two(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 400 or file.suffix == ".css"
