"""From a route's configuration to what is asked of the gate for one of its requests, and from
there to a ticket. Pure."""

from __future__ import annotations

from launcher.config import LauncherConfig, RouteConfig
from launcher.core.types import BackendId, Priority, Ticket, TicketId, Wake, patience
from launcher.runtime.admission import Ask

#: The ticket of somebody who only asks what would happen. Those that arrive count from 1.
PLANNED = TicketId(0)


def ask_for(
    config: LauncherConfig,
    route: RouteConfig,
    *,
    backends: tuple[BackendId, ...] | None = None,
    priority: Priority | None = None,
    wake: Wake | None = None,
) -> Ask:
    """What a request that waits as the route says asks for. `backends` where others may serve
    it, too; `priority` and `wake` where it has its own."""
    priority = route.priority if priority is None else priority
    max_wait, ages = patience(priority, route.max_wait, config.batch_max_wait)
    # What may be kept waiting for so long has its own time on top of that.
    longer = config.batch_max_wait if priority is Priority.BATCH else 0.0
    return Ask(
        backends=route.backends if backends is None else backends,
        max_wait=max_wait,
        queue_timeout=route.queue_timeout + longer,
        priority=priority,
        ages=ages,
        wake=route.wake if wake is None else wake,
        on_lease=route.on_lease,
    )


def ticket_of(ask: Ask, id: TicketId, now: float) -> Ticket:
    """The ticket of one who asks `now`."""
    return Ticket(
        id=id,
        backends=ask.backends,
        max_wait=ask.max_wait,
        deadline=now + ask.queue_timeout,
        quiet=ask.quiet,
        operator=ask.operator,
        priority=ask.priority,
        ages=ask.ages,
        wake=ask.wake,
        urgent=ask.urgent,
        hold=ask.hold,
        on_lease=ask.on_lease,
    )
