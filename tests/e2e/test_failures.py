"""What can go wrong with a backend: each has its own error, in time, and hurts nobody else."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import images
from tests.drivers.private_engine import PrivateEngine
from tests.e2e.conftest import Make
from tests.e2e.serving import (
    BACKEND,
    PATIENCE,
    Launcher,
    container_route,
    process_route,
    until,
)

pytestmark = pytest.mark.docker

#: Lives beside everything else.
APART = "needs = {}"
TOKENS = 20


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP; of an error the envelope's inside."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took: float

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found

    @property
    def retry_after(self) -> int:
        return int(self.headers["Retry-After"])


def ask(launcher: Launcher, path: str, method: str = "GET") -> Answer:
    """One request, errors and headers included."""
    began = time.monotonic()
    made = urllib.request.Request(launcher.base + path, method=method)
    try:
        with urllib.request.urlopen(made, timeout=PATIENCE * 2) as got:
            status, headers, body = got.status, got.headers, got.read()
    except urllib.error.HTTPError as error:
        with error:
            status, headers, body = error.code, error.headers, error.read()
    return Answer(status, headers, body, time.monotonic() - began)


@contextlib.contextmanager
def served_meanwhile(launcher: Launcher, route: str = "steady") -> Iterator[None]:
    """Streams of another route, one after the other while the block runs: each must be whole."""
    over = threading.Event()
    asked = json.dumps({"stream": True, "x_tokens": TOKENS, "x_delay": 0.02}).encode()

    def stream() -> None:
        while True:
            status, said = launcher.request("POST", f"/{route}/v1/chat/completions", asked)
            assert status == 200, said
            assert said.count(f'"{route}-'.encode()) == TOKENS
            assert said.endswith(b"data: [DONE]\n\n")
            if over.is_set():
                return

    with ThreadPoolExecutor(2) as clients:
        running = [clients.submit(stream) for _ in range(2)]
        try:
            yield
        finally:
            over.set()
    for one in running:
        one.result()


@dataclass(frozen=True)
class Case:
    """A route that can't be started, and what its clients are told."""

    code: str
    says: str
    detail: str = ""
    container: dict[str, Any] | None = None
    """How its container is made; without one nothing is there to start."""
    lines: str = ""
    program: str = ""
    start_timeout: float = 600.0

    @property
    def in_time(self) -> float:
        """Seconds: long before a `start_timeout` that has no part in it, or soon after one."""
        return min(self.start_timeout, 20.0) + 20.0


AT_ONCE = {
    "exits": Case(
        code="backend_start_failed",
        says="exit code 3",
        detail="RuntimeError: CUDA error: out of memory\nexiting with 3",
        container={"EXIT_CODE": "3"},
    ),
    "greedy": Case(
        code="backend_start_failed",
        says="killed because it was out of memory",
        detail="exit code: 137, OOMKilled: true\ngreedy loading",
        container={"MEMORY": "500", "options": ("--memory=32m", "--memory-swap=32m")},
    ),
    "guarded": Case(
        code="backend_start_failed",
        says="answered 401 to its health check: set `backend_key`",
        container={"KEY": "secret"},
    ),
    "unchecked": Case(
        code="backend_start_failed",
        says="has no HEALTHCHECK; give it one",
        container={},
        lines='health = "docker"',
    ),
    "missing": Case(code="backend_missing", says="docker compose up --no-start"),
    "uninstalled": Case(
        code="backend_missing",
        says="install it, or give its whole path",
        program="/no/such/uninstalled",
    ),
}

BY_ITS_DEADLINE = {
    "loading": Case(
        code="start_timeout",
        says="answered 503",
        detail="listening on",
        container={"HEALTH": "never"},
        start_timeout=8,
    ),
    "hanging": Case(
        code="start_timeout",
        says="took the connection but did not answer",
        detail="listening on",
        container={"HEALTH": "hang"},
        # Longer, since a probe has to meet its silence for 2 s, however late it came up.
        start_timeout=15,
    ),
    "deaf": Case(
        code="start_timeout",
        says="refused",
        container={},
        lines='health = "tcp"\naddress = "127.0.0.1:9"',
        start_timeout=8,
    ),
    "unhealthy": Case(
        code="start_timeout",
        says="its HEALTHCHECK says ",
        container={"HEALTH": "500", "health": "1s"},
        lines='health = "docker"',
        start_timeout=8,
    ),
}


