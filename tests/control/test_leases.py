"""Leases: granted, renewed, ended, continued, replaced."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from launcher.control.leases import (
    Claimed,
    check_needs,
    check_term,
    fits,
    must_end,
    reservation_id,
    why,
)
from launcher.control.records import LeaseRecord, LeaseState
from launcher.core.types import BackendId, BackendState, Failure, Needs, OnLease, needs
from launcher.errors import LauncherError
from tests.control.house import EPOCH, Life, after, life, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual

TWO = (("gpu", 2),)
ONE = (("gpu", 1),)


async def taken(run: Life, *routes: str, ttl: float | None = 600.0, **more: object) -> LeaseRecord:
    """A lease, granted."""
    asked = run.leases.take(routes=routes, ttl=ttl, **more)
    record: LeaseRecord = await run.leases.settled(asked.id)
    await run.leases.durable()
    return record


def left(run: Life) -> float:
    """The loop's time on the wall."""
    return run.house.dispatcher._clock() + EPOCH


@virtual
async def test_the_time_runs_from_the_grant() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 50.0
        asked = run.leases.take(routes=(A,), ttl=600.0, note="render")
        await asyncio.sleep(10)
        assert run.leases.get(asked.id).state is LeaseState.PENDING
        assert run.leases.remaining(asked) is None
        record = await run.leases.settled(asked.id)
        assert (record.id, record.state, record.note) == (1, LeaseState.ACTIVE, "render")
        assert run.leases.remaining(record) == pytest.approx(600.0, abs=0.1)
        assert record.expires_at == pytest.approx(left(run) + 600.0, abs=0.1)
        assert run.leases.backends_of(record) == (A,)


@virtual
async def test_it_ends_by_itself_and_whoever_waited_is_served() -> None:
    async with living(life()) as run:
        record = await taken(run, A, ttl=100.0)
        with run.house.asking(B, max_wait=0.0) as waits:
            await asyncio.sleep(90)
            assert run.house.state(A) is BackendState.READY
            await waits.granted()
        ended = run.leases.get(record.id)
        assert (ended.state, ended.ended_by) == (LeaseState.EXPIRED, None)
        assert ended.ended_at == pytest.approx(record.expires_at, abs=0.1)
        assert run.leases.open_ones() == []
    run.house.nobody_left()


@virtual
async def test_it_is_renewed_and_released() -> None:
    async with living(life()) as run:
        record = await taken(run, A, ttl=100.0)
        await asyncio.sleep(60)
        remaining = run.leases.remaining
        assert remaining(run.leases.renew(record.id, None)) == pytest.approx(100.0)
        assert remaining(run.leases.renew(record.id, 500.0)) == pytest.approx(500.0)
        await asyncio.sleep(450)
        assert run.leases.get(record.id).state is LeaseState.ACTIVE
        ended = run.leases.release(record.id, by="ann")
        assert (ended.state, ended.ended_by) == (LeaseState.RELEASED, "ann")
        assert run.leases.release(record.id) == ended, "once more changes nothing"
        await run.up(B)
    run.house.nobody_left()


@virtual
async def test_a_ttl_that_has_passed_already_ends_the_lease() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        record = await taken(run, A, B)
        assert run.leases.renew(record.id, 5e-324).state is LeaseState.EXPIRED
    run.house.nobody_left()


@virtual
async def test_a_stale_token_renews_nothing() -> None:
    async with living(life()) as run:
        first = await taken(run, A, ttl=10.0)
        await asyncio.sleep(20)
        second = await taken(run, A, ttl=100.0)
        assert second.id > first.id
        with pytest.raises(LauncherError, match="has ended: expired") as stale:
            run.leases.renew(first.id, 500.0)
        assert stale.value.code == "stale_lease"
        assert run.leases.release(first.id).state is LeaseState.EXPIRED
        assert run.leases.get(second.id).state is LeaseState.ACTIVE
        run.leases.release(second.id)
        for _ in range(110):
            run.leases.release((await taken(run, A)).id)
        with pytest.raises(LauncherError, match="long ago") as forgotten:
            run.leases.renew(first.id, 500.0)
        assert forgotten.value.code == "stale_lease"
        for act in (lambda: run.leases.renew(999, 5.0), lambda: run.leases.release(999)):
            with pytest.raises(LauncherError) as unknown:
                act()
            assert unknown.value.code == "unknown_lease"


