"""Who holds which place: leases read as claims, named for a person.

Looks, and changes nothing. What is refused is the core's to say; this says in whose favour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from launcher.config import LauncherConfig
from launcher.control.clock import Clocks
from launcher.control.fitting import Claim, Claimed, in_the_way
from launcher.control.gate import Gate
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import BackendId, Failure
from launcher.errors import LauncherError
from launcher.printable import timestamp

#: Seconds after which to ask again for a place that is held nobody knows how long.
ASK_AGAIN = 60.0

Held = Callable[[int], Mapping[BackendId, BackendId]]
"""For a lease: of the backends that its routes name first, those that it was granted instead."""


class Holders:
    """The leases that are in force or asked for, and what they hold."""

    def __init__(
        self,
        config: LauncherConfig,
        gate: Gate,
        clocks: Clocks,
        records: Callable[[], Iterable[LeaseRecord]],
        granted: Held,
    ) -> None:
        """`records`: those that aren't over."""
        self.config = config
        self._gate = gate
        self._clocks = clocks
        self._records = records
        self._granted = granted

    def backends_of(self, record: LeaseRecord) -> tuple[BackendId, ...]:
        """What it holds, or would."""
        granted = self._granted(record.id)
        return tuple(granted.get(id, id) for id in self._wanted(record))

    def in_the_way_of(self, backends: Iterable[BackendId]) -> list[LeaseRecord]:
        """The leases that leave no place to all of these backends together."""
        known = self._gate.snapshot().backends
        return self._in_the_way({id: known[id].needs for id in backends if id in known})

    def in_the_way_of_lease(self, record: LeaseRecord) -> list[LeaseRecord]:
        """The other leases that leave no place to this one."""
        found = self._in_the_way(self._claim(record))
        return [one for one in found if one.id != record.id]

    def leased(self, holders: list[LeaseRecord]) -> LauncherError:
        """`leased`, naming who holds the place, and until when."""
        named = "; ".join(self.named(one) for one in holders) or "Another lease"
        return LauncherError(
            "leased",
            f"{named} holds the place. Wait for its end, release it, or switch with `force`.",
            retry_after=self._free_in(holders),
        )

    def refusal(
        self, failure: Failure, holders: Iterable[LeaseRecord], message: str | None = None
    ) -> LauncherError:
        """A failure as it is answered (in other words, where there are any): where these leases
        are the reason, with when to ask again."""
        retry_after = self._free_in(holders) if failure.code == "leased" else None
        return LauncherError(
            failure.code,
            message or failure.message,
            detail=failure.detail,
            retry_after=retry_after,
        )

    def remaining(self, record: LeaseRecord) -> float | None:
        """Seconds until it ends; None for a pin and for what isn't in force."""
        if record.state is not LeaseState.ACTIVE or record.expires_at is None:
            return None
        return max(0.0, record.expires_at - self._clocks.wall())

    def named(self, record: LeaseRecord) -> str:
        """Which lease it is, and whose, for a person."""
        what = ", ".join(record.routes) or "reserved capacity"
        whose = "".join(f", {word}" for word in (record.by, record.note) if word)
        if record.state is not LeaseState.ACTIVE:
            until = "not granted yet"
        elif record.expires_at is None:
            until = "pinned"
        else:
            until = f"until {timestamp(record.expires_at)}"
        return f"Lease {record.id} ({what}{whose}, {until})"

    def _free_in(self, holders: Iterable[LeaseRecord]) -> float:
        """Seconds until the first of them ends; of a pin, and of one that isn't in force yet,
        nobody knows."""
        ends = (self.remaining(one) for one in holders)
        return min((end for end in ends if end is not None), default=ASK_AGAIN)

    def _in_the_way(self, wanted: Claim) -> list[LeaseRecord]:
        records = {record.id: record for record in self._records()}
        held = [
            Claimed(record.id, self._claim(record), record.expires_at or math.inf)
            for record in records.values()
        ]
        return [records[id] for id in in_the_way(self._gate.snapshot().capacity, wanted, held)]

    def _claim(self, record: LeaseRecord) -> Claim:
        if record.needs:
            return {reserved(record.id): record.needs}
        known = self._gate.snapshot().backends
        return {id: known[id].needs for id in self.backends_of(record) if id in known}

    def _wanted(self, record: LeaseRecord) -> list[BackendId]:
        if record.needs:
            return [reserved(record.id)]
        first = {route.name: route.backends[0] for route in self.config.routes}
        return [first[name] for name in record.routes if name in first]


def reserved(lease: int) -> BackendId:
    """The backend that stands for what a lease reserves; no configured one has such an id."""
    return BackendId(f"reserved-{lease}")


def why(record: LeaseRecord) -> str:
    """How a lease stands or ended, in words."""
    text = record.state.value
    if record.ended_by is not None:
        text += f" by {record.ended_by}"
    if record.error is not None:
        text += f" ({record.error.message.rstrip('.')})"
    return text
