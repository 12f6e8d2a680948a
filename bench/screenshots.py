"""The pictures of the pages in docs/, made anew from a launcher with scripted models.

    python -m bench.screenshots                  docs/page.png and docs/waiting.png
    python -m bench.screenshots --all pictures   also on a phone, dark, and while a start fails

A mixed load runs for some minutes first, so that there is something to see. Needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.serving import PATIENCE, Launcher, process_route, until

DOCS = Path(__file__).resolve().parent.parent / "docs"
DESKTOP, PHONE, CARD = (1240, 1000), (390, 844), (760, 560)


def routes() -> str:
    """Six models on a GPU that holds one large one and a few small ones."""
    say = {"START_MODE": "loading", "TOKENS": "60", "TOKEN_DELAY": "0.06"}
    return (
        '[capacity]\nvram = "24GiB"\n\n'
        + process_route(
            "chat", START_DELAY="6", TERM_DELAY="1.5", **say,
            lines='models = ["chat-general", "gpt-4o-mini"]\nneeds = { vram = "18GiB" }\n'
            'max_wait = "8s"',
        )
        + process_route(
            "coder", START_DELAY="9", TERM_DELAY="1", **say,
            lines='models = ["coder-fast"]\nneeds = { vram = "16GiB" }\nmax_wait = "8s"',
        )
        + process_route(
            "comfy", START_DELAY="9", TERM_DELAY="0.5", **say,
            lines='models = []\nneeds = { vram = "20GiB" }\nmax_wait = "8s"',
        )
        + process_route(
            "embed", START_DELAY="1",
            lines='models = ["bge-m3"]\nneeds = { vram = "2GiB" }',
        )
        + process_route("search", lines="models = []\nneeds = {}\npublic = true")
        + process_route(
            "experiment", EXIT_CODE="3", EXIT_AFTER="2", HEALTH="never",
            lines='models = ["experiment"]\nneeds = { vram = "2GiB" }',
        )
        + '[modes.image]\nroutes = ["comfy"]\nttl = "45m"\n\n'
        + '[modes.llm]\nroutes = ["chat"]\nttl = "45m"\n'
    )  # fmt: skip


class Load:
    """People who ask for this and that, until the end."""

    def __init__(self, launcher: Launcher, seed: int = 4) -> None:
        self._launcher = launcher
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._user, args=who, daemon=True)
            for who in [("chat-general", 9.0)] * 3
            + [("coder-fast", 16.0)] * 2
            + [("bge-m3", 4.0), ("comfy", 45.0), ("experiment", 70.0)]
        ]

    def run(self, minutes: float) -> None:
        """Begin, and return after so long; it goes on until `end`."""
        for thread in self._threads:
            thread.start()
        time.sleep(minutes * 60)

    def end(self) -> None:
        """Nobody asks any more."""
        self._over.set()

    def _user(self, what: str, pause: float) -> None:
        while not self._over.wait(self._chance.expovariate(1 / pause)):
            if what == "comfy":
                self._launcher.get("/comfy/echo", **{"X-Launcher-Wake": "if-idle"})
                continue
            asked = {"model": what, "stream": True, "input": "x", "messages": []}
            asked |= {"x_tokens": self._chance.randint(20, 90)}
            path = "/v1/embeddings" if what == "bge-m3" else "/v1/chat/completions"
            kind = {"Content-Type": "application/json"}
            self._launcher.request("POST", path, json.dumps(asked).encode(), **kind)


def opened(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    """A page of that size."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=2 if size is PHONE else 1,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url, wait_until="commit")
    return page


def post(launcher: Launcher, path: str, **body: object) -> None:
    """Ask for something to be done."""
    kind = {"Content-Type": "application/json"}
    status, told = launcher.request("POST", path, json.dumps(body).encode(), **kind)
    if status >= 300:
        sys.exit(f"{path}: {status} {told.decode()}")


def take(launcher: Launcher, browser: Browser, out: Path, everything: bool) -> None:
    """The pictures: a switch under way after a mixed load, then a page that waits."""
    sizes = [("", DESKTOP, "light")]
    if everything:
        sizes += [("-dark", DESKTOP, "dark"), ("-phone", PHONE, "light")]
        sizes += [("-phone-dark", PHONE, "dark")]
    post(launcher, "/api/leases", route="embed", ttl="40m", note="index rebuild", wait=False)
    pages = [
        (name, opened(browser, f"{launcher.base}/admin", size, scheme))
        for name, size, scheme in sizes
    ]
    up = next((one for one in ("chat", "coder") if launcher.state(one) == "ready"), "")
    to = "coder" if up == "chat" else "chat"
    post(launcher, "/api/switch", route=to, wait=False)
    until(lambda: launcher.state(to) == "starting", "the switch starts something")
    for name, page in pages:
        page.locator("#main").wait_for(timeout=PATIENCE * 1000)
        page.wait_for_timeout(1500)
        page.screenshot(path=out / f"page{name}.png", full_page=everything)
    until(lambda: launcher.state(to) == "ready", "it is up")
    pages = []
    for name, size, scheme in sizes:
        page = opened(
            browser, f"{launcher.base}/comfy/", CARD if size is DESKTOP else PHONE, scheme
        )
        pages.append((name, page))
    for name, page in pages:
        page.get_by_role("heading", name="Starting comfy").wait_for(timeout=PATIENCE * 1000)
        page.locator("#line").wait_for(timeout=PATIENCE * 1000)
        page.screenshot(path=out / f"waiting{name}.png")
    if everything:
        page = opened(browser, f"{launcher.base}/experiment/", CARD, "light")
        page.get_by_role("heading", name="experiment isn't up").wait_for(timeout=PATIENCE * 1000)
        page.screenshot(path=out / "waiting-failed.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="of load before (4)")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="all pictures, into a folder")
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Chromium is needed: scripts/browser.sh")
    out = options.all or DOCS
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with Launcher(Path(folder), routes()) as launcher:
            load = Load(launcher)
            load.run(options.minutes)
            load.end()
            take(launcher, browser, out, options.all is not None)
            browser.close()


if __name__ == "__main__":
    main()