@virtual
async def test_one_that_is_not_granted_yet_is_not_renewed() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 50.0
        asked = run.leases.take(routes=(A,), ttl=10.0)
        with pytest.raises(LauncherError) as pending:
            run.leases.renew(asked.id, 5.0)
        assert pending.value.code == "lease_pending"
        run.leases.release(asked.id)
        assert (await run.leases.settled(asked.id)).state is LeaseState.RELEASED
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
    run.house.nobody_left()


@virtual
async def test_a_pin_has_no_end() -> None:
    async with living(life()) as run:
        pin = await taken(run, A, ttl=None)
        assert (pin.expires_at, run.leases.remaining(pin)) == (None, None)
        await asyncio.sleep(100_000)
        assert run.house.state(A) is BackendState.READY
        assert run.leases.renew(pin.id, None).expires_at is None
        assert run.leases.remaining(run.leases.renew(pin.id, 5.0)) == pytest.approx(5.0)
        await asyncio.sleep(6)
        assert run.leases.get(pin.id).state is LeaseState.EXPIRED


@virtual
async def test_who_holds_the_place_is_named() -> None:
    async with living(life()) as run:
        holder = await taken(run, A, note="nightly", by="ann", ttl=60.0)
        asked = run.leases.take(routes=(B,), ttl=60.0)
        refused = await run.leases.settled(asked.id)
        assert refused.state is LeaseState.FAILED
        assert refused.error is not None
        assert refused.error.code == "leased"
        assert f"Lease {holder.id} (a, ann, nightly, until 2027" in refused.error.message
        with pytest.raises(LauncherError, match="No route of that name"):
            run.leases.take(routes=("nobody",), ttl=1.0)
        with pytest.raises(LauncherError, match="max_lease"):
            run.leases.take(routes=(A,), ttl=5400.1)
        with pytest.raises(LauncherError, match="max_lease"):
            run.leases.renew(holder.id, 5400.1)
        with pytest.raises(LauncherError, match="the capacity is gpu = 1"):
            run.leases.take(needs=TWO, ttl=1.0)


@virtual
async def test_a_start_that_fails_fails_the_lease() -> None:
    async with living(life()) as run:
        run.driver.script(A).missing = True
        refused = await run.leases.settled(run.leases.take(routes=(A,), ttl=60.0).id)
        assert refused.state is LeaseState.FAILED
        assert refused.error is not None
        assert refused.error.code == "backend_missing"
        assert why(refused).startswith("failed (")


@virtual
async def test_several_backends_begin_together() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        run.driver.script(B).ready_after = 50.0
        asked = run.leases.take(routes=(A, B), ttl=20.0, mode="both")
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
        await asyncio.sleep(30)
        assert run.leases.get(asked.id).state is LeaseState.PENDING
        record = await run.leases.settled(asked.id)
        assert record.state is LeaseState.ACTIVE
        ends = [run.house.one(id).leased_until for id in (A, B)]
        assert ends == pytest.approx([run.house.dispatcher._clock() + 20.0] * 2, abs=0.1)
        assert run.leases.backends_of(record) == (A, B)
        await asyncio.sleep(21)
        assert run.leases.get(asked.id).state is LeaseState.EXPIRED
    run.house.nobody_left()


@virtual
async def test_a_backend_stopped_by_force_breaks_its_lease() -> None:
    async with living(life()) as run:
        record = await taken(run, A)
        run.house.dispatcher.request_stop(A, force=True)
        await run.house.until(lambda: run.leases.get(record.id).over)
        assert run.leases.get(record.id).state is LeaseState.BROKEN
    run.house.nobody_left()


