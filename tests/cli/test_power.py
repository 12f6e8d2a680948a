"""`launcher start` and `launcher stop`: words, exit codes, interruptions."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import threading

from launcher.core.types import BackendState, Failure
from launcher.errors import LauncherError
from tests.api.world import CHAT, CODER, FakeAdmission, FakeControl
from tests.cli.running import ENVIRON, command, run


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
