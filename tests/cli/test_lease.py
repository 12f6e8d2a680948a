"""`launcher lease take | list | renew | release`."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from tests.cli.running import ENVIRON, command, run
from tests.cli.saying import Saying, error


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


def test_it_is_taken_and_its_number_printed(launcher: Saying) -> None:
    launcher.says("POST /api/leases", (201, lease()))

    done = run("lease", "take", "comfy", "--ttl", "45m", "--note", "x", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "7\n")
    assert done.stderr == "lease 7 on comfy is granted, for 45 min\n"
    assert launcher.bodies("POST /api/leases") == [{"route": "comfy", "note": "x", "ttl": "45m"}]


def test_capacity_is_reserved(launcher: Saying) -> None:
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
def test_what_is_held_has_to_be_said(args: tuple[str, ...]) -> None:
    done = run("lease", "take", *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--needs" in done.stderr
    assert "NAME=UNITS" in done.stderr


def test_a_place_that_is_leased(launcher: Saying) -> None:
    launcher.says("POST /api/leases", error(409, "leased", "Lease 3 holds the place."))

    done = run("lease", "take", "comfy", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (1, "Lease 3 holds the place.\n")


def test_an_interruption_gives_it_up(launcher: Saying) -> None:
    process = subprocess.Popen(
        command("lease", "take", "comfy", "--url", "http://127.0.0.1:9"),
        env=ENVIRON,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0


def test_those_that_are_held(launcher: Saying) -> None:
    pending = lease(id=8, routes=["a", "b"], state="pending", remaining_seconds=None, note="\x1b")
    launcher.says("GET /api/leases", {"leases": [lease(), pending]})

    done = run("lease", "list", "--url", launcher.url)

    assert (done.returncode, done.stderr) == (0, "")
    first, second = (line.split() for line in done.stdout.splitlines()[1:])
    assert first == ["7", "comfy", "active", "45", "min", "anna", "the", "video"]
    assert second == ["8", "a,", "b", "pending", "anna", r"\x1b"]


def test_nothing_is_held(launcher: Saying) -> None:
    launcher.says("GET /api/leases", {"leases": []})

    done = run("lease", "list", "--url", launcher.url)
    raw = run("lease", "list", "--json", "--url", launcher.url)

    assert (done.stdout, done.stderr) == ("", "nothing is leased\n")
    assert json.loads(raw.stdout) == {"leases": []}


def test_renewing(launcher: Saying) -> None:
    launcher.says("PUT /api/leases/7", lease(remaining_seconds=600.0))
    launcher.says("PUT /api/leases/6", error(409, "stale_lease", "Lease 6 has ended: expired."))

    done = run("lease", "renew", "7", "--ttl", "10m", "--url", launcher.url)
    stale = run("lease", "renew", "6", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "lease 7 on comfy goes on, for 10 min\n")
    assert (stale.returncode, stale.stderr) == (1, "Lease 6 has ended: expired.\n")
    assert launcher.bodies("PUT /api/leases/7") == [{"ttl": "10m"}]
    assert launcher.bodies("PUT /api/leases/6") == [{}]


def test_releasing(launcher: Saying) -> None:
    launcher.says("DELETE /api/leases/7", lease(state="released"))

    done = run("lease", "release", "7", "--url", launcher.url)

    assert (done.returncode, done.stdout) == (0, "lease 7 is released\n")


@pytest.mark.parametrize("name", ["take", "list", "renew", "release"])
def test_every_command_has_an_example(name: str) -> None:
    assert f"  launcher lease {name}" in run("lease", name, "--help").stdout