@virtual
async def test_on_lease_reject_refuses_other_requests() -> None:
    async with living(life(on_lease=OnLease.REJECT)) as run:
        await taken(run, A, ttl=60.0)
        with run.house.asking(B, on_lease=OnLease.REJECT) as waits:
            with pytest.raises(LauncherError) as leased:
                await waits.granted()
        assert leased.value.code == "leased"
        assert leased.value.retry_after == pytest.approx(60.0, abs=1.0)


# -- capacity for work outside the launcher


@virtual
async def test_what_is_reserved_is_free_before_it_is_granted_and_kept_free() -> None:
    async with living(life()) as run:
        run.driver.script(A).stop_takes = 5.0
        with run.house.asking(A) as stream:
            await stream.granted()
            asked = run.leases.take(needs=ONE, ttl=100.0, note="training")
            await asyncio.sleep(60)
            assert run.leases.get(asked.id).state is LeaseState.PENDING
        record = await run.leases.settled(asked.id)
        assert (record.state, run.driver.running()) == (LeaseState.ACTIVE, set())
        assert run.leases.backends_of(record) == (f"reserved-{record.id}",)
        with run.house.asking(B, max_wait=0.0) as waits:
            await asyncio.sleep(90)
            assert run.driver.running() == set()
            refused = await run.switched(A)
            assert refused.error is not None
            assert "reserved capacity, training, until" in refused.error.message
            await waits.granted()
        assert run.leases.get(record.id).state is LeaseState.EXPIRED
        assert "reserved-1" not in run.house.dispatcher.snapshot().backends
    run.house.nobody_left()


@virtual
async def test_what_is_reserved_stays_so_over_a_kill() -> None:
    async with living(life()) as run:
        asked = run.leases.take(needs=ONE, ttl=100.0)
        await run.leases.settled(asked.id)
        await run.leases.durable()
        run.kill()
    async with living(after(run)) as again:
        assert again.leases.get(asked.id).state is LeaseState.ACTIVE
        with again.house.asking(B, max_wait=0.0) as waits:
            await asyncio.sleep(50)
            assert again.driver.running() == set()
            again.leases.release(asked.id)
            await waits.granted()
    again.house.nobody_left()


@virtual
async def test_a_finished_reservation_is_gone_after_a_restart() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        with run.house.asking(A) as one, run.house.asking(B) as other:
            await one.granted()
            await other.granted()
            pending = run.leases.take(needs=ONE, ttl=10.0, waited_for=True)
            await run.leases.durable()
            run.kill()
    async with living(after(run)) as again:
        assert again.leases.get(pending.id).state is LeaseState.RELEASED
        brief = again.leases.take(needs=ONE, ttl=10.0)
        assert (await again.leases.settled(brief.id)).state is LeaseState.ACTIVE
        await again.leases.durable()
        again.kill()
    await asyncio.sleep(20)
    async with living(after(again)) as third:
        assert third.leases.get(brief.id).state is LeaseState.EXPIRED
        await third.up(C)
    third.house.nobody_left()


@virtual
async def test_force_breaks_what_is_reserved() -> None:
    async with living(life()) as run:
        asked = run.leases.take(needs=ONE, ttl=100.0)
        await run.leases.settled(asked.id)
        done = await run.switched(A, force=True)
        assert (done.broke, done.before) == ((asked.id,), ())
        assert run.house.state(A) is BackendState.READY


# -- restarts


