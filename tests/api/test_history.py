"""When routes were last asked for, and how often backends started."""

from __future__ import annotations

from dataclasses import replace

from launcher.api.history import REMEMBERED, History
from launcher.config import BackendConfig
from launcher.core.types import BackendId, Failure
from launcher.drivers.base import ContainerSpec
from launcher.state.records import Starts
from launcher.telemetry.facts import StartEnded, StartOutcome
from tests.api.world import CHAT, CODER, CONFIG, WALL


def ended(seconds: float, outcome: StartOutcome = "ready", *, adopted: bool = False) -> StartEnded:
    failure = Failure("start_timeout", "too slow") if outcome == "failed" else None
    return StartEnded(CODER, 1, adopted, False, outcome, seconds, failure)


def test_starts_are_counted_and_saved() -> None:
    saved: list[tuple[BackendId, Starts]] = []
    history = History(
        CONFIG, save=lambda backend, starts: saved.append((backend, starts)), wall=lambda: WALL
    )

    history.fact(ended(10.0))
    history.fact(ended(20.0))

    expected = Starts(2, 30.0, 20.0, WALL)
    assert history.starts[CODER] == expected
    assert history.starts[CHAT] == Starts()
    assert saved[-1] == (CODER, expected)


def test_failures_and_adoptions_are_no_starts() -> None:
    history = History(CONFIG)

    history.fact(ended(1.0, "failed"))
    history.fact(ended(1.0, "cancelled"))
    history.fact(ended(1.0, adopted=True))

    assert history.starts[CODER].count == 0


def test_a_restart_goes_on_counting() -> None:
    history = History(CONFIG, {CODER: Starts(9, 90.0, 5.0, 1.0)}, wall=lambda: WALL)

    history.fact(ended(10.0))

    assert history.starts[CODER] == Starts(10, 100.0, 10.0, WALL)


def test_only_configured_routes_are_hit() -> None:
    hits = {"coder": WALL, "-": WALL, "made-up": WALL}
    history = History(CONFIG, last_hits=lambda: hits)

    assert history.last_hits == {"coder": WALL, "chat": None, "tiny": None}


def test_another_configuration() -> None:
    saved: list[int] = []
    history = History(
        CONFIG,
        save=lambda _, starts: saved.append(starts.count),
        last_hits=lambda: {"chat": 1.0},
        wall=lambda: 1.0,
    )
    history.fact(ended(3.0))

    history.reconfigure(replace(CONFIG, routes=CONFIG.routes[1:], backends=CONFIG.backends[1:]))

    assert history.last_hits == {"chat": 1.0, "tiny": None}
    assert CODER not in history.starts
    history.fact(ended(3.0))
    assert saved == [1], "what is gone counts no more"

    history.reconfigure(CONFIG)
    assert history.starts[CODER].count == 1, "what is back counts on"


def test_it_does_not_grow() -> None:
    history = History(CONFIG)
    history.fact(ended(3.0))
    for n in range(3 * REMEMBERED):
        one = BackendConfig(BackendId(f"b{n}"), ContainerSpec("x", 1))
        history.reconfigure(replace(CONFIG, backends=(*CONFIG.backends, one)))
    assert len(history._counted) <= REMEMBERED + len(CONFIG.backends) + 1
    assert history.starts[CODER].count == 1, "what stays is not forgotten"
