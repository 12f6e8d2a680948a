"""Who holds the place, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.control.holders import reserved, why
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import Failure
from tests.control.house import EPOCH, life, living
from tests.runtime.house import A, B
from tests.runtime.virtual_clock import virtual

TWO = (("gpu", 2),)
ONE = (("gpu", 1),)
LEASE = LeaseRecord(7, ("a", "b"), 0.0, 60.0, state=LeaseState.ACTIVE, expires_at=EPOCH)


@virtual
async def test_a_lease_is_named_with_its_holder_and_its_end() -> None:
    async with living(life()) as run:
        named = run.leases.holders.named
        assert named(LEASE) == "Lease 7 (a, b, until 2027-01-15T08:00:00.000Z)"
        assert ", ann, night, until" in named(replace(LEASE, by="ann", note="night"))
        assert named(replace(LEASE, expires_at=None, ttl=None)) == "Lease 7 (a, b, pinned)"
        pending = replace(LEASE, state=LeaseState.PENDING, routes=(), needs=ONE)
        assert named(pending) == "Lease 7 (reserved capacity, not granted yet)"
        assert run.leases.holders.remaining(pending) is None
        assert run.leases.holders.remaining(LEASE) == 0.0


@virtual
async def test_the_error_says_when_the_first_of_them_ends() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        ids = []
        for route, ttl in ((A, 600.0), (B, 60.0)):
            ids.append((await run.leases.settled(run.leases.take(routes=(route,), ttl=ttl).id)).id)
        holders = run.leases.holders
        assert [one.id for one in holders.in_the_way_of(["c"])] == [ids[1]]
        assert holders.in_the_way_of([A]) == []
        error = holders.leased(run.leases.open_ones())
        assert error.retry_after == pytest.approx(60.0, abs=1.0)
        assert "Lease 1 (a" in error.message
        assert "Lease 2 (b" in error.message


def test_why_it_ended() -> None:
    assert why(replace(LEASE, state=LeaseState.EXPIRED)) == "expired"
    assert why(replace(LEASE, state=LeaseState.BROKEN, ended_by="switch 3")) == "broken by switch 3"
    failed = replace(LEASE, state=LeaseState.FAILED, error=Failure("x", "It burns."))
    assert why(failed) == "failed (It burns)"
    assert reserved(7) == "reserved-7"
