"""What a configuration that reads well will meet in the world as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cli.preflight import Report, check
from launcher.config import LauncherConfig, exposure
from tests.config.documents import load
from tests.drivers import images

PREFIX = f"lzt-check-{os.getpid()}-"
#: Nothing answers there: the containers of these tests need not exist.
AWAY = "[launcher]\ndocker_host = 'unix:///nonexistent/docker.sock'\n"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    yield images.build()
    images.sweep(PREFIX)
    images.remove()


async def test_nothing_to_say() -> None:
    assert await check(LauncherConfig()) == Report()


async def test_the_loaders_warnings_are_passed_on() -> None:
    report = await check(LauncherConfig(warnings=("something",)))
    assert report == Report(warnings=("something",))


async def test_files_that_are_not_there(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"[launcher]\ntls_cert = '{tmp_path}/cert.pem'\ntls_key = '{tmp_path}/key.pem'\n"
        f"[routes.a]\ncommand = ['{sys.executable}', '{{port}}']\ncwd = '{tmp_path}/none'\n",
    )
    (tmp_path / "key.pem").write_text("")
    report = await check(config)
    assert report.problems[0] == (
        f"{tmp_path}/routes.toml: [launcher] tls_cert: there is no file {tmp_path}/cert.pem"
    )
    assert report.problems[1] == f"a: cwd: there is no directory {tmp_path}/none"


async def test_programs(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"[routes.a]\ncommand = ['no-such-program', '{{port}}']\n"
        f"[routes.b]\ncommand = ['{sys.executable}', '{{port}}']\n",
    )
    report = await check(config)
    (problem,) = report.problems
    assert problem.startswith("a: ")
    assert "no-such-program" in problem
    assert report.warnings == ()


async def test_an_engine_that_is_away_is_no_problem(tmp_path: Path) -> None:
    report = await check(load(tmp_path, f"{AWAY}[routes.a]\ncontainer = 'a'\n"))
    assert report.problems == ()
    (warning,) = report.warnings
    assert warning.startswith("The Docker Engine at unix:///nonexistent/docker.sock doesn't answer")
    assert warning.endswith("The containers were not looked at.")


async def test_waits_that_end_too_soon(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[routes.a]\ncommand = ['true', '{port}']\nmax_wait = '5m'\nqueue_timeout = '1m'\n",
    )
    (warning,) = (await check(config)).warnings
    assert warning.startswith("a: max_wait (300 s) is not below queue_timeout (60 s)")


async def test_what_can_not_all_be_prewarmed(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[launcher]\nprewarm = ['a', 'b', 'c']\n[capacity]\nvram = 10\n"
        "[routes.a]\ncommand = ['true', '{port}']\nneeds = { vram = 6 }\n"
        "[routes.b]\ncommand = ['true', '{port}']\nneeds = { vram = 6 }\n"
        "[routes.c]\ncommand = ['true', '{port}']\nneeds = { vram = 4 }\n",
    )
    (warning,) = (await check(config)).warnings
    assert warning.startswith("b: prewarm: not enough vram beside those before it")


async def test_an_open_door(tmp_path: Path) -> None:
    config = load(
        tmp_path, "[launcher]\nlisten = ':8000'\n[routes.a]\ncommand = ['true', '{port}']\n"
    )
    assert (await check(config)).warnings == tuple(exposure.warnings(config))
    assert len(exposure.warnings(config)) == 3


@pytest.mark.docker
async def test_containers(tmp_path: Path, image: str) -> None:
    images.create(f"{PREFIX}good")
    images.create(f"{PREFIX}policy", options=["--restart", "unless-stopped"])
    images.create(f"{PREFIX}port")
    images.create(f"{PREFIX}unhealthy")
    images.create(f"{PREFIX}healthy", health="1s")
    for project in ("one", "two"):
        images.create(
            f"{PREFIX}{project}",
            labels={
                "com.docker.compose.service": f"{PREFIX}service",
                "com.docker.compose.project": project,
            },
        )
    routes = {
        "good": "",
        "policy": "",
        "port": "port = 8001",
        "unhealthy": "health = 'docker'",
        "healthy": "health = 'docker'",
        "missing": "",
        "service": "",
    }
    text = "".join(
        f"[routes.{name}]\ncontainer = '{PREFIX}{name}'\n{more}\n" for name, more in routes.items()
    )
    report = await check(load(tmp_path, text))
    assert [problem.split(":")[0] for problem in report.problems] == ["unhealthy"]
    assert "has no HEALTHCHECK" in report.problems[0]
    warnings = {warning.split(":")[0]: warning for warning in report.warnings}
    assert set(warnings) == {"policy", "missing", "service", "port"}
    assert "restart policy" in warnings["policy"]
    assert "create it" in warnings["missing"]
    assert "More than one" in warnings["service"]
    assert "declares 8000 and not 8001" in warnings["port"]


@pytest.mark.docker
async def test_checking_starts_nothing(tmp_path: Path, image: str) -> None:
    images.create(f"{PREFIX}cold")
    await check(load(tmp_path, f"[routes.a]\ncontainer = '{PREFIX}cold'\n"))
    assert images.show(f"{PREFIX}cold")["State"]["Status"] == "created"
