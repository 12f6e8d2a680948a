"""Forecasts beside what came, against sums done by hand."""

from __future__ import annotations

import pytest

from launcher.simulate.accuracy import Compared, accuracy, compared, left_out, p90
from launcher.simulate.workload import Model, Requests, Workload
from tests.simulate.policies import run


def one(error: float, spread: float) -> Compared:
    return Compared(age=0.0, foreseen=50.0 + error, spread=spread, naive=None, came=50.0)


def test_sums_by_hand() -> None:
    found = accuracy([one(-4.0, 4.0), one(1.0, 2.0), one(6.0, 3.0), one(10.0, 1.0)], left_out=3)
    assert (found.count, found.left_out) == (4, 3)
    assert found.median == 5.0
    assert found.p90 == pytest.approx(6.0 + 0.7 * 4.0)
    assert found.bias == pytest.approx(13 / 4)
    assert (found.within_one, found.within_two) == (0.5, 0.75)


def test_of_nothing_it_is_zeros() -> None:
    assert accuracy([], left_out=2).count == 0
    assert accuracy([], left_out=2).left_out == 2
    assert (p90([]), p90([7.0])) == (0.0, 7.0)


def test_a_start_is_foreseen() -> None:
    out = run(Workload((Model("a", start=25.0),), Requests([(5.0, 0, 4.0, 1)])), ages=(0.0, 10.0))
    assert [(c.age, c.foreseen, c.came, c.naive) for c in compared(out)] == [
        (0.0, 25.0, 25.0, None),
        (10.0, 15.0, 15.0, None),
    ]


def test_the_naive_forecast_is_the_mean_of_what_was_still_waited_before() -> None:
    """One served at a time for 30 s, from 10 on: waits of 10, 35, 60 and 85."""
    model = Model("a", start=10.0, max_in_flight=1)
    requests = Requests([(5.0 * n, 0, 30.0, 1) for n in range(4)])
    out = run(Workload((model,), requests), ages=(0.0, 20.0))
    assert list(out.waited) == [10.0, 35.0, 60.0, 85.0]
    naive = {(c.age, c.came): c.naive for c in compared(out)}
    # The first is granted at 10, the second at 40; at 10 comes the third.
    assert naive[0.0, 35.0] is None
    assert naive[0.0, 60.0] == 10.0
    assert naive[20.0, 40.0] is None, "nobody had waited so long"
    assert naive[20.0, 65.0] is None


def test_who_is_never_served_is_left_out() -> None:
    requests = Requests([(0.0, 0, 4.0, 1), (8.0, 0, 4.0, 1)])
    model = Model("a", start=10.0, max_in_flight=1)
    out = run(Workload((model,), requests, horizon=13.0), ages=(0.0, 5.0))
    assert [c.came for c in compared(out)] == [10.0, 5.0]
    assert left_out(out) == 1
