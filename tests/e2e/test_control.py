"""What operators do, with real containers: switches, leases and modes, over kills.

The engine's own log says what really ran; the API's story has to agree with it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import images
from tests.e2e.conftest import Make
from tests.e2e.engine_log import Following, most_at_once
from tests.e2e.serving import Launcher, container_route, process_route, until

pytestmark = pytest.mark.docker

#: Seconds in which each state of a switch lasts, so that it can be met.
LONG = "2.5"


def call(launcher: Launcher, method: str, path: str, **body: object) -> tuple[int, Any]:
    """Ask the API; the status, and what it says."""
    sent = json.dumps(body).encode() if body else None
    kind = {"Content-Type": "application/json"} if body else {}
    status, said = launcher.request(method, path, sent, **kind)
    return status, json.loads(said)


def switch(launcher: Launcher, id: int) -> dict[str, Any]:
    found: dict[str, Any] = launcher.json(f"/api/switches/{id}")
    return found


def over(launcher: Launcher, id: int) -> dict[str, Any]:
    """A switch that has come to its end."""

    def look() -> dict[str, Any] | None:
        found = switch(launcher, id)
        return found if found["state"] not in ("queued", "running") else None

    return until(look, f"switch {id} is over")


def answers(launcher: Launcher, route: str) -> int:
    """One request that has to be served, however long it waits; its status."""
    status, _ = launcher.request("POST", f"/{route}/v1/chat/completions", b'{"messages": []}')
    return status


class Clients:
    """Some who ask a route over and over while the block runs."""

    def __init__(self, launcher: Launcher, route: str, many: int = 3) -> None:
        self._launcher, self._route, self._many = launcher, route, many
        self._over = threading.Event()
        self.statuses: list[int] = []

    def _ask(self) -> None:
        while not self._over.is_set():
            self.statuses.append(answers(self._launcher, self._route))

    def __enter__(self) -> Clients:
        self._pool = ThreadPoolExecutor(self._many)
        self._running = [self._pool.submit(self._ask) for _ in range(self._many)]
        until(lambda: self.statuses, "somebody is served")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for one in self._running:
            one.result()

    def served_since(self) -> Callable[[], bool]:
        """Whether somebody more was served than by now."""
        before = len(self.statuses)
        return lambda: len(self.statuses) > before


def test_a_switch_that_fails_brings_back_what_was_there(tmp_path: Path, container: Make) -> None:
    a = container("a", START_DELAY="1", TERM_DELAY="1")
    b = container("b", EXIT_CODE="3", START_DELAY="60")
    routes = container_route("a", a) + container_route("b", b)
    with Following(a, b) as log, Launcher(tmp_path, routes) as launcher:
        with Clients(launcher, "a") as clients:
            status, told = call(launcher, "POST", "/api/switch", route="b")
            until(clients.served_since(), "a serves again")
        assert status == 503
        assert told["error"]["code"] == "backend_start_failed"
        assert "exit code 3" in told["error"]["message"]
        failed = told["switch"]
        assert (failed["state"], failed["from"], failed["to"]) == ("rolled_back", ["a"], "b")
        assert failed["resident_before"] == ["a"]
        names = [step["name"] for step in failed["steps"]]
        assert names[0] in ("drain a", "stop a")
        assert names.index("stop a") < names.index("start b") < names.index("restore a")
        assert failed["steps"][-1]["ok"]
        assert failed["restore_error"] is None
        assert "a is back" in failed["state_text"]
        assert set(clients.statuses) == {200}, "they waited, none failed"
        backends = {one["backend"]: one for one in launcher.json("/api/status")["backends"]}
        assert backends["a"]["state"] == "ready"
        assert backends["b"]["last_error"]["code"] == "backend_start_failed"
        found = log.moments()
    assert most_at_once(found) == 1
    assert [(one.container, one.running) for one in found] == [
        (a, True), (a, False), (b, True), (b, False), (a, True),
    ]  # fmt: skip


def test_two_at_once_have_their_turns(tmp_path: Path, container: Make) -> None:
    names = [container(one, TERM_DELAY="0.5", START_DELAY="0.5") for one in "abc"]
    routes = "".join(container_route(one, name) for one, name in zip("abc", names, strict=True))
    with Following(*names) as log, Launcher(tmp_path, routes) as launcher:
        assert answers(launcher, "a") == 200
        with ThreadPoolExecutor(2) as pool:
            both = [
                pool.submit(call, launcher, "POST", "/api/switch", route=route) for route in "bc"
            ]
            told = sorted((one.result() for one in both), key=lambda one: one[1]["switch_id"])
        assert [status for status, _ in told] == [200, 200]
        first, second = (one for _, one in told)
        assert first["finished_at"] <= second["started_at"]
        assert second["from"] == [first["to"]]
        assert launcher.state(second["to"]) == "ready"
        assert most_at_once(log.moments()) == 1


def test_a_lease_that_ends_during_a_switch_and_a_token_that_is_stale(
    tmp_path: Path, container: Make
) -> None:
    names = [container(one, START_DELAY=LONG if one == "b" else "0") for one in "abc"]
    one_each = "needs = { gpu = 1 }"
    routes = "[capacity]\ngpu = 2\n" + "".join(
        container_route(one, name, lines=one_each) for one, name in zip("abc", names, strict=True)
    )
    with Following(*names) as log, Launcher(tmp_path, routes) as launcher:
        assert answers(launcher, "c") == 200
        status, lease = call(launcher, "POST", "/api/leases", route="a", ttl="1s", note="brief")
        assert (status, lease["state"]) == (201, "active")
        status, done = call(launcher, "POST", "/api/switch", route="b")
        assert (status, done["state"], done["from"]) == (200, "succeeded", ["c"])
        ended = launcher.json(f"/api/leases/{lease['id']}")
        assert ended["state"] == "expired"
        assert done["started_at"] < ended["ended_at"] < done["finished_at"]

        status, later = call(launcher, "POST", "/api/leases", route="a", ttl="10m")
        assert status == 201
        assert later["id"] > lease["id"]
        status, told = call(launcher, "PUT", f"/api/leases/{lease['id']}", ttl="10m")
        assert (status, told["error"]["code"]) == (409, "stale_lease")
        status, told = call(launcher, "PUT", f"/api/leases/{later['id']}", ttl="20m")
        assert status == 200
        assert 1190 < told["remaining_seconds"] <= 1200
        assert most_at_once(log.moments()) == 2


def test_who_holds_the_place_is_named_and_force_breaks_it(tmp_path: Path, container: Make) -> None:
    a, b = container("a"), container("b")
    routes = container_route("a", a) + container_route("b", b, lines='on_lease = "reject"')
    with Launcher(tmp_path, routes) as launcher:
        call(launcher, "POST", "/api/leases", route="a", note="nightly render")
        status, told = call(launcher, "POST", "/api/switch", route="b")
        assert (status, told["error"]["code"]) == (409, "leased")
        assert "Lease 1 (a, nightly render, until" in told["error"]["message"]
        status, said = launcher.request("POST", "/b/v1/chat/completions", b"{}")
        assert (status, json.loads(said)["error"]["code"]) == (409, "leased")
        status, told = call(launcher, "POST", "/api/switch", route="b", force=True)
        assert (status, told["broken_leases"]) == (200, [1])
        broken = launcher.json("/api/leases/1")
        assert (broken["state"], broken["ended_by"]) == ("broken", f"switch {told['switch_id']}")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["queued", "draining", "stopping", "starting", "restoring"])
def test_a_kill_in_any_state_of_a_switch(moment: str, tmp_path: Path, container: Make) -> None:
    fails = moment == "restoring"
    more = {"EXIT_CODE": "3", "EXIT_AFTER": "1", "HEALTH": "never"} if fails else {}
    a = container("a", TERM_DELAY=LONG, START_DELAY=LONG)
    b = container("b", START_DELAY=LONG, **more)
    c = container("c", START_DELAY=LONG)
    routes = "".join(container_route(*pair) for pair in (("a", a), ("b", b), ("c", c)))
    with Following(a, b, c) as log, Launcher(tmp_path, routes) as launcher:
        assert answers(launcher, "a") == 200
        streaming = threading.Thread(target=_stream, args=(launcher,))
        if moment == "draining":
            streaming.start()
            until(lambda: launcher.backend("a")["in_flight"] == 1, "it streams")
        before = 0
        if moment == "queued":
            _, first = call(launcher, "POST", "/api/switch", route="c", wait=False)
            before = first["switch_id"]
        status, begun = call(launcher, "POST", "/api/switch", route="b", wait=False)
        assert status == 202
        id = begun["switch_id"]
        conditions: dict[str, Callable[[], bool]] = {
            "queued": lambda: switch(launcher, id)["state"] == "queued",
            "draining": lambda: launcher.state("a") == "draining",
            "stopping": lambda: launcher.state("a") == "stopping",
            "starting": lambda: launcher.state("b") == "starting",
            "restoring": lambda: (
                launcher.state("a") == "starting"
                and switch(launcher, id)["steps"][-1]["name"].endswith("a")
            ),
        }
        until(conditions[moment], f"it is {moment}")
        launcher.kill()
        if moment == "draining":
            streaming.join()
        launcher.start()
        done = over(launcher, id)
        assert (done["switch_id"], done["to"]) == (id, "b")
        if before:
            assert over(launcher, before)["state"] == "succeeded"
        if fails:
            assert (done["state"], done["from"]) == ("rolled_back", ["a"])
            assert done["error"]["code"] == "backend_start_failed"
            assert (launcher.state("a"), _running(a, b, c)) == ("ready", {a})
        else:
            assert (done["state"], done["error"]) == ("succeeded", None)
            assert (launcher.state("b"), _running(a, b, c)) == ("ready", {b})
        assert launcher.json("/api/status")["switches"] == []
        assert most_at_once(log.moments()) == 1


def _stream(launcher: Launcher) -> None:
    """A long answer, which a kill of the launcher cuts."""
    body = {"stream": True, "x_tokens": 2000, "x_delay": 0.02}
    try:
        launcher.request("POST", "/a/v1/chat/completions", json.dumps(body).encode())
    except OSError:
        return
    except Exception as error:
        if "IncompleteRead" not in repr(error):
            raise


def _running(*containers: str) -> set[str]:
    return {one for one in containers if images.show(one)["State"]["Running"]}


def test_leases_drains_and_decisions_outlive_a_kill(tmp_path: Path, container: Make) -> None:
    a, b = container("a"), container("b")
    routes = container_route("a", a) + container_route("b", b)
    with Following(a, b) as log, Launcher(tmp_path, routes) as launcher:
        _, lease = call(launcher, "POST", "/api/leases", route="a", ttl="8s", note="short")
        assert call(launcher, "POST", "/api/drain", route="b")[1]["routes"] == ["b"]
        launcher.kill()
        launcher.start()
        again = launcher.json(f"/api/leases/{lease['id']}")
        assert (again["state"], again["expires_at"]) == ("active", lease["expires_at"])
        assert 0 < again["remaining_seconds"] < lease["remaining_seconds"]
        assert launcher.json("/api/status")["drained"] == ["b"]
        assert launcher.request("POST", "/b/v1/chat/completions", b"{}")[0] == 503
        assert call(launcher, "POST", "/api/resume", route="b")[1]["routes"] == []
        # It waits for the lease's end, which is the one that was set before the kill.
        assert answers(launcher, "b") == 200
        ended = launcher.json(f"/api/leases/{lease['id']}")
        assert ended["state"] == "expired"
        gap = _at(ended["ended_at"]) - _at(lease["expires_at"])
        assert abs(gap) < 1.0, "in the launcher's own words, whatever the machine is busy with"
        kept = launcher.json("/api/decisions")["decisions"]
        assert any(one["backend"] == "a" and one["action"] == "start" for one in kept)
        assert [one["number"] for one in kept] == list(range(len(kept), 0, -1))
        found = [(one.container, one.running) for one in log.moments()]
    assert found[:3] == [(a, True), (a, False), (b, True)], "a was found warm"


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_corrupt_state_file_is_set_aside_and_the_launcher_runs(tmp_path: Path) -> None:
    routes = process_route("a") + process_route("b")
    with Launcher(tmp_path, routes) as launcher:
        _, lease = call(launcher, "POST", "/api/leases", route="a", ttl="10m")
        launcher.kill()
        state = tmp_path / "state.db"
        state.write_bytes(b"not a database at all " * 500)
        (tmp_path / "state.db-wal").unlink(missing_ok=True)
        began = time.time()
        launcher.start()
        assert "is corrupt" in launcher.log()
        assert list(tmp_path.glob("state.db.corrupt-*"))
        status = launcher.json("/api/status")
        assert (status["leases"], status["state_kept"]) == ([], True)
        assert answers(launcher, "b") == 200
        _, later = call(launcher, "POST", "/api/leases", route="b", ttl="10m")
        assert later["id"] > max(lease["id"], began - 1), "no token is given out twice"
        status_code, told = call(launcher, "PUT", f"/api/leases/{lease['id']}", ttl="10m")
        assert (status_code, told["error"]["code"]) == (409, "stale_lease")


def test_a_mode_and_home(tmp_path: Path, container: Make) -> None:
    names = {one: container(one) for one in "abc"}
    routes = "".join(container_route(one, name) for one, name in names.items())
    modes = '[modes.llm]\nroutes = ["a"]\n[modes.image]\nroutes = ["b"]\nttl = "3s"\n'
    with Launcher(tmp_path, routes + modes, top='home = "c"') as launcher:
        status, told = call(launcher, "POST", "/api/mode", mode="llm")
        assert (status, told["mode"], told["routes"]) == (200, "llm", ["a"])
        status, told = call(launcher, "POST", "/api/mode", mode="image")
        assert (status, told["mode"]) == (200, "image")
        assert launcher.state("b") == "ready"
        until(lambda: launcher.json("/api/mode")["mode"] is None, "it ends by itself")
        until(lambda: launcher.state("c") == "ready", "home is up again")
        images.docker("rm", "-f", names["b"])
        call(launcher, "POST", "/api/mode", mode="llm")
        status, told = call(launcher, "POST", "/api/mode", mode="image")
        assert (status, told["error"]["code"]) == (503, "backend_missing")
        assert told["mode"]["mode"] == "llm"
        until(lambda: launcher.state("a") == "ready", "the mode that was goes on")
        assert call(launcher, "DELETE", "/api/mode")[1]["mode"] is None
        until(lambda: launcher.state("c") == "ready", "home is up again")
