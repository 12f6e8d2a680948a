"""No key shows up anywhere: canaries wherever a secret can stand, and then everything is read
that the launcher says."""

from __future__ import annotations

import http.client
import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from launcher.api.endpoint import Endpoint
from launcher.api.openapi import ENDPOINTS
from tests.e2e.commands import run
from tests.e2e.guarded import (
    ADMIN,
    API,
    BACKEND_KEY,
    CLIENTS,
    CREDENTIALS,
    FILED,
    HASHED,
    NAMED,
    SECOND,
    SECRETS,
    TOKEN,
    Guarded,
    bearer,
    code,
)
from tests.e2e.serving import BACKEND, PATIENCE, until

CHAT = json.dumps({"model": "injected", "messages": []}).encode()
#: What a name in an endpoint's path may stand for: backends, routes, models, files, numbers.
NAMES = ("dying", "injected", "app.js", "1")
#: Seconds of silence after which a stream has said what it had to say.
SILENCE = 1.0


def said(launcher: Guarded, method: str, path: str, body: bytes | None, **headers: str) -> str:
    """Everything that comes back: status, headers and body, of a stream what it has so far."""
    where = urlsplit(launcher.base)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = f"{answer.status} {answer.reason}\n{answer.headers}"
        assert answer.status != 500, text
        if (answer.headers["Content-Type"] or "").startswith("text/event-stream"):
            assert connection.sock is not None
            connection.sock.settimeout(SILENCE)
        try:
            while piece := answer.read1(65536):
                text += piece.decode("utf-8", "backslashreplace")
        except TimeoutError:
            pass
        return text
    finally:
        connection.close()


def everything_of(launcher: Guarded, endpoint: Endpoint) -> str:
    """What an endpoint answers to everybody: no key, a wrong one, each kind of good one, in each
    header, with one in the query, and with a body."""
    path = endpoint.path.replace("...}", "}")
    paths = [re.sub(r"\{\w+\}", name, path) for name in NAMES] if "{" in path else [path]
    body = None if endpoint.method in ("GET", "DELETE") else b'{"note": "%b"}' % CLIENTS.encode()
    more = {} if body is None else {"Content-Type": "application/json"}
    if endpoint.produces == "text/event-stream":
        more["Last-Event-ID"] = "0"
    callers: list[dict[str, str]] = [{}, bearer(CLIENTS), {"X-API-Key": API}, {"api-key": HASHED}]
    texts = []
    for one in paths:
        for headers in callers:
            texts.append(said(launcher, endpoint.method, one, body, **headers, **more))
        asked = f"{one}?key={API}&api_key={ADMIN}"
        texts.append(said(launcher, endpoint.method, asked, body, **bearer(ADMIN), **more))
        texts.append(said(launcher, endpoint.method, one, body, **bearer(ADMIN), **more))
    return "\n".join(texts)


def leaks(surfaces: dict[str, str], secrets: tuple[str, ...]) -> set[tuple[str, str]]:
    """Which secret is seen where."""
    return {
        (surface, secret)
        for surface, text in surfaces.items()
        for secret in secrets
        if secret in text or json.dumps(secret)[1:-1] in text
    }


