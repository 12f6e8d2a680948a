"""The compose stack: valid to Compose itself, and one with routes.toml."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.config import LauncherConfig
from launcher.config.environment import ELSEWHERE, VARIABLES, add_environment
from launcher.config.load import load_config
from launcher.config.sources import Document
from launcher.config.values import seconds
from launcher.drivers.base import ContainerSpec

ROOT = Path(__file__).resolve().parent.parent
UNAVAILABLE = 69


def compose(*args: str) -> subprocess.CompletedProcess[str]:
    """Run Compose in the project's folder, with none of this shell's variables in the way."""
    environ = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    return subprocess.run(
        [ROOT / "scripts/compose.sh", "--env-file", ROOT / ".env.example", *args],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """The stack as Compose understands it, every profile included."""
    done = compose("--profile", "*", "config", "--format", "json")
    if done.returncode == UNAVAILABLE and not os.environ.get("CI"):
        pytest.skip("no Docker Compose v2 here, and none to be had")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def config() -> LauncherConfig:
    """What routes.toml says in the launcher's container."""
    return load_config(str(ROOT / "routes.toml"), {"VLLM_API_KEY": "sk-test"})


def test_every_route_has_its_service(stack: dict[str, Any], config: LauncherConfig) -> None:
    containers = [one.driver for one in config.backends if isinstance(one.driver, ContainerSpec)]
    assert len(containers) == len(config.backends)
    assert {one.container for one in containers} == {
        name for name, one in stack["services"].items() if "models" in one.get("profiles", ())
    }


def test_compose_creates_the_backends_and_never_starts_them(stack: dict[str, Any]) -> None:
    started = {name for name, one in stack["services"].items() if not one.get("profiles")}
    assert started == {"launcher", "open-webui"}
    for one in stack["services"].values():
        if "models" in one.get("profiles", ()):
            assert one["restart"] == "no"
            assert "ports" not in one, "only the launcher's door leads to a backend"


def test_the_models_reserve_a_gpu_and_share_their_cache(
    stack: dict[str, Any], config: LauncherConfig
) -> None:
    occupying = {one.id for one in config.backends if one.needs is None}
    assert occupying == {"coder", "chat", "general", "coderslow", "agent", "vision"}
    for name in occupying:
        service = stack["services"][name]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert [one["source"] for one in service["volumes"]] == ["model-cache"]


def test_a_model_is_served_under_the_name_that_the_route_gives(
    stack: dict[str, Any], config: LauncherConfig
) -> None:
    for route in config.routes:
        command = stack["services"][route.backends[0]].get("command") or []
        for model in route.models:
            assert command[command.index("--served-model-name") + 1] == (model.upstream or model.id)


def test_only_what_needs_no_gpu_is_told_no_key(config: LauncherConfig) -> None:
    for route in config.routes:
        backend = config.backend(route.backends[0])
        assert (route.auth == "inject") == (backend.needs != ())


def test_the_launcher_has_the_time_to_drain(stack: dict[str, Any], config: LauncherConfig) -> None:
    grace = seconds(stack["services"]["launcher"]["stop_grace_period"])
    assert grace > config.drain_timeout


def test_the_launcher_gets_what_it_needs(stack: dict[str, Any]) -> None:
    launcher = stack["services"]["launcher"]
    targets = {one["target"] for one in launcher["volumes"]}
    assert targets >= {"/etc/launcher/routes.toml", "/var/run/docker.sock", "/var/lib/launcher"}
    assert launcher["group_add"] == ["999"]
    document = Document()
    add_environment(document, launcher["environment"])
    assert document.warnings == []
    (port,) = launcher["ports"]
    assert (port["host_ip"], port["target"]) == ("127.0.0.1", 8000)


def test_clients_and_backends_share_a_network(stack: dict[str, Any]) -> None:
    for one in stack["services"].values():
        assert list(one["networks"]) == ["models"]
    webui = stack["services"]["open-webui"]["environment"]
    assert webui["OPENAI_API_BASE_URL"] == "http://launcher:8000/openai/v1"


def test_prometheus_comes_only_when_asked_for(stack: dict[str, Any]) -> None:
    assert stack["services"]["prometheus"]["profiles"] == ["monitoring"]
    assert "launcher:8000" in (ROOT / "prometheus.yml").read_text()


def test_the_example_environment_explains_every_variable_of_the_stack() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = {part.split(":-")[0].split("}")[0] for part in text.split("${")[1:]}
    lines = (ROOT / ".env.example").read_text().splitlines()
    explained = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
    assert explained == used - {"COMPOSE_PROJECT_NAME"}
    ours = {name for name in explained if name.startswith("LAUNCHER_")}
    assert ours - {"LAUNCHER_BIND"} <= {*VARIABLES, *ELSEWHERE}
