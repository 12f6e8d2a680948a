"""What `launcher status` shows."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from launcher.cli.views import (
    TopData,
    amount,
    bar,
    duration,
    end_words,
    finished_steps,
    mode_lines,
    operation_lines,
    render_leases,
    render_plan,
    render_status,
    render_switch,
    render_top,
    render_top_once,
    start_progress,
    stop_progress,
    stopping_backend,
    time_left,
)
from launcher.client.reading import switch_of
from launcher.client.reports import (
    BackendStatus,
    LeaseReport,
    ModeReport,
    PastDecision,
    PlannedDecision,
    PlanReport,
    Predicted,
    StatusReport,
    SwitchReport,
    Trouble,
)
from tests.cli.test_control import step, switch

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


def status_text(shown: StatusReport) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(render_status(shown))
    return out.getvalue()


def test_the_table() -> None:
    chat = replace(CHAT, predicted=Predicted(3, 40.2, 12.0))
    lines = status_text(report(CODER, chat)).splitlines()

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

    told = operation_lines(
        report(CODER, switches=(switch,), leases=(held, mode, asked), drained=("a", "b")), 60.0
    )

    assert [line.plain for line in told] == [
        "switch 7 to comfy is under way: start comfy",
        "lease 3, chat, for another 9 min (anna: a talk)",
        "lease 4, mode write, chat, pinned",
        r"lease 5, chat, waits for its place (\x1b)",
        "drained: a, b",
    ]
    lines = status_text(report(CODER, drained=("a",))).splitlines()
    assert [line.rstrip() for line in lines[-2:]] == ["", "drained: a"]


def test_failures_are_below_the_table_without_control_characters() -> None:
    failed = replace(
        CHAT,
        state="failed",
        retry_at=NOW + timedelta(seconds=8),
        failure=Trouble("backend_start_failed", "exit code 1", "one\x1b[2J\n[bold]two"),
    )

    text = status_text(report(failed, problems=("docker@local does not answer",)))

    assert "no start for 8.0 s" in text
    assert "docker@local does not answer" in text
    assert "chat: exit code 1" in text
    assert "    one\\x1b[2J\n    [bold]two" in text
    assert "\x1b" not in text


def test_a_past_retry_time_is_not_shown() -> None:
    failed = replace(CHAT, state="failed", retry_at=NOW - timedelta(seconds=1))

    assert "no start for" not in status_text(report(failed))


def test_words_while_a_start_is_waited_for() -> None:
    wanted = replace(CHAT, queued=1)
    predicted = Predicted(1, 26.0, 4.0)
    begun = replace(CHAT, state="starting", since=NOW - timedelta(seconds=12), predicted=predicted)
    draining = replace(CODER, state="draining")

    assert start_progress(report(CODER, wanted), "chat") == "chat waits for its place"
    wanted = replace(wanted, predicted=predicted)
    assert start_progress(report(CODER, wanted), "chat").endswith("its place, about 26 s ± 4.0 s")
    assert start_progress(report(draining, wanted), "chat") == (
        "making room for chat: coder finishes 2 requests"
    )
    told = start_progress(report(CODER, begun), "chat")
    assert told == "starting chat, 12 s, about 26 s ± 4.0 s more"
    unknown = replace(begun, predicted=None)
    assert start_progress(report(unknown), "chat") == "starting chat, 12 s"
    assert start_progress(report(), "chat") == "starting chat"


def test_words_while_a_stop_is_waited_for() -> None:
    leaving = replace(CODER, state="stopping", since=NOW - timedelta(seconds=4))

    assert stop_progress(report(leaving), "code") == "stopping coder, 4.0 s"
    assert stop_progress(report(), "code") == "stopping code"
    assert (
        stopping_backend(replace(CODER, state="draining", in_flight=1), NOW)
        == "coder finishes one request"
    )


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
    assert duration(seconds) == words


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


STOPS = PastDecision(NOW, 1, "stop", "stops chat: coder waits for its place (1 request)")
SKIPS = PastDecision(NOW, 3, "reject", "rejects a request for\x1b[2J tiny")


def lines(shown: RenderableType, width: int = 80, height: int = 24) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(shown)
    return out.getvalue().removesuffix("\n").split("\n")


def on_screen(
    *backends: BackendStatus,
    decisions: tuple[PastDecision, ...] = (),
    trouble: str | None = None,
    width: int = 80,
    height: int = 24,
) -> list[str]:
    seen = TopData(report(*backends, problems=()), decisions)
    now = NOW + timedelta(seconds=30)
    return lines(render_top(seen, now, width, height, trouble), width, height)


def test_a_screenful() -> None:
    chat = replace(CHAT, queued=2, predicted=Predicted(3, 40.2, 12.0))

    told = on_screen(chat, CODER, decisions=(STOPS, SKIPS))

    assert told[0].rstrip() == "launcher 1.2.3, up 3 h 05 min, 2 in flight, 2 queued"
    assert told[1].split() == ["vram", "█" * 15 + "░" * 25, "9", "GiB", "of", "24", "GiB"]
    assert told[3].split() == ["BACKEND", "STATE", "SINCE", "RUN", "WAIT", "PREDICTED", "NEXT"]
    # What runs stands first; its time has gone on since the launcher told it.
    assert told[4].split() == [
        "coder",
        "ready",
        "12",
        "min",
        "2",
        "–",
        "–",
        "stops",
        "in",
        "60",
        "s",
    ]
    assert told[5].split()[:1] == ["chat"]
    assert "40 s ± 12 s" in told[5]
    assert told[7].endswith("stops chat: coder waits for its place (1 request)")
    assert told[8].endswith(r"rejects a request for\x1b[2J tiny (3 times)")
    assert told[-1] == "q quits"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 5)])
@pytest.mark.parametrize("count", [0, 1, 9, 50])
def test_it_fits_whatever_the_terminal(count: int, width: int, height: int) -> None:
    name = "a-backend-of-a-name-that-is-rather-long-{}"
    backends = [replace(CODER, backend=name.format(number)) for number in range(count)]
    many = (STOPS,) * 100

    told = on_screen(*backends, decisions=many, width=width, height=height)

    assert max(len(line) for line in told) <= width
    if height >= 10:
        assert len(told) <= height
        assert told[-1].rstrip() == "q quits"


def test_what_does_not_fit_is_counted() -> None:
    stopped = [replace(CHAT, backend=f"b{number}") for number in range(30)]

    told = on_screen(*stopped, CODER)

    assert told[4].startswith("coder")
    (more,) = (line for line in told if line.startswith("…"))
    shown = sum(line.startswith("b") for line in told)
    assert more.rstrip() == f"… and {31 - shown - 1} more"


def test_a_launcher_that_is_away_is_told_above_what_was_last_seen() -> None:
    told = on_screen(CODER, trouble="No launcher listens.")

    assert told[0].rstrip() == "trying again: No launcher listens."
    assert any(line.startswith("coder") for line in told)


@pytest.mark.parametrize(
    ("used", "units", "full"),
    [(0, 4, 0), (1, 4, 2), (4, 4, 8), (5, 4, 8), (1, 1000, 1), (0, 0, 0), (1, 0, 8)],
)
def test_bars(used: int, units: int, full: int) -> None:
    (taken, style), (free, _) = bar(used, units, 8)

    assert (taken, free) == ("█" * full, "░" * (8 - full))
    assert (style == "red") is (used > units)


def test_without_a_screen_everything_is_printed_once() -> None:
    told = lines(render_top_once(TopData(report(CODER), (STOPS,))), width=120)

    assert told[3].startswith("coder")
    assert told[-1].endswith("(1 request)")


SERVED = PlanReport("coder", "served", "coder", None, None, None, (), b"{}")
WAITS = replace(SERVED, outcome="waits", predicted=Predicted(3, 40.2, 12.0))
DRAIN = PlannedDecision("drain", "drains chat: coder waits \x1b[2J", 0.0)
START = PlannedDecision("start", "starts coder: 1 request waiting", 4.0)


def plan_lines(report: PlanReport) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=40).print(render_plan(report), soft_wrap=True)
    return out.getvalue().splitlines()


def test_served() -> None:
    assert plan_lines(SERVED) == ["a request for coder would be served by coder at once"]


def test_waits() -> None:
    assert plan_lines(replace(WAITS, decisions=(DRAIN, START))) == [
        "a request for coder would wait for coder, place 3, about 40 s ± 12 s",
        "  now: drains chat: coder waits \\x1b[2J",
        "  in about 4.0 s: starts coder: 1 request waiting",
    ]
    assert plan_lines(replace(WAITS, predicted=None)) == [
        "a request for coder would wait for coder; nobody can tell how long",
        "  nothing would be decided before something else happens",
    ]


def test_rejected() -> None:
    rejected = replace(
        SERVED,
        outcome="rejected",
        rejection=Trouble("not_resident", "coder is stopped."),
        retry_after=40.0,
        decisions=(PlannedDecision("reject", "rejects a request for coder: not_resident", 0.0),),
    )
    assert plan_lines(rejected) == [
        "a request for coder would be rejected (not_resident): coder is stopped. "
        "It may come again in 40 s."
    ]


def switch_report(state: str, *given: dict[str, object], **more: object) -> SwitchReport:
    return switch_of(json.dumps(switch(state, *given, **more)).encode())


def switch_lines(shown: SwitchReport, waited: float = 4.0) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100).print(render_switch(shown, waited))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_goes_on_and_what_is_left() -> None:
    assert switch_lines(switch_report("running", step("stop chat"), step("start comfy", None))) == [
        "✓  stop chat    1.5 s",
        "…  start comfy",
        "switch 7 to comfy is under way, 4.0 s, about 26 s left",
    ]


def test_a_switch_that_waits_for_its_turn() -> None:
    assert switch_lines(switch_report("queued", predicted_ms=None))[-1] == (
        "switch 7 to comfy waits for its turn, 4.0 s"
    )


def test_one_that_is_over() -> None:
    failed = switch_report(
        "rolled_back", step("start comfy", False, "no\x1bGPU"), step("restore chat")
    )
    assert switch_lines(failed) == [
        r"✕  start comfy   1.5 s  no\x1bGPU",
        "✓  restore chat  1.5 s",
    ]


def test_lines_come_in_order() -> None:
    drained, going = step("drain a"), step("drain b", None)
    assert finished_steps(switch_report("running", drained, going, step("stop c"))) == [
        "drain a: done after 1.5 s"
    ]
    assert finished_steps(switch_report("failed", going)) == ["drain b: cut short"]


LEASE = LeaseReport("7", "comfy", "active", "anna", "the video", 2700.0, None)
PIN = LeaseReport("8", "reserved: gpu 1", "active", "", "", None, None)


def test_what_is_left() -> None:
    assert (time_left(LEASE), end_words(LEASE)) == ("45 min", "for 45 min")
    assert (time_left(PIN), end_words(PIN)) == ("no end", "without an end")


def test_a_row_for_each() -> None:
    assert render_leases([LEASE, PIN]).row_count == 2


def test_without_any() -> None:
    assert mode_lines(ModeReport(None, None, {})) == [
        "no mode",
        "routes.toml has no [modes.NAME] table",
    ]


def test_one_that_the_configuration_has_no_more() -> None:
    assert mode_lines(ModeReport("old", 60.0, {"new": ("a",)})) == [
        "mode old, for another 60 s",
        "   new: a",
    ]
