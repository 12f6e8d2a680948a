"""`launcher serve`: addresses, signals, exit codes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cli.preflight import Report, check
from launcher.config import LauncherConfig, exposure
from launcher.config.api_keys import digest
from tests.cli.running import BAD, ENVIRON, GOOD, command, run
from tests.config.documents import load
from tests.drivers import images


class TestServe:
    def test_all_that_is_wrong_is_told_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.toml"
        path.write_text(BAD)

        done = run("serve", "--config", str(path))

        assert (done.returncode, done.stdout) == (2, "")
        assert "metrics" in done.stderr
        assert "prot" in done.stderr
        assert done.stderr.splitlines()[-1].endswith("problems")

    def test_no_configuration_at_all(self, tmp_path: Path) -> None:
        done = run("serve", "--config", str(tmp_path / "none.toml"))

        assert done.returncode == 2
        assert "none.toml" in done.stderr

    def test_an_address_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)

        done = run("serve", "--listen", "nonsense", cwd=tmp_path)

        assert done.returncode == 2
        assert "--listen" in done.stderr

    def test_an_address_that_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = run("serve", "--listen", f"127.0.0.1:{port}", cwd=tmp_path)

        assert done.returncode == 1
        line = json.loads(done.stderr.splitlines()[-1])
        assert line["level"] == "error"
        assert line["message"].startswith("can't serve")

    def test_it_serves_where_it_was_told_until_a_signal(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)
        where = tmp_path / "l.sock"
        process = subprocess.Popen(
            command("serve", "--listen", f"unix:{where}", "--log-format", "human"),
            env=ENVIRON,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            while "serves" not in (line := process.stderr.readline()):
                assert line, "it ended before it served"
            status = run("status", "--url", f"unix:{where}")
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()

        assert status.returncode == 0, status.stderr
        assert "tiny" in status.stdout
        assert process.returncode == 0
        assert "GET /api/status → 200" in log
        assert "launcher has ended" in log

    def test_a_second_signal_ends_what_runs(self, tmp_path: Path) -> None:
        backend = Path(__file__).parent.parent / "backend.py"
        (tmp_path / "routes.toml").write_text(
            '[launcher]\nstate_file = ""\n[routes.slow]\n'
            f'command = ["{sys.executable}", "{backend}", "--port", "{{port}}"]\n'
        )
        process = subprocess.Popen(
            command("serve", "--listen", "127.0.0.1:0", "--log-format", "human"),
            env=ENVIRON,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            while "serves" not in (line := process.stderr.readline()):
                assert line, "it ended before it served"
            port = int(line.rpartition(":")[2])
            body = '{"model": "slow", "stream": true, "x_tokens": 100000, "x_delay": 0.05}'
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/v1/chat/completions", body)
            response = connection.getresponse()
            assert response.read(1)
            process.send_signal(signal.SIGTERM)
            while "finishing what runs" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
            connection.close()

        assert process.returncode == 130
        assert "Traceback" not in log
        assert "not waiting any longer" in log


class TestCheck:
    def test_good(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)

        done = run("check", cwd=tmp_path)

        assert (done.returncode, done.stdout) == (0, "routes.toml: 1 route, all good\n")

    def test_problems(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD + 'cwd = "/nonexistent"\n')

        done = run("check", cwd=tmp_path)

        assert (done.returncode, done.stdout) == (1, "")
        assert "problem: tiny: cwd" in done.stderr

    def test_what_is_no_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text("[routes")

        assert run("check", cwd=tmp_path).returncode == 2


class TestDemo:
    def test_a_model_that_is_not_there(self) -> None:
        done = run("demo", "--model", "/nonexistent.gguf")

        assert done.returncode == 2
        assert "nonexistent.gguf" in done.stderr


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


async def test_warnings_without_any_key(tmp_path: Path) -> None:
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


def test_a_new_key_and_the_table_that_knows_it(tmp_path: Path) -> None:
    made = [
        run("key", "new", "--name", "ops", "--scope", "admin", "--scope", "infer") for _ in "ab"
    ]
    keys = []
    for done in made:
        assert done.returncode == 0
        found = re.search(r"shown this once: (sk-launcher-[\w-]{43})\n", done.stderr)
        assert found is not None
        assert found[1] not in done.stdout
        (key,) = load(tmp_path, GOOD + done.stdout).keys
        assert (key.name, key.scopes) == ("ops", {"admin", "infer"})
        assert key.digest == digest(found[1])
        keys.append(found[1])
    assert keys[0] != keys[1]


def test_what_needs_no_saying(tmp_path: Path) -> None:
    (key,) = load(tmp_path, GOOD + run("key", "new").stdout).keys
    assert (key.name, key.scopes) == ("client", {"infer"})


def test_what_cant_be_one() -> None:
    for args in (["--name", "Al Ice"], ["--scope", "root"]):
        done = run("key", "new", *args)
        assert done.returncode == 2
        assert args[0] in done.stderr
        assert done.stdout == ""


def test_keys_alone_are_explained() -> None:
    assert "new" in run("key").stdout + run("key").stderr
