"""Keys: who is let in, what travels on, and that none shows up anywhere."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.e2e.commands import run
from tests.e2e.recording import Record
from tests.e2e.serving import BACKEND, PATIENCE, Launcher, until

API, SECOND, ADMIN = "canary-api-Kp1", "canary-api/Kp+2", "canary-admin-Qz3"
BACKEND_KEY, TOKEN, CLIENTS = "canary-backend-Vx4", "canary-token-Hf5", "canary-client-Wd6"
SECRETS = (API, SECOND, ADMIN, BACKEND_KEY, TOKEN)
TOP = f"api_keys = {json.dumps([API, SECOND])}\nadmin_keys = {json.dumps([ADMIN])}"
OWN = ("/routes", "/stats", "/metrics", "/api/status", "/v1/models", "/openai/v1/models")
CHAT = json.dumps({"model": "injected", "messages": []}).encode()
CREDENTIALS = ("authorization", "x-api-key", "api-key")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


class Guarded(Launcher):
    """A launcher whose door has keys: four routes that remember what they are sent, and one
    that prints its secrets and dies."""

    def __init__(self, folder: Path) -> None:
        self.records = {
            name: Record(folder, name) for name in ("injected", "stripped", "passed", "public")
        }
        lines = {
            "injected": f'backend_key = "{BACKEND_KEY}"',
            "stripped": "",
            "passed": 'auth = "passthrough"',
            "public": "public = true",
        }
        routes = "".join(
            record.route(f"needs = {{}}\n{lines[name]}", env=f'HF_TOKEN = "{TOKEN}"')
            for name, record in self.records.items()
        )
        talks = "import os, sys; sys.exit(f'keys: {os.environ}')"
        told = f'HF_TOKEN = "{TOKEN}", KEY_FOR_MODELS = "{BACKEND_KEY}", ECHO = "{API}"'
        last_words = json.dumps([sys.executable, "-c", talks, TOKEN, "{port}"])
        routes += f"[routes.dying]\ncommand = {last_words}\nenv = {{ {told} }}\n"
        super().__init__(folder, routes, top=TOP)

    def sent_on(self, route: str, **headers: str) -> dict[str, str]:
        """What credentials reach a route's backend of a request with these headers."""
        status, body = self.get(f"/{route}/page?canary-in-the-query-Sb7", **headers)
        assert status == 200, body
        seen = self.records[route].last().headers
        return {name: seen[name] for name in CREDENTIALS if name in seen}


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
    with Launcher(tmp_path, record.route(), top=TOP) as launcher:
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
        assert (seen["state"], seen["startMetrics"]["startCount"]) == ("stopped", 0)
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


def test_no_key_shows_up_anywhere(tmp_path: Path) -> None:
    """Each surface is asked for after everything has happened that could put one there."""
    with Guarded(tmp_path) as launcher:
        for route in launcher.records:
            headers = {"X-API-Key": SECOND, "api-key": CLIENTS, "Cookie": f"k={CLIENTS}"}
            launcher.sent_on(route, **headers)
        for key in (API, CLIENTS):
            assert launcher.request("POST", "/v1/chat/completions", CHAT, **bearer(key))[0] != 500
        refused = [launcher.get(f"/{API}/x", **bearer(API))[1]]
        refused.append(launcher.get("/injected/%5c/..", **bearer(API))[1])
        # It dies with everything it knows on its lips: told to admins, without the secrets.
        for key in (API, ADMIN):
            path = "/dying/x" if key == API else "/api/routes/dying/start?wait=1"
            status, body = launcher.request("GET" if key == API else "POST", path, **bearer(key))
            assert (status, code(body)) == (503, "backend_start_failed"), body
            refused.append(body)
        assert b"keys: " not in refused[-2], "an api key doesn't open the details"
        assert b"keys: " in refused[-1]
        until(lambda: "keys: " in launcher.log(), "the log has its last words")

        surfaces = {path: launcher.get(path, **bearer(ADMIN))[1].decode() for path in OWN}
        assert "keys: " in surfaces["/api/status"]
        for name, args in (("status", ["status"]), ("json", ["status", "--json"])):
            said = run(*args, url=launcher.base, LAUNCHER_ADMIN_KEY=ADMIN)
            assert said.returncode == 0, said.stderr
            surfaces[name] = said.stdout + said.stderr
        start = run("start", "dying", url=launcher.base, LAUNCHER_ADMIN_KEY=ADMIN)
        denied = run("start", "dying", "--key", CLIENTS, url=launcher.base)
        assert (start.returncode, denied.returncode) == (1, 1)
        check = run("check", "--config", str(launcher.file))
        surfaces |= {"start": start.stdout + start.stderr, "check": check.stdout + check.stderr}
        surfaces["denied"] = denied.stdout + denied.stderr
        surfaces["errors"] = b"\n".join(refused).decode()
    surfaces["log"] = launcher.log()
    for file in tmp_path.glob("state.db*"):
        surfaces[file.name] = file.read_bytes().decode("latin-1")
    assert "state.db" in surfaces
    for record in launcher.records.values():
        surfaces[f"what {record.name} was sent"] = record.text().replace(BACKEND_KEY, "")
    shown = {
        (surface, secret)
        for surface, text in surfaces.items()
        for secret in SECRETS
        if secret in text or json.dumps(secret) in text
    }
    assert not shown
    # Of what isn't configured, the log has nothing either: no header's value and no query.
    for surface in ("log", "/metrics", "/stats", "/api/status", "errors"):
        assert CLIENTS not in surfaces[surface]
        assert "canary-in-the-query" not in surfaces[surface]


def test_the_log_at_its_most_talkative_has_no_key_either(tmp_path: Path) -> None:
    """At debug level the output of processes is written on, and the engine's doings."""
    command_line = json.dumps([sys.executable, str(BACKEND), "--port", "{port}"])
    env = f'BACKEND_NAME = "{BACKEND_KEY}", BACKEND_LOG_REQUESTS = "1"'
    route = f"[routes.loud]\ncommand = {command_line}\nenv = {{ {env} }}\n"
    route += f'backend_key = "{BACKEND_KEY}"\n'
    with Launcher(tmp_path, route, top=TOP, env={"LAUNCHER_LOG_LEVEL": "debug"}) as launcher:
        body = json.dumps({"key": API, "model": "loud"}).encode()
        path = f"/loud/v1/any?key={API}"
        assert launcher.request("POST", path, body, **bearer(API))[0] == 200
        until(lambda: "request POST /v1/any" in launcher.log(), "its output is in the log")
    assert [secret for secret in SECRETS if secret in launcher.log()] == []