def routes_of(cases: Mapping[str, Case], container: Make) -> str:
    """Their routes, and `steady`, which is well."""
    found = process_route("steady", lines=APART)
    for name, case in cases.items():
        lines = f"{APART}\nstop_grace = 1\nstart_timeout = {case.start_timeout}\n{case.lines}"
        if case.program:
            found += f'[routes.{name}]\ncommand = ["{case.program}", "{{port}}"]\n{lines}\n'
        elif case.container is None:
            found += container_route(name, f"lzt-e2e-no-{name}", lines=lines)
        else:
            found += container_route(name, container(name, **case.container), lines=lines)
    return found


@pytest.mark.parametrize("cases", [AT_ONCE, BY_ITS_DEADLINE], ids=["at_once", "by_its_deadline"])
def test_each_failure_has_its_own_error_and_others_are_served(
    cases: Mapping[str, Case], tmp_path: Path, container: Make
) -> None:
    with Launcher(tmp_path, routes_of(cases, container)) as launcher:
        with served_meanwhile(launcher), ThreadPoolExecutor(len(cases)) as clients:
            asked = {name: clients.submit(ask, launcher, f"/{name}/v1/models") for name in cases}
            told = {name: answer.result() for name, answer in asked.items()}
        for name, case in cases.items():
            answer, error = told[name], told[name].error
            assert error["code"] == case.code, (name, error)
            assert answer.status == (504 if case.code == "start_timeout" else 503), name
            assert case.says in error["message"], (name, error)
            assert name in error["message"], (name, error)
            assert case.detail in (error.get("detail") or ""), (name, error)
            assert answer.retry_after >= 1, name
            assert answer.took < case.in_time, name
            # Nothing is left of it, and the next who asks is told the same.
            until(lambda name=name: launcher.state(name) == "failed", f"{name} is given up")
            assert launcher.backend(name)["failure"]["code"] == case.code, name
        assert launcher.json("/stats")["used"] == {}
        assert launcher.get("/readyz")[0] == 200


def test_health_by_docker_and_by_tcp(tmp_path: Path, container: Make) -> None:
    """Each says ready where the other would not."""
    checked = container("checked", health="1s")
    unhelpful = container("unhelpful", HEALTH="500")
    routes = container_route("checked", checked, lines=f'{APART}\nhealth = "docker"')
    routes += container_route("unhelpful", unhelpful, lines=f'{APART}\nhealth = "tcp"')
    with Launcher(tmp_path, routes) as launcher:
        assert launcher.json("/checked/v1/models")["data"][0]["id"] == "checked"
        assert images.show(checked)["State"]["Health"]["Status"] == "healthy"
        assert launcher.json("/unhelpful/v1/models")["data"][0]["id"] == "unhelpful"


def test_a_paused_container_is_given_up_and_started_anew(tmp_path: Path, container: Make) -> None:
    """It accepts connections and answers nothing."""
    name = container("coder")
    images.docker("start", name)
    images.docker("pause", name)
    lines = f"{APART}\nstart_timeout = 6\nstop_grace = 1"
    routes = process_route("steady", lines=APART) + container_route("coder", name, lines=lines)
    with Launcher(tmp_path, routes) as launcher, served_meanwhile(launcher):
        assert ask(launcher, "/coder/v1/models").status == 200, "whoever waits for it is served"
        assert not images.show(name)["State"]["Paused"]
        told = [line["message"] for line in launcher.lines() if "start_timeout" in line["message"]]
        assert len(told) == 1
        assert "6 s" in told[0]


def test_who_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path, container: Make) -> None:
    stubborn = container("stubborn", TERM="ignore")
    routes = process_route("steady", lines=APART) + process_route("next")
    routes += container_route("stubborn", stubborn, lines="stop_grace = 2")
    with Launcher(tmp_path, routes) as launcher:
        assert launcher.get("/stubborn/v1/models")[0] == 200
        with served_meanwhile(launcher), ThreadPoolExecutor(1) as clients:
            answer = clients.submit(ask, launcher, "/next/v1/models")
            until(lambda: launcher.state("stubborn") == "stopping", "it is told to stop")
            assert images.show(stubborn)["State"]["Running"]
            assert answer.result().status == 200
        assert images.show(stubborn)["State"]["ExitCode"] == 128 + 9
        assert launcher.get("/stubborn/v1/models")[0] == 200
        assert launcher.state("next") == "stopped"


