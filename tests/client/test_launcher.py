"""The client against the real endpoints, and against those who are none."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from launcher import __version__
from launcher.client.launcher import LauncherClient
from launcher.client.reports import Trouble
from launcher.client.transport import ClientError
from launcher.core.types import BackendState, Failure
from launcher.errors import LauncherError
from tests.api.serving import served
from tests.api.world import CODER, FakeControl, a_context
from tests.client.answering import answering


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


def test_a_report(control: FakeControl) -> None:
    failure = Failure("backend_start_failed", "exit code 1", "line 1\nline 2")
    control.put(CODER, BackendState.FAILED, failure=failure, retry_at=110.0, queued=3)

    with served(lambda: a_context(control)) as url:
        report = LauncherClient(url).status()

    assert report.version == __version__
    assert report.problems == ()
    assert report.capacity == {"gpu": 1}
    assert [one.backend for one in report.backends] == ["coder", "chat", "tiny"]
    coder = report.of_route("coder")
    assert coder is not None
    assert (coder.state, coder.queued, coder.in_flight) == ("failed", 3, 0)
    assert coder.failure == Trouble("backend_start_failed", "exit code 1", "line 1\nline 2")
    assert coder.retry_at is not None
    assert (coder.retry_at - report.server_time).total_seconds() == pytest.approx(10, abs=0.01)
    assert report.of_route("nope") is None


def test_a_start_ends_when_the_backend_is_ready(control: FakeControl) -> None:
    control.on_admit = lambda admission: admission.settle()

    with served(lambda: a_context(control)) as url:
        call = LauncherClient(url).start("coder")
        assert b'"route":"coder"' in call.result()
        assert call.wait(0)

    assert control.admissions[0].left


def test_the_error_of_a_start_is_told(control: FakeControl) -> None:
    failed = LauncherError("backend_start_failed", "exit code 1", detail="the last lines")
    control.on_admit = lambda admission: admission.settle(failed)

    with served(lambda: a_context(control)) as url:
        with pytest.raises(ClientError, match="exit code 1") as caught:
            LauncherClient(url).start("coder").result()

    assert caught.value.code == "backend_start_failed"
    assert caught.value.detail == "the last lines"


def test_hanging_up_gives_up_the_place(control: FakeControl) -> None:
    admitted, left = threading.Event(), threading.Event()
    control.on_admit = lambda _: admitted.set()

    with served(lambda: a_context(control)) as url:
        call = LauncherClient(url).start("coder")
        assert admitted.wait(30)
        assert not call.wait(0)

        call.cancel()

        with pytest.raises(ClientError):
            call.result()
        for _ in range(3000):
            if control.admissions[0].left:
                left.set()
                break
            left.wait(0.01)
    assert left.is_set()


def test_a_stop_can_be_forced(control: FakeControl) -> None:
    control.put(CODER, BackendState.READY)
    control.on_stop = lambda backend: control.put(backend, BackendState.STOPPED)

    with served(lambda: a_context(control)) as url:
        LauncherClient(url).stop("coder", force=True).result()

    assert control.stops == [(CODER, True)]


def test_a_name_is_quoted(control: FakeControl) -> None:
    with served(lambda: a_context(control)) as url:
        with pytest.raises(ClientError, match="coder, chat, tiny") as caught:
            LauncherClient(url).start("a/b c?d").result()

    assert caught.value.code == "unknown_route"


def test_a_unix_socket(control: FakeControl, tmp_path: Path) -> None:
    with served(lambda: a_context(control), unix=tmp_path / "l.sock") as url:
        assert LauncherClient(url).status().version == __version__


def test_keys(control: FakeControl) -> None:
    with served(lambda: a_context(control), key="good") as url:
        assert LauncherClient(url, "good").status().version == __version__
        with pytest.raises(ClientError, match="LAUNCHER_ADMIN_KEY") as caught:
            LauncherClient(url).status()
        assert caught.value.code == "missing_key"
        with pytest.raises(ClientError, match="LAUNCHER_ADMIN_KEY"):
            LauncherClient(url, "bad").status()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n<ht>",
        b'HTTP/1.1 500 Oops\r\nContent-Length: 13\r\n\r\n{"error": 17}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_somebody_else_listens(data: bytes) -> None:
    with answering(data) as url:
        with pytest.raises(ClientError) as caught:
            LauncherClient(url).status()

    assert caught.value.message.endswith((".", ")"))


def test_a_url_may_leave_out_the_scheme_and_hold_a_path(control: FakeControl) -> None:
    with served(lambda: a_context(control)) as url:
        assert LauncherClient(url.removeprefix("http://")).status().version == __version__
    assert LauncherClient("https://x/behind/").transport.base == "/behind"