@pytest.mark.parametrize("clean", [True, False], ids=["ended", "killed"])
@pytest.mark.parametrize("runs", [True, False], ids=["runs on", "has died"])
def test_a_restart_goes_on_with_the_end_that_was_set(clean: bool, runs: bool) -> None:
    @virtual
    async def run_it() -> None:
        async with living(life()) as run:
            record = await taken(run, A, ttl=100.0)
            pin = await taken(run, A, ttl=None)
            await asyncio.sleep(30)
            if not clean:
                run.kill()
        if not runs:
            run.driver.kill(A)
        await asyncio.sleep(20)
        async with living(after(run)) as again:
            assert [one.id for one in again.leases.open_ones()] == [record.id, pin.id]
            assert again.leases.remaining(record) == pytest.approx(50.0, abs=1.0)
            await again.house.until(lambda: again.house.state(A) is BackendState.READY)
            again.leases.release(pin.id)
            with again.house.asking(B, max_wait=0.0) as waits:
                await waits.granted()
            ended = again.leases.get(record.id)
            assert ended.state is LeaseState.EXPIRED
            assert ended.ended_at == pytest.approx(record.expires_at, abs=0.1)
        again.house.nobody_left()

    run_it()


@virtual
async def test_a_lease_that_expired_during_downtime_ends_at_its_time() -> None:
    async with living(life()) as run:
        record = await taken(run, A, ttl=10.0)
        run.kill()
    await asyncio.sleep(50)
    async with living(after(run)) as again:
        ended = again.leases.get(record.id)
        assert (ended.state, ended.ended_at) == (LeaseState.EXPIRED, record.expires_at)
        await again.up(B)


@virtual
async def test_a_pending_one_goes_on_unless_somebody_waited_on_a_connection() -> None:
    async with living(life()) as run:
        for id in (A, B):
            run.driver.script(id).ready_after = 50.0
        polled = run.leases.take(routes=(A,), ttl=600.0)
        await run.leases.durable()
        run.kill()
    async with living(after(run)) as again:
        assert (await again.leases.settled(polled.id)).state is LeaseState.ACTIVE
        again.leases.release(polled.id)
        waited = again.leases.take(routes=(B,), ttl=600.0, waited_for=True)
        await again.leases.durable()
        again.kill()
    async with living(after(again)) as third:
        assert third.leases.get(waited.id).state is LeaseState.RELEASED
        assert third.leases.get(waited.id).ended_by == "a restart of the launcher"


@virtual
async def test_who_waits_is_told_when_the_launcher_ends() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 50.0
        asked = run.leases.take(routes=(A,), ttl=600.0)
        waits = asyncio.create_task(run.leases.settled(asked.id))
        await asyncio.sleep(1)
    with pytest.raises(LauncherError) as told:
        await waits
    assert told.value.code == "draining"


@virtual
async def test_a_lease_on_a_route_that_is_gone_is_broken() -> None:
    async with living(life()) as run:
        record = await taken(run, A)
        run.kill()
    async with living(after(run, config=world(B, C))) as again:
        ended = again.leases.get(record.id)
        assert ended.state is LeaseState.BROKEN
        assert "No route of that name" in why(ended)


# -- replacing


@virtual
async def test_a_lease_that_replaces_another_ends_it_when_it_is_granted() -> None:
    async with living(life()) as run:
        old = await taken(run, A, ttl=600.0)
        run.driver.script(B).ready_after = 30.0
        new = run.leases.take(routes=(B,), ttl=100.0, replaces=old)
        await asyncio.sleep(10)
        assert run.leases.get(old.id).state is LeaseState.ACTIVE
        with pytest.raises(LauncherError, match="isn't granted yet"):
            run.leases.renew(old.id, 5.0)
        assert (await run.leases.settled(new.id)).state is LeaseState.ACTIVE
        ended = run.leases.get(old.id)
        assert (ended.state, ended.ended_by) == (LeaseState.RELEASED, f"lease {new.id}")
        assert run.house.state(A) is BackendState.STOPPED
        await asyncio.sleep(101)
    run.house.nobody_left()


@virtual
async def test_one_that_fails_to_replace_gives_back_the_end_that_was() -> None:
    async with living(life()) as run:
        old = await taken(run, A, ttl=600.0)
        run.driver.script(B).exits_after = 5.0
        run.driver.script(B).ready_after = 30.0
        new = run.leases.take(routes=(B,), ttl=100.0, replaces=old)
        assert (await run.leases.settled(new.id)).state is LeaseState.FAILED
        assert run.leases.get(old.id) == old
        await run.house.until(lambda: run.house.state(A) is BackendState.READY)
        assert run.house.one(A).leased_until == pytest.approx(old.expires_at - EPOCH, abs=0.1)
        await asyncio.sleep(600)
        assert run.leases.get(old.id).state is LeaseState.EXPIRED
    run.house.nobody_left()


