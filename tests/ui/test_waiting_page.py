"""The page that waits, in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.serving import Launcher, process_route, until
from tests.ui.conftest import Open
from tests.ui.looking import PATIENCE, fits

#: The target's: it has no picture for the browser's tab.
ICON = "Failed to load resource: the server responded with a status of 404"


def test_a_cold_route_shows_a_page_that_goes_on_to_what_was_asked_for(
    tmp_path: Path, open_page: Open, expected: list[str]
) -> None:
    expected.append(ICON)
    with Launcher(tmp_path, process_route("slow", START_DELAY="3")) as launcher:
        page = open_page(f"{launcher.base}/slow/echo?a=%20b#there", width=360)
        expect(page.get_by_role("heading")).to_have_text("Starting slow", timeout=PATIENCE)
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.locator("#time")).to_contain_text("so far", timeout=PATIENCE)
        expect(page.locator("#line")).to_contain_text("slow loading", timeout=PATIENCE)
        assert fits(page)
        expect(page.get_by_text('"target": "/echo?a=%20b"')).to_be_visible(timeout=PATIENCE)
        assert page.url == f"{launcher.base}/slow/echo?a=%20b#there"
        assert launcher.backend("slow")["start_metrics"]["start_count"] == 1


def test_a_tab_that_is_closed_gives_up_its_place(tmp_path: Path, open_page: Open) -> None:
    with Launcher(tmp_path, process_route("slow", START_DELAY="600")) as launcher:
        page = open_page(f"{launcher.base}/slow/")
        expect(page.locator("#time")).to_contain_text("so far", timeout=PATIENCE)
        assert launcher.backend("slow")["queued"] == 1
        page.reload(wait_until="commit")
        expect(page.locator("#time")).to_contain_text("so far", timeout=PATIENCE)
        assert launcher.backend("slow")["queued"] == 1
        page.close()
        until(lambda: launcher.backend("slow")["queued"] == 0, "nobody waits")


def test_a_start_that_fails_is_shown_with_what_to_do(
    tmp_path: Path, open_page: Open, expected: list[str]
) -> None:
    expected.append("Failed to load resource: the server responded with a status of 503")
    routes = process_route("broken", EXIT_CODE="3", EXIT_AFTER="1", HEALTH="never")
    with Launcher(tmp_path, routes) as launcher:
        page = open_page(f"{launcher.base}/broken/")
        expect(page.get_by_role("heading")).to_have_text("broken isn't up", timeout=PATIENCE)
        expect(page.locator("#phase")).to_contain_text("exit code 3", ignore_case=True)
        expect(page.locator("#detail")).to_contain_text("CUDA error: out of memory")
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("button", name="Try again")).to_be_visible(timeout=PATIENCE)


def test_without_scripts_it_looks_again_by_itself(
    tmp_path: Path, open_page: Open, expected: list[str]
) -> None:
    expected.append(ICON)
    with Launcher(tmp_path, process_route("slow", START_DELAY="3")) as launcher:
        page = open_page(f"{launcher.base}/slow/echo", java_script_enabled=False)
        expect(page.get_by_role("heading")).to_have_text("Starting slow", timeout=PATIENCE)
        expect(page.get_by_text('"target": "/echo"')).to_be_visible(timeout=PATIENCE)


def test_dark_and_still_where_that_is_wanted(tmp_path: Path, open_page: Open) -> None:
    with Launcher(tmp_path, process_route("slow", START_DELAY="600")) as launcher:
        page = open_page(f"{launcher.base}/slow/", color_scheme="dark", reduced_motion="reduce")
        expect(page.locator("#time")).to_contain_text("so far", timeout=PATIENCE)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 21, 23)"
        assert page.evaluate("document.getAnimations().length") == 0
