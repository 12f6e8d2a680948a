"""What is remembered of one backend."""

from __future__ import annotations

import math

import pytest

from launcher.core.backend import Backend, weigh
from launcher.core.types import BackendState, Estimates, TicketId
from tests.core.stage import spec


def backend(**rest: object) -> Backend:
    one = spec("a", **rest)
    return Backend(one, one.estimates)


def test_the_first_measurement_is_taken_whole_and_later_ones_by_weight() -> None:
    assert weigh(None, 10.0) == 10.0
    assert weigh(10.0, 20.0) == pytest.approx(13.0)


def test_swap_costs_are_guessed_until_measured() -> None:
    one = backend(start_guess=40.0, stop_guess=5.0)
    assert one.swap_cost == 45.0
    one.started_in(10.0)
    assert one.swap_cost == 15.0
    one.stopped_in(1.0)
    assert one.swap_cost == 11.0


def test_services_are_measured_one_by_one_however_many_are_told_at_once() -> None:
    one, other = backend(), backend()
    one.served_in([1.0, 5.0, 2.0])
    for seconds in (1.0, 5.0, 2.0):
        other.served_in([seconds])
    assert one.estimates == other.estimates == Estimates(service=pytest.approx(2.14))
    assert one.spreads == other.spreads


def test_what_an_earlier_run_measured_counts() -> None:
    assert backend(estimates=Estimates(start=7.0, stop=2.0)).swap_cost == 9.0


def test_an_idle_stop_is_due_only_for_what_is_ready_and_unused() -> None:
    one = backend(idle_timeout=10.0)
    assert one.idle_stop_at == math.inf
    one.state, one.ready_at = BackendState.READY, 100.0
    assert one.idle_stop_at == 110.0
    one.in_flight[TicketId(1)] = 105.0
    assert one.idle_stop_at == math.inf
    one.silent.add(TicketId(1))
    assert one.idle_stop_at == 110.0


def test_it_says_where_it_stands() -> None:
    assert repr(backend()) == "<Backend a stopped epoch=0 in_flight=0 queued=0>"