@virtual
async def test_one_that_ends_while_it_was_to_be_replaced_has_ended() -> None:
    async with living(life()) as run:
        old = await taken(run, A, ttl=20.0)
        run.driver.script(B).exits_after = 50.0
        run.driver.script(B).ready_after = 55.0
        new = run.leases.take(routes=(B,), ttl=100.0, replaces=old)
        assert (await run.leases.settled(new.id)).state is LeaseState.FAILED
        assert run.leases.get(old.id).state is LeaseState.EXPIRED
        assert run.leases.open_ones() == []
    run.house.nobody_left()


@virtual
async def test_a_backend_of_both_is_never_let_go() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        old = await taken(run, A, B, ttl=600.0)
        with run.house.asking(C, max_wait=0.0) as waits:
            new = run.leases.take(routes=(A,), ttl=100.0, replaces=old)
            assert (await run.leases.settled(new.id)).state is LeaseState.ACTIVE
            await waits.granted()
        assert run.house.one(A).leased_until == pytest.approx(
            run.house.dispatcher._clock() + 100.0, abs=10.0
        )
        assert run.driver.count("stop", A) == 0
        assert run.driver.count("stop", B) == 1


@virtual
async def test_a_ticket_broken_during_a_replacement_breaks_both_leases() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        old = await taken(run, A, ttl=600.0)
        run.driver.script(B).ready_after = 50.0
        new = run.leases.take(routes=(A, B), ttl=100.0, replaces=old)
        await asyncio.sleep(10)
        run.house.dispatcher.request_stop(A, force=True)
        assert (await run.leases.settled(new.id)).state is LeaseState.BROKEN
        assert run.leases.get(old.id).state is LeaseState.BROKEN
        await run.house.until(lambda: run.house.state(B) is BackendState.READY)
        assert not run.house.one(B).leased
    run.house.nobody_left()


@virtual
async def test_others_in_the_way_leave_the_old_one_as_it_was() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        other = await taken(run, C, ttl=600.0)
        old = await taken(run, A, ttl=600.0)
        with pytest.raises(LauncherError, match=rf"Lease {other.id} \(c"):
            run.leases.take(routes=(A, B), ttl=5.0, replaces=old)
        assert run.house.one(A).leased_until < math.inf
        assert run.leases.get(old.id) == old


@virtual
async def test_a_kill_while_one_replaces_another_leaves_the_old_one() -> None:
    async with living(life()) as run:
        old = await taken(run, A, ttl=600.0)
        run.driver.script(B).ready_after = 50.0
        new = run.leases.take(routes=(B,), ttl=100.0, replaces=old, waited_for=True)
        await run.leases.durable()
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
        run.kill()
    run.driver.kill(B)
    async with living(after(run)) as again:
        assert again.leases.get(new.id).state is LeaseState.RELEASED
        assert again.leases.get(old.id) == old
        await again.house.until(lambda: again.house.state(A) is BackendState.READY)
        assert again.house.one(A).leased


LEASE = LeaseRecord(7, ("a", "b"), 0.0, 60.0, state=LeaseState.ACTIVE, expires_at=EPOCH)


@virtual
async def test_a_lease_is_named_with_its_holder_and_its_end() -> None:
    async with living(life()) as run:
        named = run.leases.describe
        assert named(LEASE) == "Lease 7 (a, b, until 2027-01-15T08:00:00.000Z)"
        assert ", ann, night, until" in named(replace(LEASE, by="ann", note="night"))
        assert named(replace(LEASE, expires_at=None, ttl=None)) == "Lease 7 (a, b, pinned)"
        pending = replace(LEASE, state=LeaseState.PENDING, routes=(), needs=ONE)
        assert named(pending) == "Lease 7 (reserved capacity, not granted yet)"
        assert run.leases.remaining(pending) is None
        assert run.leases.remaining(LEASE) == 0.0


