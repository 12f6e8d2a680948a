"""Why a ticket can't wait, in the order in which it matters."""

from __future__ import annotations

from launcher.core.backend import Backend
from launcher.core.binding import not_resident, refusal, stuck
from launcher.core.types import BackendState, Failure, Ticket, TicketId
from tests.core.stage import spec

AWAY = Failure("docker_unavailable", "The engine doesn't answer.")


def backend(**rest: object) -> Backend:
    one = spec("a", **rest)
    return Backend(one, one.estimates)


def test_nothing_speaks_against_it() -> None:
    assert refusal(backend(), 0.0) is None


def test_a_full_queue() -> None:
    one = backend(max_queue=1)
    one.queue.put(Ticket(TicketId(1), (one.id,)), 0.0)
    refused = refusal(one, 0.0)
    assert refused is not None
    assert refused[0].code == "queue_full"


def test_a_back_off_says_how_long() -> None:
    one = backend()
    one.failure, one.retry_at = Failure("backend_start_failed", "exit code 1"), 30.0
    assert refusal(one, 10.0) == (one.failure, 20.0)
    assert refusal(one, 30.0) is None


def test_an_engine_that_is_away_matters_to_what_is_not_up() -> None:
    one = backend()
    one.unreachable = AWAY
    assert refusal(one, 0.0) == (AWAY, None)
    one.state = BackendState.READY
    assert refusal(one, 0.0) is None


def test_a_stop_that_does_not_end() -> None:
    one = backend()
    one.stop_failure = Failure("backend_stop_failed", "it ignores SIGKILL", "pid 7")
    assert refusal(one, 0.0) == (stuck(one), None)
    assert "ignores SIGKILL" in stuck(one).message
    assert stuck(one).detail == "pid 7"


def test_who_may_not_wake_it_is_told_where_it_stands() -> None:
    assert not_resident(backend()).message.startswith("a is stopped")
