"""What the scheduler is told of a configured backend."""

from __future__ import annotations

from dataclasses import replace

from launcher.core.types import Estimates, Placement
from launcher.runtime.registry import spec_of
from tests.runtime.house import A, config

CAPACITY = (("cpu", 8), ("gpu", 1))


def test_without_needs_it_takes_all_there_is() -> None:
    spec = spec_of(config(A), CAPACITY, None, Estimates())
    assert spec.placements == (Placement(CAPACITY),)
    assert spec.prewarm is None
    assert spec.asks_busy is False


def test_with_empty_needs_it_takes_nothing() -> None:
    assert spec_of(config(A, needs=()), CAPACITY, None, Estimates()).placements == (Placement(()),)


def test_everything_else_is_carried_over() -> None:
    one = config(A, needs=(("gpu", 1),), busy="/queue", idle_timeout=5.0, start_timeout=6.0)
    one = replace(one, max_in_flight=8, linger=0.0)
    spec = spec_of(one, CAPACITY, 2, Estimates(start=3.0))
    assert (spec.id, spec.prewarm, spec.asks_busy) == (A, 2, True)
    assert (spec.idle_timeout, spec.start_timeout, spec.max_queue) == (5.0, 6.0, 512)
    assert spec.estimates.start == 3.0
    assert (spec.max_in_flight, spec.linger) == (8, 0.0)
    assert (spec.start_guess, spec.stop_guess) == (one.start_guess, one.stop_guess)
