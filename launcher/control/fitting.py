"""Which leases would have to go for something to be resident. Pure.

The core decides; this only puts names to what it says, and finds what `force` has to break.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.core.types import BackendId, Needs

Claim = Mapping[BackendId, Needs]
"""Backends that are to be resident together, and what each occupies."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a lease holds."""

    lease: int
    claim: Claim
    until: float
    """Seconds, on any clock; `inf` for a pin."""


def fits(capacity: Needs, claims: Sequence[Claim]) -> bool:
    """Whether all of it can be resident together; what is in several claims counts once."""
    free = dict(capacity)
    together: dict[BackendId, Needs] = {}
    for claim in claims:
        together.update(claim)
    for needs in together.values():
        for name, units in needs:
            free[name] = free.get(name, 0) - units
    return all(units >= 0 for units in free.values())


def in_the_way(capacity: Needs, wanted: Claim, leases: Sequence[Claimed]) -> list[int]:
    """The leases that have to go for `wanted`, those first that end first anyway, and none that
    could stay. Empty also where nothing would help."""
    if fits(capacity, [wanted, *(one.claim for one in leases)]):
        return []
    order = sorted(leases, key=lambda one: (one.until, one.lease))
    gone: list[Claimed] = []
    for one in order:
        gone.append(one)
        if fits(capacity, [wanted, *(rest.claim for rest in order if rest not in gone)]):
            break
    else:
        return []
    for one in list(gone):
        staying = [rest.claim for rest in order if rest is one or rest not in gone]
        if fits(capacity, [wanted, *staying]):
            gone.remove(one)
    return [one.lease for one in gone]
