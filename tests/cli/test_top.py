"""`launcher top` in a terminal, and without one."""

from __future__ import annotations

import pytest

from launcher.core.effects import Action, Decided
from launcher.core.types import BackendState
from tests.api.world import CODER, FakeControl
from tests.cli.conftest import Told
from tests.cli.running import run
from tests.cli.terminal import Terminal

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
