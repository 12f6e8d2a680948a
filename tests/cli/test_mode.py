"""`launcher mode`."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.running import run
from tests.cli.saying import Saying, error


def mode(name: str | None) -> dict[str, Any]:
    return {
        "mode": name,
        "lease": None if name is None else {"remaining_seconds": 600.0},
        "modes": [{"mode": "image", "routes": ["comfy"]}, {"mode": "llm", "routes": ["a", "b"]}],
    }


def test_it_is_shown(launcher: Saying) -> None:
    launcher.says("GET /api/mode", mode("image"))

    done = run("mode", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mode image, for another 10 min",
        " * image: comfy",
        "   llm: a, b",
    ]
    assert json.loads(run("mode", "--json", "--url", launcher.url).stdout) == mode("image")


def test_it_is_changed(launcher: Saying) -> None:
    launcher.says("POST /api/mode", (201, {}))
    launcher.says("GET /api/mode", mode("llm"))

    done = run("mode", "llm", "--ttl", "10m", "--url", launcher.url)

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "mode llm, for another 10 min")
    assert launcher.bodies("POST /api/mode") == [{"mode": "llm", "ttl": "10m"}]


def test_it_is_left(launcher: Saying) -> None:
    launcher.says("DELETE /api/mode", {})
    launcher.says("GET /api/mode", mode(None))

    done = run("mode", "--leave", "--url", launcher.url)

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "no mode")


def test_one_that_is_not_there(launcher: Saying) -> None:
    launcher.says("POST /api/mode", error(404, "unknown_mode", "No mode of that name."))

    done = run("mode", "imgae", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (1, "No mode of that name.\n")


def test_both_at_once() -> None:
    assert run("mode", "image", "--leave").returncode == 2
