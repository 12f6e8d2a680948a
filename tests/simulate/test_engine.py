"""The engine: small cases by hand, the same again gives the same, every request ends once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from launcher.core import events as ev
from launcher.core.effects import Adopt, Effect, WakeAt
from launcher.core.policy import POLICIES
from launcher.core.types import BackendId, Needs
from launcher.simulate import engine
from launcher.simulate.engine import NotedForecast, Span, simulate
from launcher.simulate.workload import (
    Loop,
    Model,
    Requests,
    Workload,
    agents,
    fixed,
    open_traffic,
    zipf,
)
from tests.simulate.policies import run

A = Model("a", start=10.0, stop=2.0)
B = Model("b", start=20.0, stop=3.0)


def rows(*some: tuple[float, int, float]) -> Requests:
    return Requests((at, model, service, 1) for at, model, service in some)


def test_one_request_waits_for_the_start() -> None:
    out = run(Workload((A,), rows((5.0, 0, 4.0))))
    assert list(out.waited) == [10.0]
    assert out.end == 19.0
    assert out.spans == [Span(0, "starting", 5.0, 15.0), Span(0, "ready", 15.0, 19.0)]
    assert (out.starts, out.evictions, out.finished, out.unserved) == (1, 0, 1, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_swap_by_hand(policy: str) -> None:
    """a: 0 to 10 starts, serves to 14. b asked at 12: stops a at the earliest at 14 (or after
    a linger of a second), 2 s, then 20 s of start."""
    out = run(Workload((A, B), rows((0.0, 0, 4.0), (12.0, 1, 5.0))), policy)
    linger = 1.0 if policy == "bounded" else 0.0
    assert list(out.waited) == pytest.approx([10.0, 24.0 + linger])
    assert out.evictions == 1
    assert out.end == pytest.approx(41.0 + linger)
    up = [(span.model, span.phase) for span in sorted(out.spans, key=lambda span: span.begin)]
    assert up == [(0, "starting"), (0, "ready"), (0, "stopping"), (1, "starting"), (1, "ready")]


def test_served_at_a_time() -> None:
    model = Model("a", start=10.0, max_in_flight=2)
    out = run(Workload((model,), rows(*[(0.0, 0, 4.0)] * 5)))
    assert list(out.waited) == [10.0, 10.0, 14.0, 14.0, 18.0]
    assert out.end == 22.0


def test_what_fits_together_starts_together() -> None:
    out = run(Workload((A, B), rows((0.0, 0, 1.0), (0.0, 1, 1.0)), capacity=(("gpu", 2),)))
    assert list(out.waited) == [10.0, 20.0]
    assert out.evictions == 0


def test_a_loop_waits_for_its_answer_before_it_asks_again() -> None:
    loop = Loop(0, service=fixed(4.0), think=fixed(1.0))
    out = run(Workload((A,), loops=(loop,), horizon=30.0))
    # Ready at 10; asked at 0, 15, 20, 25; the answer to the last comes at 29, the next at 30.
    assert list(out.arrived) == [0.0, 15.0, 20.0, 25.0]
    assert list(out.waited) == [10.0, 0.0, 0.0, 0.0]
    assert (out.finished, out.end) == (4, 30.0)
    assert out.loop == {0: 0, 1: 0, 2: 0, 3: 0}


def test_who_waits_at_the_horizon_has_waited_until_then() -> None:
    out = run(Workload((A,), rows((3.0, 0, 1.0)), horizon=8.0))
    assert list(out.waited) == [5.0]
    assert (out.unserved, out.finished, out.end) == (1, 0, 8.0)
    assert out.spans == [Span(0, "starting", 3.0, 8.0)]


def test_a_queue_timeout_rejects_and_the_loop_goes_on() -> None:
    loop = Loop(0, service=fixed(4.0), think=fixed(1.0))
    slow = Model("slow", start=100.0)
    out = run(Workload((slow,), loops=(loop,), horizon=12.0, queue_timeout=5.0))
    assert list(out.arrived) == [0.0, 6.0]
    assert out.rejected == {0: "queue_timeout", 1: "queue_timeout"}
    assert out.unserved == 0


def test_every_busy_model_is_served() -> None:
    """A dozen models that would fill the place each by itself."""
    models = tuple(Model(f"m{number}") for number in range(12))
    loops = [Loop(n, fixed(5.0), fixed(1.0)) for n in range(12) for _ in range(12)]
    out = run(Workload(models, loops=tuple(loops), horizon=3 * 3600.0, queue_timeout=1800.0))
    served = [0] * 12
    for model, was in zip(out.model, out.served, strict=True):
        served[model] += was
    assert min(served) > max(served) / 3
    assert len(out.rejected) < sum(served) / 100


def test_jitter_spreads_the_starts_within_its_share() -> None:
    models = tuple(Model(f"m{n}", start=10.0, jitter=0.2) for n in range(40))
    requests = rows(*[(0.0, n, 1.0) for n in range(40)])
    out = run(Workload(models, requests, capacity=(("gpu", 40),)))
    assert min(out.waited) >= 8.0
    assert max(out.waited) <= 12.0
    assert len(set(out.waited)) == 40


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_ends_once_and_the_books_agree(policy: str) -> None:
    requests = open_traffic(
        zipf(3), rate=0.1, variation=3.0, service=fixed(5.0), until=3600.0, seed=3
    )
    models = (A, B, Model("c", max_in_flight=1))
    out = run(Workload(models, requests), policy)
    assert len(out.arrived) == len(requests) == out.finished
    assert (sum(out.served), out.unserved, out.rejected) == (len(requests), 0, {})
    assert min(out.waited) >= 0.0
    assert Counter(out.model) == Counter(requests.model)
    # One slot: no two spans overlap, and each start that isn't the first made room.
    spans = sorted(out.spans, key=lambda span: span.begin)
    assert all(a.end <= b.begin for a, b in pairwise(spans))
    assert out.evictions == out.starts - 1 > 10


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    def waits(seed: int) -> list[float]:
        requests = open_traffic(
            zipf(2), rate=0.1, variation=3.0, service=fixed(5.0), until=1800.0, seed=seed
        )
        models = (Model("a", jitter=0.3), Model("b", jitter=0.3))
        workload = Workload(models, requests, agents((0,)), horizon=2000.0, seed=seed)
        return list(run(workload).waited)

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


def test_requests_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        run(Workload((A,), rows((5.0, 0, 1.0), (1.0, 0, 1.0))))


class Odd:
    """A scheduler that asks for the same effects over and over."""

    def __init__(self, *effects: Effect) -> None:
        self.effects = list(effects)

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        return self.effects

    def epoch(self, backend: BackendId) -> int:
        return 0


def test_a_scheduler_that_never_advances_raises() -> None:
    def make(capacity: Needs) -> Odd:
        return Odd(WakeAt(1.0))

    with pytest.raises(RuntimeError, match="over and over"):
        simulate(Workload((A,), rows((1.0, 0, 1.0))), make)


def test_an_unknown_effect_raises() -> None:
    def make(capacity: Needs) -> Odd:
        return Odd(Adopt(BackendId("a"), 1, 1.0))

    with pytest.raises(RuntimeError, match="Adopt"):
        simulate(Workload((A,), rows((1.0, 0, 1.0))), make)


def test_forecasts_are_noted_of_those_who_still_wait() -> None:
    workload = Workload((A,), rows((0.0, 0, 4.0), (11.0, 0, 4.0)))
    out = run(workload, ages=(0.0, 4.0, 30.0))
    assert out.forecasts == [
        NotedForecast(0, 0.0, 10.0, 10 / 3),
        NotedForecast(0, 4.0, 6.0, 10 / 3),
    ]
    assert not run(workload).forecasts


def test_noting_forecasts_changes_nothing_and_samples_long_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "SAMPLE", 20)
    requests = open_traffic(
        zipf(3), rate=0.5, variation=3.0, service=fixed(4.0), until=1800.0, seed=3
    )
    models = tuple(Model(name, start=20.0, max_in_flight=4) for name in "abc")
    plain = run(Workload(models, requests))
    looked = run(Workload(models, requests), ages=(0.0, 10.0))
    assert plain.waited == looked.waited
    assert plain.spans == looked.spans
    at_once = [one.request for one in looked.forecasts if one.age == 0.0]
    queued = sum(waited > 0 for waited in looked.waited)
    assert 20 < len(at_once) < queued / 2
    assert looked.forecasts == run(Workload(models, requests), ages=(0.0, 10.0)).forecasts
