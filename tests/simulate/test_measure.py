"""The numbers of a report, against sums done by hand."""

from __future__ import annotations

import json

import pytest

from launcher.simulate.measure import (
    ForecastSample,
    accuracy,
    forecast_samples,
    jain,
    left_out,
    loading,
    measure,
    p90,
    quantile,
    speeds,
    waits,
)
from launcher.simulate.workload import Model, Requests, Workload
from tests.simulate.policies import run


def test_quantiles_are_linear_between_neighbours() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) == 0.0


def test_waits() -> None:
    found = waits([4.0, 0.0, 8.0, 700.0], starved_after=600.0)
    assert (found.count, found.mean, found.p50, found.max) == (4, 178.0, 6.0, 700.0)
    assert found.p95 == pytest.approx(8 + 0.85 * 692)
    assert found.starved == 1
    assert waits([]).count == 0


def test_jain() -> None:
    assert jain([2.0, 2.0, 2.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([1.0, 3.0]) == pytest.approx(16 / 20)
    assert jain([]) == jain([0.0]) == 1.0


def test_a_report_by_hand() -> None:
    """a: asked at 0, ready at 10, served to 14. b: asked at 12; a stops from 14 to 16, b is
    ready at 36, served to 41."""
    models = (Model("a", start=10.0), Model("b", start=20.0))
    requests = Requests([(0.0, 0, 4.0, 0), (12.0, 1, 5.0, 2)])
    out = run(Workload(models, requests), "collation", ages=(0.0,))
    report = measure(out, "collation", starved_after=20.0)
    assert (report.seconds, report.answered, report.starts, report.swaps) == (41.0, 2, 2, 1)
    assert report.loading == loading(out) == pytest.approx(32 / 41)
    assert report.throughput == pytest.approx(2 / 41)
    assert report.waits.mean == 17.0
    assert report.waits.starved == report.models["b"].starved == 1
    assert report.models["a"].max == report.classes["interactive"].max == 10.0
    assert report.classes["batch"].mean == 24.0
    assert speeds(out) == pytest.approx([4 / 14, 5 / 29])
    assert report.fairness == pytest.approx(jain([4 / 14, 5 / 29]))
    assert (report.forecasts.count, report.forecasts.left_out) == (2, 0)
    assert json.loads(json.dumps(report.plain()))["waits"]["max"] == 24.0


def test_loading_counts_by_the_part_of_the_capacity() -> None:
    models = (Model("a", start=10.0, needs=(("gpu", 1),)), Model("free", start=30.0, needs=()))
    requests = Requests([(0.0, 0, 30.0, 1), (0.0, 1, 10.0, 1)])
    out = run(Workload(models, requests, capacity=(("gpu", 2),)))
    # Of 40 s, ten in which half of the capacity loads; what needs nothing costs nothing.
    assert loading(out) == pytest.approx(0.5 * 10 / 40)


def test_a_model_that_is_never_served_has_no_speed() -> None:
    requests = Requests([(0.0, 0, 100.0, 1), (1.0, 1, 1.0, 1)])
    models = (Model("a", start=10.0), Model("b"))
    out = run(Workload(models, requests, horizon=50.0), "collation")
    assert speeds(out) == pytest.approx([100 / 110, 0.0])
    assert measure(out, "x").unserved == 1


def one(error: float, spread: float) -> ForecastSample:
    return ForecastSample(age=0.0, predicted=50.0 + error, spread=spread, naive=None, actual=50.0)


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
    assert [(c.age, c.predicted, c.actual, c.naive) for c in forecast_samples(out)] == [
        (0.0, 25.0, 25.0, None),
        (10.0, 15.0, 15.0, None),
    ]


def test_the_naive_forecast_is_the_mean_of_what_was_still_waited_before() -> None:
    """One served at a time for 30 s, from 10 on: waits of 10, 35, 60 and 85."""
    model = Model("a", start=10.0, max_in_flight=1)
    requests = Requests([(5.0 * n, 0, 30.0, 1) for n in range(4)])
    out = run(Workload((model,), requests), ages=(0.0, 20.0))
    assert list(out.waited) == [10.0, 35.0, 60.0, 85.0]
    naive = {(c.age, c.actual): c.naive for c in forecast_samples(out)}
    # The first is granted at 10, the second at 40; at 10 comes the third.
    assert naive[0.0, 35.0] is None
    assert naive[0.0, 60.0] == 10.0
    assert naive[20.0, 40.0] is None, "nobody had waited so long"
    assert naive[20.0, 65.0] is None


def test_who_is_never_served_is_left_out() -> None:
    requests = Requests([(0.0, 0, 4.0, 1), (8.0, 0, 4.0, 1)])
    model = Model("a", start=10.0, max_in_flight=1)
    out = run(Workload((model,), requests, horizon=13.0), ages=(0.0, 5.0))
    assert [c.actual for c in forecast_samples(out)] == [10.0, 5.0]
    assert left_out(out) == 1
