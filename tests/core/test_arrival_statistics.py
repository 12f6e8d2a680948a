"""How long it pays to stay idle, and how soon somebody will ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.core.backend import FEWEST, REMEMBERED, SLACK, UNKNOWN, ArrivalStats


def after(gaps: list[float]) -> ArrivalStats:
    """The habits of a backend that stayed away for so long, again and again."""
    arrival_stats, now = ArrivalStats(), 0.0
    arrival_stats.arrived(now)
    for gap in gaps:
        arrival_stats.fell_idle(now)
        now += gap
        arrival_stats.arrived(now)
    return arrival_stats


def test_little_is_known_at_first() -> None:
    assert after([5.0] * (FEWEST - 1)).linger(1, 100.0) == UNKNOWN
    assert after([5.0] * FEWEST).linger(1, 100.0) == 5.0 * SLACK


def test_who_comes_back_at_once_is_waited_for() -> None:
    assert after([1.0, 2.0, 1.0, 2.0]).linger(1, 20.0) == 2.0 * SLACK


def test_who_stays_away_is_not() -> None:
    assert after([300.0, 500.0, 400.0, 900.0]).linger(1, 20.0) == 0.0


def test_the_more_wait_the_less_it_pays() -> None:
    arrival_stats = after([1.0, 1.0, 1.0, 10.0])
    assert arrival_stats.linger(1, 60.0) == 10.0 * SLACK
    assert arrival_stats.linger(10, 60.0) == 1.0 * SLACK
    assert arrival_stats.linger(100, 60.0) == 0.0


def test_old_habits_are_forgotten() -> None:
    assert after([300.0] * 50 + [1.0] * REMEMBERED).linger(1, 20.0) == 1.0 * SLACK


@given(st.lists(st.floats(0.01, 1000.0), min_size=FEWEST, max_size=REMEMBERED), st.integers(1, 50))
def test_no_other_length_is_cheaper(gaps: list[float], waiting: int) -> None:
    """Against the formula itself, at every gap and between them."""

    def price(length: float) -> float:
        lost = sum(min(gap, length) for gap in gaps) / len(gaps)
        return waiting * lost + 30.0 * sum(gap > length for gap in gaps) / len(gaps)

    length = after(gaps).linger(waiting, 30.0) / SLACK
    others = [0.0, *gaps, *(gap / 2 for gap in gaps), *(gap * 2 for gap in gaps)]
    assert price(length + 1e-6) <= min(map(price, others)) + 1e-3


def test_the_chance_to_be_wanted() -> None:
    arrival_stats = ArrivalStats()
    assert arrival_stats.wanted(60.0, 0.0) == 0.0, "nobody ever asked"
    arrival_stats.arrived(0.0)
    arrival_stats.arrived(60.0)
    assert arrival_stats.every == 60.0
    assert arrival_stats.wanted(60.0, 60.0) == pytest.approx(1 - 1 / 2.718281828)
    soon, later = arrival_stats.wanted(60.0, 100.0), arrival_stats.wanted(60.0, 1000.0)
    assert soon > later, "who hasn't asked for long asks less often"
    assert "every 60.0" in repr(arrival_stats)