def test_no_key_shows_up_anywhere(tmp_path: Path) -> None:
    """Each surface is asked for after everything has happened that could put one there."""
    with Guarded(tmp_path) as launcher:
        for route in launcher.records:
            headers = {"X-API-Key": SECOND, "api-key": CLIENTS, "Cookie": f"k={CLIENTS}"}
            launcher.sent_on(route, **headers)
        for key in (API, NAMED, FILED, HASHED, CLIENTS):
            for header in CREDENTIALS:
                value = f"Bearer {key}" if header == "authorization" else key
                path = f"/v1/chat/completions?key={key}"
                sent = {header: value, "Content-Type": "application/json"}
                assert launcher.request("POST", path, CHAT, **sent)[0] in (200, 403, 404)
        surfaces = {}
        refused = [launcher.get(f"/{API}/x", **bearer(API))[1]]
        refused.append(launcher.get("/injected/%5c/..", **bearer(API))[1])
        refused.append(launcher.get(f"/{NAMED}/x", Host="evil.example", **{"Origin": FILED})[1])
        # It dies with everything it knows on its lips: told to admins, without the secrets.
        for key in (API, ADMIN):
            path = "/dying/x" if key == API else "/api/routes/dying/start?wait=1"
            status, body = launcher.request("GET" if key == API else "POST", path, **bearer(key))
            assert (status, code(body)) == (503, "backend_start_failed"), body
            refused.append(body)
        assert b"keys: " not in refused[-2], "an api key doesn't open the details"
        assert b"keys: " in refused[-1]
        until(lambda: "keys: " in launcher.log(), "the log has its last words")
        surfaces["errors"] = b"\n".join(refused).decode()

        for name, args in (("status", ["status"]), ("json", ["status", "--json"])):
            shown = run(*args, url=launcher.base, LAUNCHER_ADMIN_KEY=ADMIN)
            assert shown.returncode == 0, shown.stderr
            surfaces[name] = shown.stdout + shown.stderr
        start = run("start", "dying", url=launcher.base, LAUNCHER_ADMIN_KEY=ADMIN)
        denied = run("start", "dying", "--key", CLIENTS, url=launcher.base)
        assert (start.returncode, denied.returncode) == (1, 1)
        check = run("check", "--config", str(launcher.file), CANARY_NAMED=NAMED)
        assert check.returncode == 0, check.stderr
        for name, done in (("start", start), ("denied", denied), ("check", check)):
            surfaces[f"launcher {name}"] = done.stdout + done.stderr

        asked = ENDPOINTS
        # What only looks comes first: the rest may leave nothing to look at.
        for endpoint in sorted(asked, key=lambda one: one.method != "GET"):
            told = everything_of(launcher, endpoint)
            surfaces[f"{endpoint.method} {endpoint.path}"] = told
        assert "keys: " in surfaces["GET /api/status"]
        assert "keys: " in surfaces["GET /api/backends/{id}/logs"]
        assert "event: " in surfaces["GET /api/events"]
    surfaces["log"] = launcher.log()
    assert '"key":"named"' in surfaces["log"].replace(" ", "")
    for file in tmp_path.glob("state.db*"):
        surfaces[file.name] = file.read_bytes().decode("latin-1")
    assert "state.db" in surfaces
    for record in launcher.records.values():
        text = record.text().replace(BACKEND_KEY, "")
        # A backend gets the query as the client wrote it.
        surfaces[f"what {record.name} was sent"] = re.sub(r"\?key=[^\"]*", "", text)
    assert leaks(surfaces, SECRETS) == set()
    # Of what isn't configured as such nothing is said either: no header's value and no query.
    quiet = {name: text for name, text in surfaces.items() if not name.startswith("what ")}
    assert leaks(quiet, (HASHED, CLIENTS, "canary-in-the-query")) == set()


def test_the_log_at_its_most_talkative_has_no_key_either(tmp_path: Path) -> None:
    """At debug level the output of processes is written on, and the engine's doings."""
    command_line = json.dumps([sys.executable, str(BACKEND), "--port", "{port}"])
    env = f'BACKEND_NAME = "{BACKEND_KEY}", BACKEND_LOG_REQUESTS = "1"'
    route = f"[routes.loud]\ncommand = {command_line}\nenv = {{ {env} }}\n"
    route += f'backend_key = "{BACKEND_KEY}"\nneeds = {{}}\n'
    with Guarded(tmp_path, more=route, log_level="debug") as launcher:
        body = json.dumps({"key": API, "model": "loud"}).encode()
        for key in (API, NAMED, FILED):
            path = f"/loud/v1/any?key={key}"
            assert launcher.request("POST", path, body, **bearer(key))[0] == 200
        until(lambda: "request POST /v1/any" in launcher.log(), "its output is in the log")
    assert [secret for secret in (*SECRETS, TOKEN) if secret in launcher.log()] == []
