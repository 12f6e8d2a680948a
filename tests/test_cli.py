"""The commands as a user runs them: words, exit codes, interruptions."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import __version__
from launcher.api.assembly import OwnApi
from launcher.api.stats import History
from launcher.core.effects import Decided, Deed, Grant
from launcher.core.rehearsal import Step
from launcher.core.types import BackendState, Failure, Forecast
from launcher.decisions import DecisionLog
from launcher.errors import LauncherError
from launcher.metrics import Metrics
from launcher.runtime.asking import PLANNED
from tests.api.serving import served
from tests.api.world import CHAT, CODER, CONFIG, FakeAdmission, FakeControl

ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("LAUNCHER_", "MAP__", "COLUMNS"))
} | {"COLUMNS": "150", "NO_COLOR": "1", "PYTHONPATH": os.getcwd()}

GOOD = """
[launcher]
state_file = ""
[routes.tiny]
command = ["true", "{port}"]
"""

BAD = """
[routes.metrics]
container = "x"
port = 8000
[routes.coder]
container = "coder"
prot = 8000
"""


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "launcher", *args]


def run(*args: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        command(*args),
        env=ENVIRON | environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def url(control: FakeControl) -> Iterator[str]:
    def make() -> OwnApi:
        return OwnApi(
            CONFIG, control, Metrics(CONFIG, control.snapshot), History(CONFIG), DecisionLog()
        )

    with served(make) as where:
        yield where


class TestHelp:
    def test_the_version(self) -> None:
        done = run("--version")

        assert (done.returncode, done.stdout) == (0, f"launcher {__version__}\n")

    def test_every_command_is_listed(self) -> None:
        done = run("--help")

        assert done.returncode == 0
        for name in ("serve", "check", "status", "plan", "start", "stop", "demo"):
            assert f"launcher {name}" in done.stdout

    @pytest.mark.parametrize("name", ["serve", "check", "status", "plan", "start", "stop", "demo"])
    def test_every_command_has_an_example(self, name: str) -> None:
        done = run(name, "--help")

        assert done.returncode == 0
        assert f"  launcher {name}" in done.stdout

    def test_what_the_demo_needs_is_spelled_out(self) -> None:
        # In rich's markup a word in brackets is a style, and vanishes.
        assert "pip install 'lazy-launcher[demo]'" in run("demo", "--help").stdout

    def test_no_command_is_an_error_that_helps(self) -> None:
        done = run()

        assert done.returncode == 2
        assert "launcher serve" in done.stdout + done.stderr

    def test_the_servers_libraries_are_not_loaded_for_a_client(self) -> None:
        script = (
            "import sys\n"
            "import launcher.cli, launcher.client, launcher.status_view, launcher.plan_view\n"
            "print(sorted({'aiohttp', 'aiodocker', 'pydantic', 'uvloop'} & set(sys.modules)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRON
        )

        assert done.stdout == "[]\n"


class TestStatus:
    def test_a_table(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.READY, in_flight=2)

        done = run("status", "--url", url)

        assert (done.returncode, done.stderr) == (0, "")
        coder = next(line for line in done.stdout.splitlines() if line.startswith("coder"))
        assert "ready" in coder
        assert "2" in coder
        assert control.admissions == []

    def test_a_row_is_a_line_where_no_terminal_is(self, control: FakeControl, url: str) -> None:
        control.put(CODER, BackendState.READY, idle_stop_at=1000.0)

        lines = run("status", "--url", url, COLUMNS="").stdout.splitlines()

        coder = next(line for line in lines if line.startswith("coder"))
        assert len(coder) > 80, "else this shows nothing"
        assert "stops in" in coder
        assert coder.split()[-1] == "0", "the last column is in it"

    def test_json_for_scripts(self, url: str) -> None:
        done = run("status", "--json", LAUNCHER_URL=url)

        assert done.returncode == 0
        assert json.loads(done.stdout)["version"] == __version__

    def test_nobody_there_is_one_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        done = run("status", "--url", f"http://127.0.0.1:{port}")

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "launcher serve" in done.stderr

    def test_what_is_no_url_is_a_wrong_command_line(self) -> None:
        done = run("status", "--url", "ftp://x")

        assert done.returncode == 2
        assert "is not a URL" in done.stderr

    @pytest.mark.parametrize(
        ("args", "environ", "code"),
        [
            ((), {}, 1),
            (("--key", "good"), {}, 0),
            ((), {"LAUNCHER_API_KEY": "good"}, 0),
            ((), {"LAUNCHER_ADMIN_KEY": "good", "LAUNCHER_API_KEY": "bad"}, 0),
            (("--key", "bad"), {"LAUNCHER_ADMIN_KEY": "good"}, 1),
        ],
    )
    def test_keys(
        self, control: FakeControl, args: tuple[str, ...], environ: dict[str, str], code: int
    ) -> None:
        def make() -> OwnApi:
            return OwnApi(
                CONFIG, control, Metrics(CONFIG, control.snapshot), History(CONFIG), DecisionLog()
            )

        with served(make, key="good") as url:
            done = run("status", "--url", url, *args, cwd=None, **environ)

        assert done.returncode == code
        assert code == 0 or "--key" in done.stderr


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


class TestPlan:
    def test_a_list_of_decisions(self, control: FakeControl, url: str) -> None:
        stop = Decided(Deed.STOP, CHAT, "evicted", CODER, cost=41.0, waiting=1)
        control.steps = [Step(0.0, stop), Step(34.0, Grant(PLANNED, CODER, True))]
        control.predicted = {CODER: Forecast(1, 40.0, 12.0)}

        done = run("plan", "coder", "--url", url)

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "a request for coder would wait for coder, place 1, about 40 s ± 12 s",
            "  now: stops chat: coder waits for its place (1 request); expected to cost 41 s",
        ]
        assert control.admissions == []

    def test_json_for_scripts(self, control: FakeControl, url: str) -> None:
        done = run("plan", "coder", "--json", LAUNCHER_URL=url)

        assert done.returncode == 0
        assert json.loads(done.stdout)["outcome"] == "waits"

    def test_an_unknown_route(self, url: str) -> None:
        done = run("plan", "codr", "--url", url)

        assert (done.returncode, done.stdout) == (1, "")
        assert "coder, chat, tiny" in done.stderr


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
        backend = Path(__file__).parent / "backend.py"
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
