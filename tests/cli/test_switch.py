"""`launcher switch`: steps, words, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from tests.cli.running import ENVIRON, command, run
from tests.cli.saying import Saying, error
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


def test_the_steps_are_told_as_they_end(launcher: Saying) -> None:
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
def test_how_it_ends_is_the_exit_code(launcher: Saying, state: str, code: int) -> None:
    launcher.says("POST /api/switch", BEGUN)
    why = {"code": "backend_start_failed", "message": "exit code 1", "detail": "no CUDA\x1b"}
    launcher.says("GET /api/switches/7", switch(state, step("start comfy", False), error=why))

    done = run("switch", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (code, f"the switch to comfy {state}\n")
    assert done.stderr.splitlines() == [
        "start comfy: failed after 1.5 s",
        r"    no CUDA\x1b",
    ]


def test_without_waiting(launcher: Saying) -> None:
    launcher.says("POST /api/switch", BEGUN)

    words = run("switch", "qwen", "--model", "--force", "--no-wait", "--url", launcher.url)
    raw = run("switch", "comfy", "--no-wait", "--json", "--url", launcher.url)

    assert (words.returncode, words.stderr) == (0, "")
    assert words.stdout.startswith("switch 7 is under way")
    assert json.loads(raw.stdout) == BEGUN[1]
    assert launcher.asked[0][1] == {"model": "qwen", "wait": False, "force": True}


def test_json_of_the_whole_switch(launcher: Saying) -> None:
    launcher.says("POST /api/switch", BEGUN)
    launcher.says("GET /api/switches/7", switch("succeeded"))

    done = run("switch", "comfy", "--json", "--url", launcher.url)

    assert json.loads(done.stdout) == switch("succeeded")


def test_a_place_that_is_leased(launcher: Saying) -> None:
    held = error(409, "leased", "Lease 3 (chat, until 09:00) holds the place.")
    launcher.says("POST /api/switch", held)

    done = run("switch", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Lease 3 (chat, until 09:00) holds the place.\n"


def test_an_interruption_says_that_it_goes_on(launcher: Saying) -> None:
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


def test_on_a_terminal_the_steps_move(launcher: Saying) -> None:
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
