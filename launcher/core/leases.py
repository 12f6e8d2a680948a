"""Which leases are in force, when they end, and what they keep from others.

A leased backend is not evicted, and its needs stay claimed while it is down. Books only: who
gets a place meanwhile is `placing`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from launcher.core.backend import Backend
from launcher.core.eviction import fits
from launcher.core.types import BackendId, TicketId


class Leases:
    """The leases in force. Times are absolute, on the core's clock; `inf` is a pin's end."""

    def __init__(self, capacity: Mapping[str, int]) -> None:
        self._capacity = capacity
        self._leased: dict[BackendId, Backend] = {}
        self.next_end = math.inf
        """When the first of them ends."""

    def __repr__(self) -> str:
        return f"<Leases on {', '.join(sorted(self._leased))}>"

    def __len__(self) -> int:
        """How many backends are leased."""
        return len(self._leased)

    def __iter__(self) -> Iterator[Backend]:
        """The leased backends, by id."""
        return iter([self._leased[id] for id in sorted(self._leased)])

    def set(self, backend: Backend, ticket: TicketId, until: float) -> None:
        """A lease begins, or ends at another time than was said before."""
        backend.holds[ticket] = until
        self._leased[backend.id] = backend
        self._look_ahead()

    def end(self, backend: Backend, ticket: TicketId) -> None:
        """A lease is over. Raises KeyError where there is none."""
        del backend.holds[ticket]
        if not backend.holds:
            del self._leased[backend.id]
        self._look_ahead()

    def over(self, now: float) -> list[tuple[Backend, TicketId]]:
        """Those whose time has come, the earliest first."""
        if now < self.next_end:
            return []
        found = [
            (until, ticket, backend)
            for backend in self._leased.values()
            for ticket, until in backend.holds.items()
            if until <= now
        ]
        return [(backend, ticket) for _, ticket, backend in sorted(found, key=lambda f: f[:2])]

    def in_the_way(self, backend: Backend, coming: Iterable[Backend] = ()) -> list[Backend]:
        """Whose leases leave `backend` no place; empty where it fits beside all of them, and
        where it would not fit alone either. `coming`: others to be reckoned as leased."""
        others = {one.id: one for one in (*coming, *self) if one is not backend}
        wanted = backend.wanted_needs
        if not others or not fits({}, wanted, self._capacity):
            return []
        used = _sum(others.values())
        if fits(used, wanted, self._capacity):
            return []
        short = {n for n, units in wanted if used.get(n, 0) + units > self._capacity.get(n, 0)}
        names = sorted(others)
        return [others[id] for id in names if any(n in short for n, _ in others[id].wanted_needs)]

    def free_at(self, backend: Backend) -> float:
        """When enough leases of others will have ended for it to fit beside the rest."""
        others = sorted(
            (one for one in self._leased.values() if one is not backend),
            key=lambda one: (one.leased_until, one.id),
        )
        at = -math.inf
        while others and not fits(_sum(others), backend.wanted_needs, self._capacity):
            at = others.pop(0).leased_until
        return at

    def _look_ahead(self) -> None:
        self.next_end = min(
            (min(backend.holds.values()) for backend in self._leased.values()), default=math.inf
        )


def _sum(backends: Iterable[Backend]) -> dict[str, int]:
    used: dict[str, int] = {}
    for one in backends:
        for name, units in one.wanted_needs:
            used[name] = used.get(name, 0) + units
    return used
