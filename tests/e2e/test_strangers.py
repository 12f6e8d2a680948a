"""What others do to the containers is seen, and what runs is served whatever becomes of Docker."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import images
from tests.drivers.private_engine import PrivateEngine
from tests.e2e.conftest import Make
from tests.e2e.engine_log import moments, most_at_once
from tests.e2e.serving import Launcher, container_route, process_route, until

pytestmark = pytest.mark.docker

RESIDENT = ("starting", "ready", "draining", "stopping")
#: Seconds in which the picture has to be right again.
SOON = 2.0
#: Long enough for the launcher to try but once in a while.
OUTAGE = 3.0
ONE_OF = "needs = { gpu = 1 }\nstop_grace = 1"


def routes_of(names: dict[str, str], gpu: int) -> str:
    """A route for each container, of which `gpu` fit."""
    routes = "".join(container_route(one, name, lines=ONE_OF) for one, name in names.items())
    return f"[capacity]\ngpu = {gpu}\n{routes}"


def running(launcher: Launcher) -> set[str]:
    """The containers that run, as `/stats` has it, which `/api/status` agrees with."""
    stats = launcher.json("/stats")
    resident = {id for id, one in stats["backends"].items() if one["state"] in RESIDENT}
    containers = {one["route"]: one["container"] for one in launcher.json("/routes")["routes"]}
    assert {containers[id] for id in resident} == set(stats["running_containers"])
    assert sum(stats["used"].values()) == len(resident)
    return set(stats["running_containers"])


def test_what_others_start_and_stop(tmp_path: Path, container: Make) -> None:
    """A third one, one that is nobody's backend, and one of ours."""
    names = {one: container(one) for one in ("a", "b", "c")}
    stray = container("a-too")
    a, b, c = names.values()
    began = time.time()

    def is_seen(name: str, up: bool) -> None:
        until(lambda: (name in running(launcher)) is up, f"{name} up: {up}")
        seen = time.time()
        assert seen - moments(began, name)[-1].at <= SOON

    with Launcher(tmp_path, routes_of(names, gpu=2)) as launcher:
        for one in ("a", "b"):
            assert launcher.get(f"/{one}/v1/models")[0] == 200
        images.docker("start", stray)
        assert running(launcher) == {a, b}

        body = json.dumps({"stream": True, "x_tokens": 100, "x_delay": 0.03}).encode()
        with ThreadPoolExecutor(1) as clients:
            stream = clients.submit(launcher.request, "POST", "/b/v1/completions", body)
            until(lambda: launcher.backend("b")["in_flight"] == 1, "b is busy")
            images.docker("start", c)
            is_seen(c, True)
            # Three are too many: the one that is idle makes way for what somebody wants up.
            until(lambda: running(launcher) == {b, c}, "the surplus goes")
            assert not images.show(a)["State"]["Running"]
            status, said = stream.result()
            assert (status, said.count(b'"b-')) == (200, 100)
        assert said.endswith(b"data: [DONE]\n\n")

        images.docker("stop", "-t", "1", b)
        is_seen(b, False)
        by_hand = time.time()
        until(lambda: launcher.state("c") == "ready", "c is adopted")
        assert launcher.get("/a/v1/models")[0] == 200
        assert running(launcher) == {a, c}
        assert launcher.get("/c/v1/models")[0] == 200
    # Nothing was started twice, and from the stranger on never more than fit.
    log = moments(began, *names.values())
    assert [one.running for one in log if one.container == c] == [True]
    assert [one.running for one in log if one.container == b] == [True, False]
    assert [one.running for one in log if one.container == a] == [True, False, True]
    assert most_at_once([one for one in log if one.at > by_hand]) == 1
    assert images.show(stray)["State"]["Running"]


def test_a_daemon_that_is_restarted(tmp_path: Path, container: Make, engine: PrivateEngine) -> None:
    """Its containers end with it; what is started by hand afterwards is seen as before."""
    names = {one: container(one, host=engine.host) for one in ("a", "b", "c")}
    top = f'docker_host = "{engine.host}"'
    with Launcher(tmp_path, routes_of(names, gpu=2), top=top) as launcher:
        for one in ("a", "b"):
            assert launcher.get(f"/{one}/v1/models")[0] == 200
        engine.stop()
        until(lambda: launcher.get("/readyz")[0] == 503, "Docker is away")
        time.sleep(OUTAGE)
        engine.start()
        until(lambda: running(launcher) == set(), "both have ended", patience=SOON)
        until(lambda: launcher.get("/readyz")[0] == 200, "Docker is back", patience=SOON)

        images.docker("start", names["c"], host=engine.host)
        until(lambda: running(launcher) == {names["c"]}, "c was started", patience=SOON)
        assert launcher.get("/a/v1/models")[0] == 200
        assert running(launcher) == {names["a"], names["c"]}


@pytest.mark.parametrize("engine", [("--live-restore",)], indirect=True)
def test_while_docker_is_away_what_runs_is_served(
    tmp_path: Path, container: Make, engine: PrivateEngine
) -> None:
    """And nothing of it has been restarted once the daemon is back."""
    names = {one: container(one, host=engine.host) for one in ("a", "b")}
    routes = routes_of(names, gpu=1) + process_route("small")
    top = f'docker_host = "{engine.host}"'

    def state(name: str) -> Any:
        return images.show(names[name], host=engine.host)["State"]

    with Launcher(tmp_path, routes, top=top) as launcher, ThreadPoolExecutor(1) as clients:
        body = json.dumps({"stream": True, "x_tokens": 100, "x_delay": 0.05}).encode()
        stream = clients.submit(launcher.request, "POST", "/a/v1/completions", body)
        until(lambda: launcher.state("a") == "ready", "a is up")
        started = state("a")["StartedAt"]
        engine.kill()
        until(lambda: launcher.get("/readyz")[0] == 503, "it is noticed")
        (problem,) = json.loads(launcher.get("/readyz")[1])["problems"]
        assert (problem["code"], problem["driver"]) == ("docker_unavailable", "docker@local")
        assert launcher.json("/api/status")["problems"] == [problem]
        assert engine.host in launcher.json("/api/status")["drivers"]["docker@local"]

        # Others who need the place are refused, not served at the expense of who has it.
        for other in ("b", "small"):
            status, told = launcher.get(f"/{other}/v1/models")
            assert (status, json.loads(told)["error"]["code"]) == (503, "docker_unavailable")
        status, said = stream.result()
        assert (status, said.count(b'"a-')) == (200, 100)
        assert said.endswith(b"data: [DONE]\n\n")
        # Nor is it stopped for its idleness, which nobody could do now.
        assert launcher.backend("a")["idle_stop_at"] is None
        assert launcher.get("/a/v1/models")[0] == 200
        assert launcher.state("a") == "ready"

        engine.start()
        until(lambda: launcher.get("/readyz")[0] == 200, "it is back", patience=SOON)
        assert launcher.get("/a/v1/models")[0] == 200
        assert state("a")["StartedAt"] == started
        assert launcher.get("/b/v1/models")[0] == 200
        assert not state("a")["Running"]
