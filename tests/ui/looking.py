"""What the pages' tests look for."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

#: Generous, as everywhere: a busy machine may be slow. Milliseconds.
PATIENCE = 60_000


def card(page: Page, backend: str) -> Locator:
    """A backend's card."""
    return page.get_by_role("article", name=backend, exact=True)


def stands(page: Page, backend: str, state: str) -> None:
    """Wait until the page says so, in words."""
    expect(card(page, backend).locator(".badge")).to_have_text(
        re.compile(rf"^{state}\b"), timeout=PATIENCE
    )


def press(page: Page, backend: str, button: str) -> None:
    """Press one of a card's buttons."""
    card(page, backend).get_by_role("button", name=f"{button} {backend}").click(timeout=PATIENCE)


def live(page: Page) -> None:
    """Wait until it follows the events."""
    expect(page.locator("#link")).to_have_text("live", timeout=PATIENCE)
    expect(page.locator("#main")).to_be_visible(timeout=PATIENCE)


def fits(page: Page) -> bool:
    """Nothing has to be scrolled sideways for."""
    wide: bool = page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return wide
