"""What is simulated: columns that keep their order, models as the scheduler knows them."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from launcher.core.types import Priority
from launcher.simulate.workload import (
    Loop,
    Model,
    Requests,
    Trace,
    TraceError,
    Workload,
    agents,
    between,
    clients,
    draw_model,
    exponential,
    fixed,
    gamma_times,
    open_traffic,
    read_trace,
    together,
    trickle,
    zipf,
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


def read(tmp_path: Path, text: str) -> Trace:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    return read_trace(file, lambda name: Priority.BATCH if name == "b" else Priority.NORMAL)


def test_seconds_count_from_the_first_and_models_are_numbered(tmp_path: Path) -> None:
    trace = read(tmp_path, "time,model,service\n100,a,2.5\n101.5,b,0\n\n102,a,1\n")
    assert trace.names == ("a", "b")
    assert list(trace.requests) == [(0.0, 0, 2.5, 1), (1.5, 1, 0.0, 2), (2.0, 0, 1.0, 1)]


def test_iso_times_other_names_and_columns_that_are_ignored(tmp_path: Path) -> None:
    trace = read(
        tmp_path,
        "Route, Timestamp ,user,Seconds,Class\n"
        "a,2023-11-16 18:17:03.9799600,x,1,interactive\n"
        "b,2023-11-16T18:17:05.479960+00:00,y,2, Normal\n",
    )
    assert [row[1:] for row in trace.requests] == [(0, 1.0, 0), (1, 2.0, 1)]
    assert trace.requests.at[1] == pytest.approx(1.5, abs=1e-3)


def test_rows_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    trace = read(tmp_path, "time,model,service\n10,a,1\n5,b,1\n")
    assert list(trace.requests) == [(0.0, 1, 1.0, 2), (5.0, 0, 1.0, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("time,model,service\n", "no requests"),
        ("time,model\n1,a\n", "line 1: no column 'service'"),
        ("time,model,service\n1,a,1\nsoon,a,1\n", "line 3, column time: .* not 'soon'"),
        ("time,model,service\nnan,a,1\n", "line 2, column time: expected a finite"),
        ("time,model,service\n0,a,1\n2024-01-01,b,1\n", "line 3, column time: dates, where"),
        ("time,model,service\n1,a,-1\n", "line 2, column service: expected seconds >= 0"),
        ("time,model,service\n1,a,long\n", "line 2, column service: .* not 'long'"),
        ("time,model,service\n1, ,1\n", "line 2, column model: expected a model's name"),
        ("time,model,service\n1,a\n", "line 2: 2 columns, the header has 3"),
        ("time,model,service,class\n1,a,1,urgent\n", "line 2, column class: expected one of"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(b"time,model,service\n1,\xff\xfe,1\n")
    with pytest.raises(TraceError, match=r"trace\.csv: it isn't a CSV file in UTF-8"):
        read_trace(file)
