"""Keys: who is let in, for what and how often, and what travels on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.e2e.guarded import (
    ADMIN,
    API,
    BACKEND_KEY,
    CLIENTS,
    NAMED,
    SECOND,
    Guarded,
    bearer,
    code,
    top,
)
from tests.e2e.recording import Record
from tests.e2e.serving import PATIENCE, Launcher

OWN = ("/routes", "/stats", "/metrics", "/api/status", "/v1/models", "/openai/v1/models")
CHAT = json.dumps({"model": "injected", "messages": []}).encode()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("guarded")) as running:
        yield running


class TestTheDoor:
    @pytest.mark.parametrize("path", [*OWN, "/injected/page", "/passed/x", "/nothing/here"])
    def test_without_a_key_it_is_closed(self, launcher: Guarded, path: str) -> None:
        status, body = launcher.get(path)
        assert (status, code(body)) == (401, "missing_key")
        status, body = launcher.get(path, **bearer("canary-wrong"))
        assert (status, code(body)) == (403, "wrong_key")

    @pytest.mark.parametrize(
        "headers",
        [bearer(API), bearer(SECOND), bearer(ADMIN), {"X-API-Key": API}, {"X-API-Key": SECOND}],
        ids=["bearer", "bearer-2", "admin", "x-api-key", "x-api-key-2"],
    )
    def test_with_a_key_it_is_open(self, launcher: Guarded, headers: dict[str, str]) -> None:
        assert {launcher.get(path, **headers)[0] for path in OWN} == {200}

    def test_health_is_always_open(self, launcher: Guarded) -> None:
        assert {launcher.get(path)[0] for path in ("/healthz", "/readyz", "/")} == {200}

    def test_an_admin_key_is_no_api_key_and_the_other_way_round(self, launcher: Guarded) -> None:
        status, body = launcher.request("POST", "/v1/chat/completions", CHAT, **bearer(ADMIN))
        assert (status, code(body)) == (403, "wrong_key")
        for action in ("start", "stop"):
            path = f"/api/routes/stripped/{action}"
            assert launcher.request("POST", path)[0] == 401
            assert launcher.request("POST", path, **bearer(API))[0] == 403
        assert launcher.request("POST", "/api/routes/stripped/stop", **bearer(ADMIN))[0] == 200

    def test_the_official_client_is_told_in_its_own_exceptions(self, launcher: Guarded) -> None:
        with launcher.client(api_key="canary-wrong") as client:
            with pytest.raises(openai.PermissionDeniedError) as caught:
                client.chat.completions.create(model="injected", messages=[])
            assert caught.value.code == "wrong_key"
            with pytest.raises(openai.AuthenticationError):
                client.models.list(extra_headers={"Authorization": openai.Omit()})
            known = client.with_options(api_key=API)
            assert known.chat.completions.create(model="injected", messages=[])


def test_a_wrong_key_is_refused_before_a_byte_is_read_or_anything_started(tmp_path: Path) -> None:
    record = Record(tmp_path, "cold")
    with Launcher(
        tmp_path, record.route(), top=top(tmp_path), env={"CANARY_NAMED": NAMED}
    ) as launcher:
        where = urlsplit(launcher.base)
        assert where.hostname is not None
        for target in (b"/v1/chat/completions", b"/cold/upload"):
            for key in (b"", b"Authorization: Bearer canary-wrong\r\n"):
                with socket.create_connection((where.hostname, where.port or 0)) as client:
                    client.settimeout(PATIENCE)
                    # The body is promised and never sent: who waits for it hangs.
                    client.sendall(
                        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 1000\r\n%s\r\n" % (target, key)
                    )
                    status = int(client.recv(12).split(b" ")[1])
                assert status == (403 if key else 401)
        seen = json.loads(launcher.get("/api/status", **bearer(API))[1])["backends"][0]
        assert (seen["state"], seen["start_metrics"]["start_count"]) == ("stopped", 0)
    assert record.text() == ""


class TestWhatTravelsOn:
    def test_inject_replaces_the_clients_credentials(self, launcher: Guarded) -> None:
        ours = {"authorization": f"Bearer {BACKEND_KEY}"}
        assert launcher.sent_on("injected", **bearer(API)) == ours
        more = {"api-key": CLIENTS, "Authorization": f"Bearer {CLIENTS}", "X-API-Key": API}
        assert launcher.sent_on("injected", **more) == ours

    def test_inject_without_a_backends_key_strips_them(self, launcher: Guarded) -> None:
        more = {"api-key": CLIENTS, "Authorization": f"Bearer {CLIENTS}", "X-API-Key": API}
        assert launcher.sent_on("stripped", **more) == {}

    def test_passthrough_leaves_them_but_for_the_one_that_opened_the_door(
        self, launcher: Guarded
    ) -> None:
        theirs = {"Authorization": f"Bearer {CLIENTS}", "X-API-Key": SECOND}
        assert launcher.sent_on("passed", **theirs) == {"authorization": f"Bearer {CLIENTS}"}
        theirs = {"Authorization": f"bearer  {API} ", "X-API-Key": CLIENTS}
        assert launcher.sent_on("passed", **theirs) == {"x-api-key": CLIENTS}

    def test_a_public_route_asks_for_none_and_gets_none_of_ours(self, launcher: Guarded) -> None:
        assert launcher.sent_on("public") == {}
        assert launcher.sent_on("public", **bearer(API)) == {}
        assert launcher.sent_on("public", **bearer(ADMIN)) == {}

    @pytest.mark.parametrize("route", ["injected", "stripped", "passed", "public"])
    def test_nor_does_a_tunnels_key(self, launcher: Guarded, route: str) -> None:
        url = f"{launcher.base}/{route}/ws".replace("http:", "ws:")
        with pytest.raises(InvalidStatus) as caught:
            connect(url, additional_headers={"X-API-Key": API}, open_timeout=PATIENCE)
        assert caught.value.response.status_code == 403
        last = launcher.records[route].last()
        assert last.headers["upgrade"] == "websocket"
        assert API not in str(last)
