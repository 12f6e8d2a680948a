"""What is asked of the gate for a route's requests."""

from __future__ import annotations

from launcher.config import LauncherConfig, RouteConfig
from launcher.core.types import Priority, Ticket, TicketId, Wake
from launcher.runtime.admission import Ask, ask_for, ticket_of
from tests.runtime.house import A, B

CONFIG = LauncherConfig(batch_max_wait=900.0)
ROUTE = RouteConfig("r", (A,), ("/r",), max_wait=5.0, queue_timeout=50.0, wake=Wake.IF_IDLE)


def test_as_the_route_says() -> None:
    assert ask_for(CONFIG, ROUTE) == Ask(
        (A,), max_wait=5.0, queue_timeout=50.0, ages=300.0, wake=Wake.IF_IDLE
    )


def test_batch_has_a_patience_of_its_own() -> None:
    ask = ask_for(CONFIG, ROUTE, backends=(B, A), priority=Priority.BATCH, wake=Wake.NEVER)
    assert (ask.backends, ask.priority, ask.max_wait) == ((B, A), Priority.BATCH, 900.0)
    assert ask.wake is Wake.NEVER


def test_a_ticket_has_a_deadline_instead_of_a_time() -> None:
    ask = Ask((A, B), 5.0, 50.0, True, True, Priority.BATCH, 900.0, Wake.NEVER)

    assert ticket_of(ask, TicketId(7), 100.0) == Ticket(
        TicketId(7), (A, B), 5.0, 150.0, True, True, Priority.BATCH, 900.0, Wake.NEVER
    )
