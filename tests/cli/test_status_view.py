"""What `launcher status` shows."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from launcher.cli.status_view import amount, glance, going, operations, span, starting, stopping
from launcher.client.reports import (
    BackendStatus,
    LeaseReport,
    Predicted,
    StatusReport,
    SwitchReport,
    Trouble,
)

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)

CODER = BackendStatus(
    backend="coder",
    routes=("coder", "code"),
    state="ready",
    since=NOW - timedelta(minutes=12),
    in_flight=2,
    queued=0,
    needs={"vram": 9 * 1024**3},
    idle_stop_at=NOW + timedelta(seconds=90),
    retry_at=None,
    failure=None,
    stop_failure=None,
    predicted=None,
    average_start=40.0,
    start_count=3,
)
CHAT = replace(
    CODER,
    backend="chat",
    routes=("chat",),
    state="stopped",
    in_flight=0,
    idle_stop_at=None,
    average_start=None,
    start_count=0,
)


def report(
    *backends: BackendStatus,
    problems: tuple[str, ...] = (),
    switches: tuple[SwitchReport, ...] = (),
    leases: tuple[LeaseReport, ...] = (),
    drained: tuple[str, ...] = (),
) -> StatusReport:
    return StatusReport(
        version="1.2.3",
        server_time=NOW,
        started_at=NOW - timedelta(hours=3, minutes=5),
        problems=problems,
        capacity={"vram": 24 * 1024**3},
        used={"vram": 9 * 1024**3},
        backends=backends,
        switches=switches,
        leases=leases,
        mode=None,
        drained=drained,
        raw=b"{}",
    )


def printed(shown: StatusReport) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(glance(shown))
    return out.getvalue()


def test_the_table() -> None:
    chat = replace(CHAT, predicted=Predicted(3, 40.2, 12.0))
    lines = printed(report(CODER, chat)).splitlines()

    assert lines[0] == "launcher 1.2.3, up 3 h 05 min; in use: vram 9 GiB of 24 GiB"
    columns = [column.strip() for column in lines[2].split("  ") if column.strip()]
    assert columns == [
        *("BACKEND", "ROUTES", "STATE", "SINCE", "IN FLIGHT", "QUEUED", "WAIT"),
        *("NEEDS", "NEXT", "STARTS"),
    ]
    coder = [column.strip() for column in lines[3].split("  ") if column.strip()]
    assert coder == [
        *("coder", "coder, code", "ready", "12 min", "2", "–", "–"),
        *("vram 9 GiB", "stops in 90 s", "3 × 40 s"),
    ]
    assert "  40 s ± 12 s  " in lines[4]
    assert len(lines) == 5


def test_what_operators_have_under_way() -> None:
    switch = SwitchReport(
        "7", "running", "comfy", (), None, None, None, None, "is under way: start comfy", b""
    )
    held = LeaseReport("3", "chat", "active", "anna", "a talk", 600.0, None)
    mode = replace(held, id="4", by="", note="", left=None, mode="write")
    asked = replace(held, id="5", by="", note="\x1b", state="pending", left=None)

    told = operations(
        report(CODER, switches=(switch,), leases=(held, mode, asked), drained=("a", "b")), 60.0
    )

    assert [line.plain for line in told] == [
        "switch 7 to comfy is under way: start comfy",
        "lease 3, chat, for another 9 min (anna: a talk)",
        "lease 4, mode write, chat, pinned",
        r"lease 5, chat, waits for its place (\x1b)",
        "drained: a, b",
    ]
    lines = printed(report(CODER, drained=("a",))).splitlines()
    assert [line.rstrip() for line in lines[-2:]] == ["", "drained: a"]


def test_troubles_stand_below_it_and_cannot_act_on_the_terminal() -> None:
    failed = replace(
        CHAT,
        state="failed",
        retry_at=NOW + timedelta(seconds=8),
        failure=Trouble("backend_start_failed", "exit code 1", "one\x1b[2J\n[bold]two"),
    )

    text = printed(report(failed, problems=("docker@local does not answer",)))

    assert "no start for 8.0 s" in text
    assert "docker@local does not answer" in text
    assert "chat: exit code 1" in text
    assert "    one\\x1b[2J\n    [bold]two" in text
    assert "\x1b" not in text


def test_a_back_off_that_is_over_is_no_news() -> None:
    failed = replace(CHAT, state="failed", retry_at=NOW - timedelta(seconds=1))

    assert "no start for" not in printed(report(failed))


def test_words_while_a_start_is_waited_for() -> None:
    wanted = replace(CHAT, queued=1)
    predicted = Predicted(1, 26.0, 4.0)
    begun = replace(CHAT, state="starting", since=NOW - timedelta(seconds=12), predicted=predicted)
    draining = replace(CODER, state="draining")

    assert starting(report(CODER, wanted), "chat") == "chat waits for its place"
    wanted = replace(wanted, predicted=predicted)
    assert starting(report(CODER, wanted), "chat").endswith("its place, about 26 s ± 4.0 s")
    assert starting(report(draining, wanted), "chat") == (
        "making room for chat: coder finishes 2 requests"
    )
    told = starting(report(CODER, begun), "chat")
    assert told == "starting chat, 12 s, about 26 s ± 4.0 s more"
    unknown = replace(begun, predicted=None)
    assert starting(report(unknown), "chat") == "starting chat, 12 s"
    assert starting(report(), "chat") == "starting chat"


def test_words_while_a_stop_is_waited_for() -> None:
    leaving = replace(CODER, state="stopping", since=NOW - timedelta(seconds=4))

    assert stopping(report(leaving), "code") == "stopping coder, 4.0 s"
    assert stopping(report(), "code") == "stopping code"
    assert going(replace(CODER, state="draining", in_flight=1), NOW) == "coder finishes one request"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (38.4, "38 s"),
        (125, "2 min"),
        (3 * 3600 + 5 * 60, "3 h 05 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (0, "0"),
        (2, "2"),
        (1500, "1500"),
        (512 * 1024**2, "512 MiB"),
        (int(22.5 * 1024**3), "22.5 GiB"),
    ],
)
def test_amounts(units: int, words: str) -> None:
    assert amount(units) == words
