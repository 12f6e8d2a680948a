"""Chromium for the pages' tests. Whatever a page says on its console as an error, a breach of
its policy above all, fails the test that made it say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

#: Under what names distributions have it.
NAMES = ("chromium", "chromium-browser", "google-chrome")

Open = Callable[..., Page]


def installed() -> str:
    """Debian's Chromium. Without one the tests are skipped by name on a laptop, and fail in
    CI."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser here: none of {', '.join(NAMES)}; see scripts/browser.sh")
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is here")
    return program


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module at a time: Playwright's loop must not meet another test's."""
    program = installed()
    with sync_playwright() as playwright:
        # As root, and in most containers, there are no namespaces to be had for a sandbox.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def expected() -> list[str]:
    """Beginnings of errors that the test means its page to say."""
    return []


@pytest.fixture
def open_page(browser: Browser, expected: list[str]) -> Iterator[Open]:
    """`open_page(url, width=360, color_scheme="dark", …)`: a page in a context of its own."""
    wrong: list[str] = []
    contexts = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.text} ({message.location.get('url')})")

    def make(url: str, *, width: int = 1200, height: int = 900, **more: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url, wait_until="commit")
        return page

    yield make
    for context in contexts:
        context.close()
    assert [one for one in wrong if not one.startswith(tuple(expected))] == []
