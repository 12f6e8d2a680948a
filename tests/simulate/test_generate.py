"""Made-up traffic has the shape that was asked for."""

from __future__ import annotations

import statistics
from itertools import pairwise
from random import Random

import pytest

from launcher.core.types import Priority
from launcher.simulate.generate import (
    agents,
    clients,
    draw_model,
    gamma_times,
    open_traffic,
    together,
    trickle,
    zipf,
)
from launcher.simulate.workload import fixed


def test_zipf() -> None:
    assert zipf(3) == pytest.approx((6 / 11, 3 / 11, 2 / 11))
    assert zipf(4, 0.0) == (0.25, 0.25, 0.25, 0.25)


def test_models_are_drawn_by_their_shares() -> None:
    random = Random(1)
    drawn = [draw_model((0.7, 0.0, 0.3), random) for _ in range(5000)]
    assert drawn.count(0) / 5000 == pytest.approx(0.7, abs=0.03)
    assert drawn.count(1) == 0


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gaps_have_their_mean_and_variation(variation: float) -> None:
    times = list(gamma_times(2.0, variation, 20_000.0, Random(5)))
    gaps = [b - a for a, b in pairwise(times)]
    mean = statistics.fmean(gaps)
    assert mean == pytest.approx(0.5, rel=0.06)
    assert statistics.stdev(gaps) / mean == pytest.approx(variation, rel=0.06)
    assert times[-1] < 20_000.0


@pytest.mark.parametrize("apart", [False, True])
def test_open_traffic_is_in_order_with_its_rate_and_classes(apart: bool) -> None:
    requests = open_traffic(
        (0.75, 0.25),
        rate=1.0,
        variation=2.0,
        service=fixed(3.0),
        until=20_000.0,
        seed=1,
        apart=apart,
        priorities=(Priority.INTERACTIVE, Priority.BATCH),
    )
    assert list(requests.at) == sorted(requests.at)
    assert len(requests) == pytest.approx(20_000, rel=0.1)
    assert list(requests.model).count(0) / len(requests) == pytest.approx(0.75, abs=0.05)
    assert {(model, priority) for _, model, _, priority in requests} == {(0, 0), (1, 2)}


def test_streams_of_their_own_bunch_by_model() -> None:
    def repeats(apart: bool) -> float:
        requests = open_traffic(
            zipf(4), rate=0.1, variation=8.0, service=fixed(1.0), until=50_000, seed=2, apart=apart
        )
        pairs = list(pairwise(requests.model))
        return sum(a == b for a, b in pairs) / len(pairs)

    assert repeats(apart=True) > 0.8 > 0.5 > repeats(apart=False)


def test_a_trickle_and_streams_together() -> None:
    rare = trickle(2, every=100.0, service=fixed(1.0), until=100_000.0, seed=1)
    assert len(rare) == pytest.approx(1000, rel=0.1)
    both = together(rare, trickle(3, every=100.0, service=fixed(1.0), until=100_000.0, seed=1))
    assert list(both.at) == sorted(both.at)
    assert set(both.model) == {2, 3}


def test_agents_and_clients() -> None:
    loops = agents((1, 0), priorities=(Priority.BATCH, Priority.NORMAL))
    assert [(loop.model, loop.priority) for loop in loops] == [(1, 2), (0, 1)]
    thinking = [loops[0].think(Random(n)) for n in range(100)]
    assert 0.3 <= min(thinking) < max(thinking) <= 2.0
    assert loops[0].service(Random(1)) == 4.0
    assert [loop.model for loop in clients(3, 5, service=fixed(1), think=fixed(0))] == [5, 5, 5]
