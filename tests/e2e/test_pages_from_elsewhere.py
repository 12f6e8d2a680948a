"""What web pages make browsers send is refused unread; operators have an address of their own."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from launcher.api.openapi import ENDPOINTS
from tests.e2e.guarded import code
from tests.e2e.recording import Record
from tests.e2e.serving import PATIENCE, Launcher, process_route, until


def refused(where: str, head: str) -> tuple[int, str]:
    """The answer to a POST whose body is promised and never sent: who waits for it hangs."""
    url = urlsplit(where)
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 0)) as client:
        client.settimeout(PATIENCE)
        client.sendall(f"{head}\r\nContent-Length: 9\r\n\r\n".encode())
        answer = client.makefile("rb")
        status = int(answer.readline().split(b" ")[1])
        length = 0
        while (line := answer.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            assert not name.lower().startswith(b"access-control-")
            length = int(value) if name.lower() == b"content-length" else length
        return status, code(answer.read(length))


START = "POST /api/routes/cold/start HTTP/1.1\r\nHost: {host}"
CHATTING = "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: {type}\r\nHost: {host}"
UNDER = "POST /cold/v1/chat/completions HTTP/1.1\r\nHost: {host}"
ELSEWHERE = "\r\nOrigin: http://evil.example"
JSON, PLAIN = "application/json", "text/plain"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return Record(tmp_path_factory.mktemp("cold"), "cold")


@pytest.fixture(scope="module")
def launcher(record: Record) -> Iterator[Launcher]:
    with Launcher(record.file.parent, record.route()) as running:
        yield running


class TestPagesFromElsewhere:
    @pytest.mark.parametrize(
        ("head", "answer"),
        [
            (START + ELSEWHERE, (403, "cross_origin")),
            (START + "\r\nSec-Fetch-Site: cross-site", (403, "cross_origin")),
            (START + "\r\nSec-Fetch-Site: same-site", (403, "cross_origin")),
            (START + "\r\nOrigin: null", (403, "cross_origin")),
            (START.format(host="evil.example"), (421, "wrong_host")),
            (START.format(host="evil.example\r\nOrigin: http://evil.example"), (421, "wrong_host")),
            (START + f"\r\nContent-Type: {PLAIN}", (415, "unsupported_media_type")),
            (
                START + "\r\nContent-Type: application/x-www-form-urlencoded",
                (415, "unsupported_media_type"),
            ),
            (
                START + "\r\nContent-Type: multipart/form-data; boundary=x",
                (415, "unsupported_media_type"),
            ),
            (CHATTING + ELSEWHERE, (403, "cross_origin")),
            (UNDER + ELSEWHERE, (403, "cross_origin")),
            (
                CHATTING.replace("{host}", "evil.example") + "\r\nOrigin: http://evil.example",
                (421, "wrong_host"),
            ),
            (
                UNDER.format(host="evil.example") + "\r\nUser-Agent: Mozilla/5.0",
                (421, "wrong_host"),
            ),
        ],
    )
    @pytest.mark.parametrize("type", [JSON, PLAIN])
    def test_are_refused_before_a_byte_is_read_or_anything_started(
        self, launcher: Launcher, record: Record, head: str, answer: tuple[int, str], type: str
    ) -> None:
        host = urlsplit(launcher.base).netloc
        assert (
            refused(launcher.base, head.replace("{host}", host).replace("{type}", type)) == answer
        )
        assert launcher.backend("cold")["start_metrics"]["start_count"] == 0
        assert launcher.state("cold") == "stopped"
        assert record.text() == ""

    def test_a_rebound_name_reads_nothing(self, launcher: Launcher) -> None:
        for path in (
            "/admin",
            "/api/status",
            "/metrics",
            "/stats",
            "/routes",
            "/openapi.json",
            "/",
        ):
            status, body = launcher.get(path, Host="evil.example")
            assert (status, code(body)) == (421, "wrong_host")
            assert launcher.get(path, Host="gpubox:8000")[0] == 200
        for path in ("/v1/models", "/cold/x"):
            status, _ = launcher.get(path, Host="evil.example", **{"Accept-Language": "en"})
            assert status == 421
        assert launcher.state("cold") == "stopped"

    def test_a_websocket_from_elsewhere_opens_nothing(self, launcher: Launcher) -> None:
        url = f"{launcher.base}/cold/ws".replace("http:", "ws:")
        with pytest.raises(InvalidStatus) as caught:
            connect(url, origin=Origin("http://evil.example"), open_timeout=PATIENCE)
        assert caught.value.response.status_code == 403
        assert launcher.state("cold") == "stopped"

    def test_a_page_of_our_own_on_this_machine_may_operate(self, launcher: Launcher) -> None:
        ours = {"Origin": launcher.base, "Sec-Fetch-Site": "same-origin"}
        status, body = launcher.request("POST", "/api/routes/cold/stop", **ours)
        assert (status, json.loads(body)["state"]) == (200, "stopped")


def test_operators_have_an_address_of_their_own(tmp_path: Path) -> None:
    top = 'admin_listen = ["127.0.0.1:0"]\n'
    with Launcher(tmp_path, process_route("one"), top=top) as launcher:
        (told,) = until(
            lambda: [one["message"] for one in launcher.lines() if "operators'" in one["message"]],
            "the log tells of their address",
        )
        operators = f"http://{told.rpartition(' ')[2]}"
        clients, launcher.base = launcher.base, operators
        assert clients != operators
        both = ["/healthz", "/readyz", "/v1/models", "/openai/v1/models", "/v1/models/one"]
        theirs = sorted(
            {one.path for one in ENDPOINTS if not one.everywhere and "{" not in one.path}
        )
        assert {"/api/status", "/metrics", "/admin", "/openapi.json", "/"} < set(theirs)
        with pytest.raises(TimeoutError):
            # It goes on until somebody has heard enough.
            urllib.request.urlopen(f"{operators}/api/events", timeout=1).read()
        for path in both:
            for launcher.base in (clients, operators):
                assert launcher.get(path)[0] == 200
        for path in [*theirs, "/api/routes/one/plan", "/admin/app.js"]:
            for method in ("GET", "POST", "DELETE"):
                launcher.base = clients
                status, body = launcher.request(method, path)
                # As if there were no such path.
                assert (status, code(body)) == (404, "unknown_route")
            launcher.base = operators
            if path not in ("/api/events",):
                assert launcher.get(path)[0] in (200, 405)
        for launcher.base in (clients, operators):
            chat = json.dumps({"model": "one", "messages": []}).encode()
            sent = {"Content-Type": JSON}
            assert launcher.request("POST", "/v1/chat/completions", chat, **sent)[0] == 200


def test_a_start_says_what_strangers_may_and_may_not(tmp_path: Path) -> None:
    with Launcher(tmp_path, process_route("one"), top='admin_listen = [":0"]\n') as launcher:

        def warnings() -> list[str]:
            return [line["message"] for line in launcher.lines() if line["level"] == "warning"]

        until(lambda: len(warnings()) >= 2, "the log is written")
        warned = warnings()
    assert len(warned) == 2
    assert "sees status, metrics and decisions" in warned[0]
    assert "refused to callers from other machines" in warned[1]
