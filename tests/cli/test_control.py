"""`launcher switch`: steps, words, exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import threading
from typing import Any

import pytest

from launcher.cli.control import changes
from launcher.core.types import BackendState, Failure
from launcher.errors import LauncherError
from tests.api.world import CHAT, CODER, FakeAdmission, FakeControl
from tests.cli.running import ENVIRON, command, run
from tests.cli.scripted import ScriptedLauncher, error
from tests.cli.terminal import Terminal

BEGUN = (202, {"switch_id": 7, "state": "queued"})


def step(name: str, ok: bool | None = True, detail: str | None = None) -> dict[str, Any]:
    took = None if ok is None else 1500
    return {
        "name": name,
        "time": "2027-01-15T08:00:00.000Z",
        "duration_ms": took,
        "ok": ok,
        "detail": detail,
    }


def switch(state: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "switch_id": 7,
        "state": state,
        "to": "comfy",
        "steps": list(steps),
        "started_at": "2027-01-15T08:00:00.000Z",
        "duration_ms": 12_000,
        "predicted_ms": 26_000,
        "error": None,
        "state_text": state,
    } | more


def test_the_steps_are_told_as_they_end(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/switch", BEGUN)
    launcher.says(
        "GET /api/switches/7",
        switch("queued"),
        switch("running", step("stop chat"), step("start comfy", None)),
        switch("succeeded", step("stop chat"), step("start comfy", True, "ready after 1.5 s")),
    )

    done = run("switch", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "the switch to comfy succeeded\n")
    assert done.stderr.splitlines() == [
        "stop chat: done after 1.5 s",
        "start comfy: done after 1.5 s (ready after 1.5 s)",
    ]
    assert launcher.bodies("POST /api/switch") == [
        {"route": "comfy", "wait": False, "force": False}
    ]


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("rolled_back", 3)])
def test_how_it_ends_is_the_exit_code(launcher: ScriptedLauncher, state: str, code: int) -> None:
    launcher.says("POST /api/switch", BEGUN)
    why = {"code": "backend_start_failed", "message": "exit code 1", "detail": "no CUDA\x1b"}
    launcher.says("GET /api/switches/7", switch(state, step("start comfy", False), error=why))

    done = run("switch", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (code, f"the switch to comfy {state}\n")
    assert done.stderr.splitlines() == [
        "start comfy: failed after 1.5 s",
        r"    no CUDA\x1b",
    ]


def test_without_waiting(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/switch", BEGUN)

    words = run("switch", "qwen", "--model", "--force", "--no-wait", "--url", launcher.url)
    raw = run("switch", "comfy", "--no-wait", "--json", "--url", launcher.url)

    assert (words.returncode, words.stderr) == (0, "")
    assert words.stdout.startswith("switch 7 is under way")
    assert json.loads(raw.stdout) == BEGUN[1]
    assert launcher.asked[0][1] == {"model": "qwen", "wait": False, "force": True}


def test_json_of_the_whole_switch(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/switch", BEGUN)
    launcher.says("GET /api/switches/7", switch("succeeded"))

    done = run("switch", "comfy", "--json", "--url", launcher.url)

    assert json.loads(done.stdout) == switch("succeeded")


def test_a_place_that_is_leased(launcher: ScriptedLauncher) -> None:
    held = error(409, "leased", "Lease 3 (chat, until 09:00) holds the place.")
    launcher.says("POST /api/switch", held)

    done = run("switch", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Lease 3 (chat, until 09:00) holds the place.\n"


def test_an_interruption_says_that_it_goes_on(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/switch", BEGUN)
    launcher.says("GET /api/switches/7", switch("running", step("drain chat"), step("x", None)))
    process = subprocess.Popen(
        command("switch", "comfy", "--url", launcher.url),
        env=ENVIRON,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("drain chat")
        process.send_signal(signal.SIGINT)
        assert "switch 7 goes on" in process.stderr.read()
    assert process.returncode == 130


def test_on_a_terminal_the_steps_move(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/switch", BEGUN)
    running = switch("running", step("stop chat"), step("start comfy", None))
    launcher.says("GET /api/switches/7", running)

    with Terminal("switch", "comfy", "--url", launcher.url) as terminal:
        terminal.shows("about 26 s left")
        terminal.shows("…  start comfy")
        launcher.says("GET /api/switches/7", switch("succeeded", step("start comfy")))
        terminal.shows("the switch to comfy succeeded")
        assert terminal.left() == 0
        assert terminal.restored


def mode(name: str | None) -> dict[str, Any]:
    return {
        "mode": name,
        "lease": None if name is None else {"remaining_seconds": 600.0},
        "modes": [{"mode": "image", "routes": ["comfy"]}, {"mode": "llm", "routes": ["a", "b"]}],
    }


def test_it_is_shown(launcher: ScriptedLauncher) -> None:
    launcher.says("GET /api/mode", mode("image"))

    done = run("mode", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mode image, for another 10 min",
        " * image: comfy",
        "   llm: a, b",
    ]
    assert json.loads(run("mode", "--json", "--url", launcher.url).stdout) == mode("image")


def test_it_is_changed(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/mode", (201, {}))
    launcher.says("GET /api/mode", mode("llm"))

    done = run("mode", "llm", "--ttl", "10m", "--url", launcher.url)

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "mode llm, for another 10 min")
    assert launcher.bodies("POST /api/mode") == [{"mode": "llm", "ttl": "10m"}]


def test_it_is_left(launcher: ScriptedLauncher) -> None:
    launcher.says("DELETE /api/mode", {})
    launcher.says("GET /api/mode", mode(None))

    done = run("mode", "--leave", "--url", launcher.url)

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "no mode")


def test_one_that_is_not_there(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/mode", error(404, "unknown_mode", "No mode of that name."))

    done = run("mode", "imgae", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (1, "No mode of that name.\n")


def test_both_at_once() -> None:
    assert run("mode", "image", "--leave").returncode == 2


class TestStart:
    def test_it_ends_when_the_backend_is_ready(self, control: FakeControl, url: str) -> None:
        def ready(admission: FakeAdmission) -> None:
            control.put(CODER, BackendState.READY)
            admission.settle()

        control.on_admit = ready

        done = run("start", "coder", "--url", url)

        assert (done.returncode, done.stdout) == (0, "coder is ready\n")
        assert control.admissions[0].ask.operator

    def test_its_error_is_told_with_the_last_lines(self, control: FakeControl, url: str) -> None:
        failed = LauncherError("backend_start_failed", "exit code 1", detail="one\ntw\x1bo")
        control.on_admit = lambda admission: admission.settle(failed)

        done = run("start", "coder", "--url", url)

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "exit code 1\n    one\n    tw\\x1bo\n"

    def test_an_unknown_route(self, url: str) -> None:
        done = run("start", "nope", "--url", url)

        assert done.returncode == 1
        assert "coder, chat, tiny" in done.stderr

    def test_progress_is_shown_line_by_line_where_there_is_no_terminal(
        self, control: FakeControl, url: str
    ) -> None:
        control.put(CHAT, BackendState.DRAINING, in_flight=1)
        process = subprocess.Popen(
            command("start", "coder", "--url", url),
            env=ENVIRON,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline() == (
                "making room for coder: chat finishes one request\n"
            )
            control.put(CHAT, BackendState.STOPPED, in_flight=0)
            control.put(CODER, BackendState.STARTING)
            # The other line may come once more, if it was being looked at right now.
            assert process.stderr.readline().startswith(("starting coder", "coder waits"))
            settle(control)
            output, _ = process.communicate(timeout=60)

        assert (process.returncode, output) == (0, "coder is ready\n")

    def test_progress_moves_on_a_terminal(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.STARTING)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            command("start", "coder", "--url", url),
            env=ENVIRON | {"TERM": "xterm"},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        seen = b""
        with process:
            while b"starting coder" not in seen:
                seen += os.read(ours, 65536)
            settle(control)
            drain = threading.Thread(target=until_closed, args=(ours,))
            drain.start()
            assert process.wait(60) == 0
            drain.join(30)
        os.close(ours)

    def test_an_interruption_gives_up_the_place_and_says_so(
        self, control: FakeControl, url: str
    ) -> None:
        control.put(CODER, BackendState.STARTING)
        process = subprocess.Popen(
            command("start", "coder", "--url", url),
            env=ENVIRON,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline() == "starting coder\n"
            process.send_signal(signal.SIGINT)
            assert "interrupted" in process.stderr.read()

        assert process.returncode == 130
        gone = threading.Event()
        for _ in range(3000):
            if control.admissions[0].left:
                break
            gone.wait(0.01)
        assert control.admissions[0].left

    def test_a_launcher_that_is_away_is_told_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        done = run("start", "coder", "--url", f"http://127.0.0.1:{port}")

        assert done.returncode == 1
        assert "launcher serve" in done.stderr


class TestStop:
    def test_it_ends_when_nothing_runs(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPED)

        done = run("stop", "coder", "--url", url)

        assert (done.returncode, done.stdout) == (0, "coder is stopped\n")
        assert control.stops == [(CODER, False)]

    def test_by_force(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.READY)
        control.on_stop = lambda backend: control.put(backend, BackendState.STOPPED)

        assert run("stop", "coder", "--force", "--url", url).returncode == 0
        assert control.stops == [(CODER, True)]

    def test_a_stop_that_fails(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.READY)
        stuck = Failure("backend_stop_failed", "it ignores SIGKILL")
        control.on_stop = lambda backend: control.put(
            backend, BackendState.STOPPING, stop_failure=stuck
        )

        done = run("stop", "coder", "--url", url)

        assert done.returncode == 1
        assert "it ignores SIGKILL" in done.stderr


def settle(control: FakeControl) -> None:
    """Grant what waits, on the loop that it waits on."""
    (admission,) = control.admissions
    admission.loop.call_soon_threadsafe(admission.settle)


def until_closed(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass  # Linux: the other end of a pty was closed


def test_a_route_and_everything(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/drain", {})
    launcher.says("POST /api/resume", {})

    told = [
        run(*words, "--url", launcher.url).stdout
        for words in (("drain", "chat"), ("drain",), ("resume", "chat"), ("resume",))
    ]

    assert told == [
        "chat is drained: new requests are refused\n",
        "everything is drained: new requests are refused\n",
        "chat takes requests again\n",
        "everything takes requests again\n",
    ]
    assert [body for _, body in launcher.asked] == [{"route": "chat"}, {"route": None}] * 2


def test_who_is_not_there(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/drain", error(404, "unknown_route", "No route of that name."))

    done = run("drain", "caht", "--url", launcher.url)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "No route of that name.\n")


NOTHING = {
    "changed": False,
    "routes": {"added": [], "removed": [], "changed": {}},
    "backends": {"added": [], "removed": [], "changed": {}, "replaced": []},
    "settings": [],
    "needs_restart": [],
    "warnings": [],
    "duration_ms": 12,
}
MUCH = NOTHING | {
    "changed": True,
    "routes": {"added": ["new"], "removed": ["old"], "changed": {"chat": ["models", "auth"]}},
    "backends": {"added": [], "removed": [], "changed": {}, "replaced": ["chat"]},
    "settings": ["idle_timeout"],
    "needs_restart": ["listen"],
}


def test_what_has_changed() -> None:
    assert changes(dict(MUCH)) == [
        "routes added: new",
        "routes changed: chat (models, auth)",
        "routes removed: old",
        "backends replaced: chat",
        "settings changed: idle_timeout",
        "needs a restart: listen",
    ]


def test_nothing_has_changed(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/reload", NOTHING | {"warnings": ["no such container\x1b: chat"]})

    done = run("reload", "--url", launcher.url)
    raw = run("reload", "--json", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "nothing has changed\n")
    assert done.stderr == "warning: no such container\\x1b: chat\n"
    assert json.loads(raw.stdout)["duration_ms"] == 12


def test_a_configuration_with_problems(launcher: ScriptedLauncher) -> None:
    status, body = error(400, "bad_configuration", "The configuration has 1 problem.")
    body["error"]["detail"] = "routes.toml: chat: no port"
    launcher.says("POST /api/reload", (status, body))

    done = run("reload", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The configuration has 1 problem.\n    routes.toml: chat: no port\n"


def lease(**more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "state": "active",
        "routes": ["comfy"],
        "needs": {},
        "mode": None,
        "by": "anna",
        "note": "the video",
        "remaining_seconds": 2699.9,
    } | more


def test_it_is_taken_and_its_number_printed(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/leases", (201, lease()))

    done = run("lease", "take", "comfy", "--ttl", "45m", "--note", "x", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "7\n")
    assert done.stderr == "lease 7 on comfy is granted, for 45 min\n"
    assert launcher.bodies("POST /api/leases") == [{"route": "comfy", "note": "x", "ttl": "45m"}]


def test_capacity_is_reserved(launcher: ScriptedLauncher) -> None:
    reserved = lease(routes=[], needs={"gpu": 1}, remaining_seconds=None)
    launcher.says("POST /api/leases", (201, reserved))

    done = run(
        *("lease", "take", "--needs", "gpu=1", "--needs", "vram=20GiB", "--pin", "--json"),
        *("--url", launcher.url),
    )

    assert (done.returncode, json.loads(done.stdout)) == (0, reserved)
    assert launcher.bodies("POST /api/leases") == [
        {"route": None, "note": "", "needs": {"gpu": 1, "vram": "20GiB"}, "pin": True}
    ]


@pytest.mark.parametrize(
    "args", [(), ("comfy", "--needs", "gpu=1"), ("--needs", "gpu"), ("--needs", "=1")]
)
def test_a_lease_needs_a_route_or_needs(args: tuple[str, ...]) -> None:
    done = run("lease", "take", *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--needs" in done.stderr
    assert "NAME=UNITS" in done.stderr


def test_a_lease_of_a_place_that_is_leased(launcher: ScriptedLauncher) -> None:
    launcher.says("POST /api/leases", error(409, "leased", "Lease 3 holds the place."))

    done = run("lease", "take", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (1, "Lease 3 holds the place.\n")


def test_an_interruption_gives_it_up(launcher: ScriptedLauncher) -> None:
    process = subprocess.Popen(
        command("lease", "take", "comfy", "--url", "http://127.0.0.1:9"),
        env=ENVIRON,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0


def test_those_that_are_held(launcher: ScriptedLauncher) -> None:
    pending = lease(id=8, routes=["a", "b"], state="pending", remaining_seconds=None, note="\x1b")
    launcher.says("GET /api/leases", {"leases": [lease(), pending]})

    done = run("lease", "list", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (0, "")
    first, second = (line.split() for line in done.stdout.splitlines()[1:])
    assert first == ["7", "comfy", "active", "45", "min", "anna", "the", "video"]
    assert second == ["8", "a,", "b", "pending", "anna", r"\x1b"]


def test_nothing_is_held(launcher: ScriptedLauncher) -> None:
    launcher.says("GET /api/leases", {"leases": []})

    done = run("lease", "list", "--url", launcher.url)
    raw = run("lease", "list", "--json", "--url", launcher.url)

    assert (done.stdout, done.stderr) == ("", "nothing is leased\n")
    assert json.loads(raw.stdout) == {"leases": []}


def test_renewing(launcher: ScriptedLauncher) -> None:
    launcher.says("PUT /api/leases/7", lease(remaining_seconds=600.0))
    launcher.says("PUT /api/leases/6", error(409, "stale_lease", "Lease 6 has ended: expired."))

    done = run("lease", "renew", "7", "--ttl", "10m", "--url", launcher.url)
    stale = run("lease", "renew", "6", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "lease 7 on comfy goes on, for 10 min\n")
    assert (stale.returncode, stale.stderr) == (1, "Lease 6 has ended: expired.\n")
    assert launcher.bodies("PUT /api/leases/7") == [{"ttl": "10m"}]
    assert launcher.bodies("PUT /api/leases/6") == [{}]


def test_releasing(launcher: ScriptedLauncher) -> None:
    launcher.says("DELETE /api/leases/7", lease(state="released"))

    done = run("lease", "release", "7", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "lease 7 is released\n")


@pytest.mark.parametrize("name", ["take", "list", "renew", "release"])
def test_every_command_has_an_example(name: str) -> None:
    assert f"  launcher lease {name}" in run("lease", name, "--help").stdout
