"""Which of several backends serves a ticket."""

from __future__ import annotations

from launcher.core.backend import Backend
from launcher.core.binding import choose
from launcher.core.types import BackendState, Failure, TicketId
from tests.core.stage import spec


def some(*states: BackendState, **rest: object) -> list[Backend]:
    made = []
    for number, state in enumerate(states):
        one = spec(f"b{number}", **rest)
        made.append(Backend(one, one.estimates, state))
    return made


S, R, U = BackendState.STOPPED, BackendState.READY, BackendState.STARTING


def test_ready_before_starting_before_the_first() -> None:
    assert choose(some(S, U, R), 0.0).id == "b2"
    assert choose(some(S, U, S), 0.0).id == "b1"
    assert choose(some(S, S, S), 0.0).id == "b0"


def test_one_that_is_full_comes_after_one_that_is_not() -> None:
    full, free = some(R, R, max_in_flight=1)
    full.in_flight[TicketId(1)] = 0.0
    assert choose([full, free], 0.0) is free
    free.in_flight[TicketId(2)] = 0.0
    assert choose([full, free], 0.0) is full


def test_who_would_refuse_is_passed_over() -> None:
    failed, other = some(S, S)
    failed.failure, failed.retry_at = Failure("backend_start_failed", "exit code 1"), 9.0
    assert choose([failed, other], 0.0) is other
    assert choose([failed, other], 10.0) is failed
    other.unreachable = Failure("docker_unavailable", "away")
    assert choose([failed, other], 0.0) is failed, "none would take it: the first says why"