@virtual
async def test_the_error_says_when_the_first_of_them_ends() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        ids = []
        for route, ttl in ((A, 600.0), (B, 60.0)):
            ids.append((await run.leases.settled(run.leases.take(routes=(route,), ttl=ttl).id)).id)
        holders = run.leases
        assert [one.id for one in holders.blocking(["c"])] == [ids[1]]
        assert holders.blocking([A]) == []
        error = holders.leased_error(run.leases.open_ones())
        assert error.retry_after == pytest.approx(60.0, abs=1.0)
        assert "Lease 1 (a" in error.message
        assert "Lease 2 (b" in error.message


def test_why_it_ended() -> None:
    assert why(replace(LEASE, state=LeaseState.EXPIRED)) == "expired"
    assert why(replace(LEASE, state=LeaseState.BROKEN, ended_by="switch 3")) == "broken by switch 3"
    failed = replace(LEASE, state=LeaseState.FAILED, error=Failure("x", "It burns."))
    assert why(failed) == "failed (It burns)"
    assert reservation_id(7) == "reserved-7"


GPU = needs(gpu=2, vram=24)


def claim(*names: str, **units: int) -> dict[BackendId, Needs]:
    return {BackendId(name): needs(**units) for name in names}


def test_a_backend_in_two_claims_counts_once() -> None:
    assert fits(GPU, [claim("a", gpu=2), claim("a", gpu=2)])
    assert not fits(GPU, [claim("a", gpu=2), claim("b", gpu=1)])
    assert fits(GPU, [claim("a", gpu=2), claim("b")])
    assert not fits(GPU, [claim("a", disk=1)])


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        (claim("x", gpu=1), []),
        (claim("x", vram=24), [2, 1]),
        (claim("x", gpu=2), [2]),
        (claim("x", vram=10), [2]),
        (claim("x", vram=14), [1]),
        (claim("b", vram=10, gpu=1), []),
        (claim("x", gpu=3), []),
    ],
    ids=["fits", "all", "who ends first", "is enough", "not who could stay", "shared", "never"],
)
def test_the_fewest_go_and_those_first_that_end_first(
    wanted: dict[BackendId, Needs], gone: list[int]
) -> None:
    leases = [
        Claimed(1, claim("a", vram=14), 500.0),
        Claimed(2, claim("b", vram=10, gpu=1), 100.0),
    ]
    assert must_end(GPU, wanted, leases) == gone


def test_a_pin_goes_last() -> None:
    leases = [Claimed(1, claim("a", gpu=1), math.inf), Claimed(2, claim("b", gpu=1), 9e9)]
    assert must_end(GPU, claim("x", gpu=1), leases) == [2]


CONFIG = replace(world(capacity=(("gpu", 2), ("vram", 24))), max_lease=600.0)


@pytest.mark.parametrize("ttl", [0.5, 600.0])
def test_a_ttl_up_to_max_lease_is_accepted(ttl: float) -> None:
    check_term(CONFIG, ttl)


@pytest.mark.parametrize("ttl", [0.0, -5.0, 600.1, math.inf, math.nan])
def test_a_ttl_beyond_max_lease_names_the_limit(ttl: float) -> None:
    with pytest.raises(LauncherError, match="at most 600 s") as refused:
        check_term(CONFIG, ttl)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "ttl")


def test_what_fits_alone_may_be_had() -> None:
    check_needs(CONFIG, needs(vram=24, gpu=1))


@pytest.mark.parametrize("wanted", [(), needs(gpu=3), needs(disk=1), needs(gpu=-1)])
def test_what_can_never_be_had_is_refused(wanted: Needs) -> None:
    with pytest.raises(LauncherError, match="the capacity is gpu = 2, vram = 24") as refused:
        check_needs(CONFIG, wanted)
    assert refused.value.param == "needs"
