"""A screenful of what the launcher told."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console, RenderableType

from launcher.cli.top_view import Seen, bar, printed, screen
from launcher.client.reports import BackendStatus, PastDecision, Predicted
from tests.cli.test_status_view import CHAT, CODER, NOW, report

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
    seen = Seen(report(*backends, problems=()), decisions)
    now = NOW + timedelta(seconds=30)
    return lines(screen(seen, now, width, height, trouble), width, height)


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


def test_for_paper() -> None:
    told = lines(printed(Seen(report(CODER), (STOPS,))), width=120)

    assert told[3].startswith("coder")
    assert told[-1].endswith("(1 request)")
