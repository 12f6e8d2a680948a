"""A script for an older switcher, as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.serving import Launcher, container_route, process_route, until

MODES = """
[modes.llm]
routes = ["chat"]

[modes.image]
routes = ["comfy"]
ttl = "45m"
"""
ROUTES = process_route("chat") + process_route("comfy") + MODES


def post(launcher: Launcher, path: str, **body: Any) -> tuple[int, Any]:
    kind = {"Content-Type": "application/json"}
    status, told = launcher.request("POST", path, json.dumps(body).encode(), **kind)
    return status, json.loads(told)


@pytest.mark.slow
def test_a_day_of_an_older_script(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES, top='home = "chat"') as launcher:
        assert launcher.get("/health")[0] == 200
        until(lambda: launcher.get("/healthz/ready")[0] == 200, "everything was looked at")
        assert {one["id"] for one in launcher.json("/models")["data"]} == {"chat", "comfy"}
        assert launcher.json("/status")["switch"] == {"status": "idle"}

        status, told = post(launcher, "/switch", model="chat")
        assert (status, told["status"], told["to_model"]) == (200, "success", "chat")
        assert launcher.json("/status")["switch"]["status"] == "success"

        status, told = post(
            launcher, "/mode/switch", mode="image", ttl_minutes=45, wait_for_ready=False
        )
        assert (status, told["status"]) == (202, "accepted")
        until(lambda: launcher.json(told["poll_endpoint"])["state"] == "active")
        assert launcher.json("/mode")["mode"] == "image"
        assert post(launcher, "/switch", model="chat")[0] == 409

        assert post(launcher, "/mode/release")[0] == 200
        until(lambda: launcher.state("chat") == "ready", "home")
        assert post(launcher, "/stop")[1]["stopped"] == ["chat"]
        assert post(launcher, "/switch", model="nobody")[0] == 400


@pytest.mark.docker
@pytest.mark.slow
def test_a_container_that_was_never_created(tmp_path: Path) -> None:
    with Launcher(tmp_path, container_route("none", "lzt-never-created")) as launcher:
        status, told = post(launcher, "/switch", model="lzt-never-created")
        assert (status, told["error"]["code"]) == (412, "backend_missing")
