"""What is simulated: columns that keep their order, models as the scheduler knows them."""

from __future__ import annotations

from random import Random

import pytest

from launcher.simulate.workload import (
    Loop,
    Model,
    Requests,
    Workload,
    between,
    exponential,
    fixed,
)


def test_requests_iterate_as_often_as_wanted() -> None:
    rows = [(0.0, 1, 2.5, 0), (1.5, 0, 3.0, 2)]
    requests = Requests(rows)
    assert list(requests) == rows
    assert list(requests) == rows
    assert len(requests) == 2


def test_requests_are_put_in_order_and_those_of_one_moment_stay() -> None:
    requests = Requests([(5.0, 0, 1.0, 1), (1.0, 1, 1.0, 1), (5.0, 2, 1.0, 1)])
    assert [row[1] for row in requests.in_order()] == [1, 0, 2]


def test_a_model_becomes_a_spec() -> None:
    spec = Model("a", needs=(("gpu", 2),), start=200.0, max_in_flight=3).spec()
    assert spec.id == "a"
    assert spec.placements[0].needs == (("gpu", 2),)
    assert spec.max_in_flight == 3
    assert spec.start_timeout > 200.0


def test_loops_need_a_horizon() -> None:
    loop = Loop(0, fixed(1.0), fixed(1.0))
    with pytest.raises(ValueError, match="horizon"):
        Workload((Model("a"),), loops=(loop,))


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="same name"):
        Workload((Model("a"), Model("a")))


def test_draws() -> None:
    random = Random(1)
    assert fixed(2.0)(random) == 2.0
    drawn = [between(1.0, 3.0)(random) for _ in range(200)]
    assert 1.0 <= min(drawn) < 1.2
    assert 2.8 < max(drawn) <= 3.0
    mean = sum(exponential(10.0)(random) for _ in range(2000)) / 2000
    assert 9.0 < mean < 11.0
