"""`launcher status` and `launcher plan`."""

from __future__ import annotations

import json
import socket

import pytest

from launcher import __version__
from launcher.core.dry_run import Step
from launcher.core.effects import Action, Admit, Decided
from launcher.core.types import BackendState, Forecast
from launcher.runtime.admission import PLANNED
from tests.api.serving import served
from tests.api.world import CHAT, CODER, FakeControl, a_context
from tests.cli.conftest import Told
from tests.cli.running import run
from tests.cli.terminal import Terminal


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
        with served(lambda: a_context(control), key="good") as url:
            done = run("status", "--url", url, *args, cwd=None, **environ)

        assert done.returncode == code
        assert code == 0 or "--key" in done.stderr


class TestPlan:
    def test_a_list_of_decisions(self, control: FakeControl, url: str) -> None:
        stop = Decided(Action.STOP, CHAT, "evicted", CODER, cost=41.0, waiting=1)
        control.steps = [Step(0.0, stop), Step(34.0, Admit(PLANNED, CODER, True))]
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


def test_who_is_not_there(url: str) -> None:
    done = run("logs", "codr", "--url", url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No backend or route is called codr. Backends: coder, chat, tiny.\n"


ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"


def test_it_keeps_up_and_leaves_the_terminal_as_it_was(
    control: FakeControl, told: Told, url: str
) -> None:
    with Terminal("top", "--url", url) as terminal:
        seen = terminal.shows("q quits")
        assert "stopped" in terminal.raw.decode()

        control.put(CODER, BackendState.STARTING)
        told.decisions.fact(Decided(Action.START, CODER, "wanted", waiting=1))
        told.news()
        terminal.shows("starting", seen)
        terminal.shows("starts coder", seen)

        terminal.press(b"q")
        assert terminal.left() == 0
        assert terminal.restored
        assert terminal.raw.count(ALTERNATE) == terminal.raw.count(NORMAL) == 1


@pytest.mark.parametrize("keys", [b"\x03", b"\x04", b"Q"])
def test_other_ways_to_leave(url: str, keys: bytes) -> None:
    with Terminal("top", "--url", url) as terminal:
        terminal.shows("q quits")
        terminal.press(keys)
        assert terminal.left() == 0
        assert terminal.restored
        assert terminal.raw.rstrip().endswith((NORMAL, b"\x1b[?25h"))
        assert b"Traceback" not in terminal.raw


def test_other_keys_do_nothing(url: str) -> None:
    with Terminal("top", "--url", url) as terminal:
        terminal.shows("q quits")
        terminal.press(b"x\x1b[A")
        seen = terminal.shows("", len(terminal.raw))
        terminal.shows("q quits", seen)
        terminal.press(b"q")
        assert terminal.left() == 0


def test_without_a_terminal_it_is_printed_once(told: Told, url: str) -> None:
    told.decisions.fact(Decided(Action.START, CODER, "wanted", waiting=1))

    done = run("top", "--url", url)

    assert (done.returncode, done.stderr) == (0, "")
    assert "coder" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("starts coder: 1 request waiting")


def test_nobody_there() -> None:
    done = run("top", "--url", "http://127.0.0.1:9")

    assert (done.returncode, done.stdout) == (1, "")
    assert "launcher serve" in done.stderr