GATED = """
import os, sys, time
with open(sys.argv[1] + "/starts", "a") as starts:
    print(time.time(), file=starts)
if not os.path.exists(sys.argv[1] + "/weights"):
    sys.exit("no weights yet")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_a_start_that_fails_backs_off(tmp_path: Path) -> None:
    """1 s, 2 s, 4 s; cleared by an operator's start, reset by a good answer."""
    words = [sys.executable, "-c", GATED, str(tmp_path), str(BACKEND), "--port", "{port}"]
    routes = process_route("steady", lines=APART)
    routes += f"[routes.gated]\ncommand = {json.dumps(words)}\nneeds = {{}}\n"
    weights = tmp_path / "weights"

    def starts() -> list[float]:
        file = tmp_path / "starts"
        return [float(line) for line in file.read_text().split()] if file.exists() else []

    def fails() -> Answer:
        told = ask(launcher, "/gated/v1/models")
        assert (told.status, told.error["code"]) == (503, "backend_start_failed")
        assert "no weights yet" in told.error["detail"]
        return told

    with Launcher(tmp_path, routes) as launcher, served_meanwhile(launcher):
        told = [fails()]
        while len(starts()) < 3:
            told.append(fails())
        began = starts()
        assert [answer.retry_after for answer in told[:1] + told[-1:]] == [1, 4]
        assert began[1] - began[0] >= 1
        assert began[2] - began[1] >= 2
        assert len(told) > 2 * len(began), "in between they were told at once, and nothing started"

        weights.touch()
        assert ask(launcher, "/api/routes/gated/start?wait=1", "POST").status == 200
        assert ask(launcher, "/gated/v1/models").status == 200
        weights.unlink()
        launcher.get("/gated/die")
        until(lambda: launcher.state("gated") == "stopped", "its death is seen")
        assert fails().retry_after == 1


def test_without_docker_all_else_is_served(tmp_path: Path) -> None:
    """From the launcher's first moment on."""
    routes = process_route("steady", lines=APART)
    routes += container_route("coder", "coder", lines=APART)
    socket = tmp_path / "none.sock"
    with Launcher(tmp_path, routes, top=f'docker_host = "unix://{socket}"') as launcher:
        with served_meanwhile(launcher):
            told = ask(launcher, "/coder/v1/models")
            assert (told.status, told.error["code"]) == (503, "docker_unavailable")
            assert f"There is no unix://{socket}: start Docker" in told.error["message"]
            assert told.retry_after >= 1
            ready = ask(launcher, "/readyz")
            assert (ready.status, ready.error["code"]) == (503, "docker_unavailable")
            assert launcher.get("/healthz")[0] == 200


def test_a_docker_daemon_that_is_stopped(
    tmp_path: Path, container: Make, engine: PrivateEngine
) -> None:
    """With all its containers; afterwards everything is served again."""
    names = {one: container(one, host=engine.host) for one in ("coder", "chat")}
    routes = process_route("steady", lines=APART) + process_route("small")
    routes += container_route("coder", names["coder"])
    routes += container_route("chat", names["chat"], lines=APART)
    with Launcher(tmp_path, routes, top=f'docker_host = "{engine.host}"') as launcher:
        assert launcher.get("/coder/v1/models")[0] == 200
        with served_meanwhile(launcher):
            engine.stop()
            advice = f"There is no {engine.host}: start Docker"
            until(lambda: advice in launcher.get("/readyz")[1].decode(), "it is noticed")
            # What was up, what was not, and what needs the place of what was.
            for route in ("coder", "chat", "small"):
                told = ask(launcher, f"/{route}/v1/models")
                assert (told.status, told.error["code"]) == (503, "docker_unavailable"), route
                assert advice in told.error["message"], route
                assert told.retry_after >= 1, route
                assert told.took < 30, route
            engine.start()
            until(lambda: launcher.get("/readyz")[0] == 200, "the engine is known to be back")
        for route in ("coder", "chat", "small"):
            assert until(lambda route=route: launcher.get(f"/{route}/v1/models")[0] == 200)
