"""What a page from elsewhere can really make a browser do to a launcher on the same machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.serving import Launcher, process_route
from tests.ui.conftest import installed

#: Names of a stranger's, all of them pointed at this machine; and none of the browser's own
#: guards of the local network, which other browsers don't have.
STRANGERS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--disable-features=LocalNetworkAccessChecks",
]
FETCH = "([url, init]) => fetch(url, {mode: 'no-cors', ...init}).then(() => 'sent', () => 'no')"
SOCKET = """url => new Promise(told => {
    const socket = new WebSocket(url);
    socket.onopen = () => told('open');
    socket.onerror = () => told('refused');
})"""
FORM = """([url, kind]) => {
    const form = document.createElement('form');
    Object.assign(form, {method: 'POST', action: url, enctype: kind});
    document.body.append(form);
    form.submit();
}"""


class Page(BaseHTTPRequestHandler):
    """A stranger's web site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"<p>")

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants to know."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of that web site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with Launcher(tmp_path_factory.mktemp("elsewhere"), process_route("cold")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=STRANGERS)
        yield browser
        browser.close()


def answers(launcher: Launcher) -> list[tuple[str, str, int]]:
    """What was asked so far and what came of it."""
    asked = [line for line in launcher.lines() if "method" in line]
    return [(line["method"], line["path"], line["status"]) for line in asked]


def test_nothing_is_started_and_nothing_read(
    launcher: Launcher, chromium: Browser, elsewhere: int
) -> None:
    port = launcher.base.rpartition(":")[2]
    start = f"{launcher.base}/api/routes/cold/start"
    chat = f"{launcher.base}/v1/chat/completions"
    page = chromium.new_page()
    for path in ("/admin", "/api/status", "/cold/x", "/v1/models"):
        # Its own name, pointed at the launcher: the same origin, for all that the browser knows.
        rebound = page.goto(f"http://evil.example:{port}{path}")
        assert rebound is not None
        assert (path, rebound.status) == (path, 421)
    site = f"http://evil.example:{elsewhere}/"
    page.goto(site)
    page.evaluate(FETCH, [start, {"method": "POST"}])
    page.evaluate(FETCH, [chat, {"method": "POST", "body": '{"model": "cold"}'}])
    assert page.evaluate(SOCKET, f"{launcher.base}/cold/ws".replace("http", "ws")) == "refused"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        with page.expect_navigation():
            page.evaluate(FORM, [start, kind])
        assert "cross_origin" in page.inner_text("body")
        page.goto(site)
    tried = [
        answer for answer in answers(launcher) if answer[0] == "POST" or answer[1].endswith("ws")
    ]
    assert {status for _, _, status in tried} == {403}
    assert {path for _, path, _ in tried} == {
        "/api/routes/cold/start",
        "/v1/chat/completions",
        "/cold/ws",
    }
    assert launcher.backend("cold")["start_metrics"]["start_count"] == 0
    page.close()


def test_a_page_of_the_launchers_own_may(launcher: Launcher, chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto(f"{launcher.base}/admin")
    stop = "() => fetch('/api/routes/cold/stop', {method: 'POST'}).then(answer => answer.status)"
    assert page.evaluate(stop) == 200
    page.close()
