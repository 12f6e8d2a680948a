"""Switches: a target or what was there before, one at a time, over kills."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from launcher.control.records import Step, SwitchRecord, SwitchState
from launcher.control.switches import StepRecorder, outcome
from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId, BackendState, Failure, StopReason
from launcher.errors import LauncherError
from launcher.telemetry.facts import (
    Fact,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)
from tests.control.house import Life, MemoryStore, after, life, living, world
from tests.runtime.house import A, B, C
from tests.runtime.virtual_clock import virtual

TWO = (("gpu", 2),)
ONE = (("gpu", 1),)


def names(record: SwitchRecord) -> list[str]:
    return [step.name for step in record.steps]


def exits_at_start(run: Life, id: BackendId = B) -> None:
    run.driver.script(id).exits_after = 0.5
    run.driver.script(id).ready_after = 60.0


@virtual
async def test_what_is_up_already_is_a_success_at_once() -> None:
    async with living(life()) as run:
        await run.up(A)
        done = await run.switched(A)
        assert (done.state, done.backend, done.steps) == (SwitchState.SUCCEEDED, A, ())
        assert run.house.state(A) is BackendState.READY
    run.house.nobody_left()


@virtual
async def test_a_switch_stops_what_is_in_the_way_and_tells_each_step() -> None:
    async with living(life()) as run:
        run.driver.script(A).stop_takes = 3.0
        run.driver.script(B).start_takes = 2.0
        run.driver.script(B).ready_after = 30.0
        await run.up(A)
        done = await run.switched(B, by="chatops")
        assert done.state is SwitchState.SUCCEEDED
        assert (done.before, done.stopped, done.backend, done.by) == ((A,), (A,), B, "chatops")
        assert names(done) == ["stop a", "start b", "wait until b is healthy"]
        assert all(step.ok for step in done.steps)
        took = [(step.ended_at or 0.0) - step.began_at for step in done.steps]
        assert took == pytest.approx([3.0, 2.0, 30.0], abs=2.0)
        assert str(done.steps[-1].detail).startswith("ready after 3")
        assert done.started_at is not None
        assert done.finished_at is not None
        assert done.finished_at - done.started_at == pytest.approx(35.0, abs=2.0)
    run.house.nobody_left()


@virtual
async def test_a_stream_in_flight_is_served_to_its_end() -> None:
    async with living(life()) as run:
        with run.house.asking(A) as stream:
            await stream.granted()
            switch = run.switches.begin(B)
            await asyncio.sleep(300)
            assert run.house.state(A) is BackendState.DRAINING
            now = run.switches.get(switch.id)
            assert now.state is SwitchState.RUNNING
            assert (names(now), now.steps[0].ok) == (["drain a"], None)
            assert outcome(now) == "is under way: drain a"
        done = await run.switches.over(switch.id)
        assert names(done) == ["drain a", "stop a", "start b", "wait until b is healthy"]
        assert done.steps[0].ok


@virtual
async def test_a_switch_goes_ahead_of_the_queue() -> None:
    async with living(life()) as run:
        stream = run.house.ask(A)
        with run.house.asking(C, max_wait=0.0) as waits:
            with stream:
                await stream.granted()
                await asyncio.sleep(5)
                switch = run.switches.begin(B)
                await asyncio.sleep(5)
            done = await run.switches.over(switch.id)
            assert done.state is SwitchState.SUCCEEDED
            assert waits.grant is None
            assert run.house.ledger.starts(C) == 0


@virtual
async def test_what_was_there_comes_back_where_the_target_fails() -> None:
    async with living(life()) as run:
        await run.up(A)
        exits_at_start(run)
        done = await run.switched(B)
        assert done.state is SwitchState.ROLLED_BACK
        assert done.error is not None
        assert done.error.code == "backend_start_failed"
        assert (done.restore_error, done.stopped) == (None, (A,))
        assert names(done) == [
            "stop a",
            "start b",
            "wait until b is healthy",
            "stop b",
            "restore a",
            "wait until a is healthy",
        ]
        assert [step.ok for step in done.steps] == [True, True, False, True, True, True]
        assert run.house.state(A) is BackendState.READY
        assert "and a is back" in outcome(done)
    run.house.nobody_left()


@virtual
async def test_requests_for_what_was_there_wait_and_are_served() -> None:
    async with living(life()) as run:
        await run.up(A)
        exits_at_start(run)
        switch = run.switches.begin(B)
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
        with run.house.asking(A) as waits:
            await waits.granted()
            waits.ok = True
        done = await run.switches.over(switch.id)
        assert done.state is SwitchState.ROLLED_BACK
    run.house.nobody_left()


@virtual
async def test_all_that_was_there_comes_back_the_last_used_first() -> None:
    config = world(capacity=TWO, needs=ONE)
    big = replace(config.backends[2], needs=TWO)
    config = replace(config, backends=(*config.backends[:2], big))
    async with living(Life(config, MemoryStore())) as run:
        await run.up(B)
        await asyncio.sleep(5)
        await run.up(A)
        exits_at_start(run, C)
        done = await run.switched(C)
        assert done.state is SwitchState.ROLLED_BACK
        assert (done.before, done.stopped) == ((A, B), (A, B))
        starts = [note.backend for note in run.driver.record if note.what == "start"]
        assert starts == [B, A, C, A, B]
        assert {run.house.state(A), run.house.state(B)} == {BackendState.READY}


@virtual
async def test_where_nothing_comes_back_both_errors_are_told() -> None:
    async with living(life()) as run:
        await run.up(A)
        exits_at_start(run)
        run.driver.script(A).start_error = LauncherError("backend_start_failed", "No memory.")
        done = await run.switched(B)
        assert done.state is SwitchState.FAILED
        assert done.error is not None
        assert done.restore_error is not None
        assert "b" in done.error.message
        assert "No memory." in done.restore_error.message
        assert "Nor did a come back" in outcome(done)


@virtual
async def test_a_target_that_fails_where_nothing_was_stopped_just_fails() -> None:
    async with living(life()) as run:
        run.driver.script(B).missing = True
        done = await run.switched(B)
        assert (done.state, done.stopped) == (SwitchState.FAILED, ())
        assert done.error is not None
        assert done.error.code == "backend_missing"
        with pytest.raises(LauncherError, match="No route of that name"):
            run.switches.begin("nobody")


@virtual
async def test_one_runs_at_a_time_in_the_order_of_asking() -> None:
    async with living(life()) as run:
        await run.up(A)
        for id in (B, C):
            run.driver.script(id).ready_after = 30.0
        ids = [run.switches.begin(id).id for id in (B, C, A)]
        await asyncio.sleep(1)
        states = [one.state.value for one in run.switches.open_ones()]
        assert states == ["running", "queued", "queued"]
        assert outcome(run.switches.get(ids[1])) == "waits for its turn"
        done = [await run.switches.over(id) for id in ids]
        assert {one.state for one in done} == {SwitchState.SUCCEEDED}
        assert [one.before for one in done] == [(A,), (B,), (C,)]
        assert done[0].finished_at <= done[1].started_at
        assert done[1].finished_at <= done[2].started_at


@virtual
async def test_a_rollback_does_not_meet_the_next_switch() -> None:
    async with living(life()) as run:
        await run.up(A)
        exits_at_start(run)
        first, second = run.switches.begin(B), run.switches.begin(C)
        one, two = await run.switches.over(first.id), await run.switches.over(second.id)
        assert (one.state, two.state) == (SwitchState.ROLLED_BACK, SwitchState.SUCCEEDED)
        assert two.before == (A,)
        assert run.house.state(C) is BackendState.READY


@virtual
async def test_the_remaining_time_is_predicted() -> None:
    async with living(life()) as run:
        run.driver.script(A).ready_after = 10.0
        run.driver.script(B).ready_after = 50.0
        await run.up(B)
        await run.up(A)
        switch, next = run.switches.begin(B), run.switches.begin(A)
        await asyncio.sleep(20)
        assert run.switches.remaining(switch.id) == pytest.approx(30.0, abs=5.0)
        # Of one that has still to have its turn, what is before it counts.
        assert run.switches.remaining(next.id) == pytest.approx(40.0, abs=8.0)
        await run.switches.over(next.id)
        assert run.switches.remaining(switch.id) is None
        assert run.switches.remaining(next.id) is None


@virtual
async def test_nothing_is_stopped_and_no_lease_broken_for_what_is_not_there() -> None:
    async with living(life()) as run:
        lease = run.leases.take(routes=(A,), ttl=600.0)
        await run.leases.settled(lease.id)
        run.driver.script(B).missing = True
        done = await run.switched(B, force=True)
        assert (done.state, done.steps, done.broke) == (SwitchState.FAILED, (), ())
        assert done.error is not None
        assert done.error.code == "backend_missing"
        assert run.leases.get(lease.id).over is False
        assert run.house.state(A) is BackendState.READY
        run.driver.script(B).missing = False
        assert (await run.switched(B, force=True)).state is SwitchState.SUCCEEDED


@virtual
async def test_no_step_of_a_switch_that_is_over_goes_on() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 50.0
        switch = run.switches.begin(B)
        await asyncio.sleep(10)
        less = [one for one in run.config.backends if one.id != B]
        run.house.dispatcher.reconfigure(
            {one.id: one for one in less}, {one.id: run.driver for one in less}
        )
        done = await run.switches.over(switch.id)
        assert done.state is SwitchState.ROLLED_BACK
        assert names(done)[1:3] == ["start b", "wait until b is healthy"]
        assert all(step.ended_at is not None for step in done.steps)
        assert [step.ok for step in done.steps if step.name == "wait until b is healthy"] == [False]


@virtual
async def test_a_lease_in_the_way_is_named_and_broken_only_by_force() -> None:
    async with living(life()) as run:
        lease = run.leases.take(routes=(A,), ttl=600.0, note="rendering", by="ann")
        await run.leases.settled(lease.id)
        refused = await run.switched(B)
        assert refused.state is SwitchState.FAILED
        assert refused.error is not None
        assert refused.error.code == "leased"
        for word in (f"Lease {lease.id}", "a, ann, rendering", "until 2027"):
            assert word in refused.error.message
        assert run.house.state(A) is BackendState.READY

        done = await run.switched(B, force=True)
        assert (done.state, done.broke) == (SwitchState.SUCCEEDED, (lease.id,))
        broken = run.leases.get(lease.id)
        assert (broken.state.value, broken.ended_by) == ("broken", f"switch {done.id}")
        assert run.house.state(A) is BackendState.STOPPED


@virtual
async def test_force_leaves_alone_what_is_not_in_the_way() -> None:
    async with living(life(capacity=TWO, needs=ONE)) as run:
        lease = run.leases.take(routes=(A,), ttl=600.0)
        await run.leases.settled(lease.id)
        done = await run.switched(B, force=True)
        assert (done.state, done.broke) == (SwitchState.SUCCEEDED, ())
        assert run.leases.get(lease.id).state.value == "active"


# -- restarts


async def at(run: Life, moment: str) -> None:
    """Wait until a switch from A to B stands there."""
    conditions = {
        "queued": lambda: True,
        "draining": lambda: run.house.state(A) is BackendState.DRAINING,
        "stopping": lambda: run.house.state(A) is BackendState.STOPPING,
        "starting": lambda: run.house.state(B) is BackendState.STARTING,
        "restoring": lambda: (
            run.switches.open_ones()[0].restoring and run.house.state(A) is BackendState.STARTING
        ),
    }
    await run.house.until(conditions[moment])
    await asyncio.sleep(1)


@pytest.mark.parametrize("clean", [False, True], ids=["killed", "ended"])
@pytest.mark.parametrize(
    ("moment", "fails"),
    [
        (moment, fails)
        for moment in ("queued", "draining", "stopping", "starting", "restoring")
        for fails in (False, True)
        if fails or moment != "restoring"
    ],
)
def test_a_switch_goes_on_after_a_restart(moment: str, clean: bool, fails: bool) -> None:
    @virtual
    async def run_it() -> None:
        first = life()
        first.driver.script(A).stop_takes = 5.0
        first.driver.script(A).ready_after = 20.0
        first.driver.script(B).ready_after = 30.0
        if fails:
            first.driver.script(B).exits_after = 10.0
        async with living(first) as run:
            await run.up(A)
            stream = run.house.ask(A)
            stream.__enter__()
            if moment == "queued":
                run.switches.begin(C)
            switch = run.switches.begin(B)
            await run.switches.durable()
            if moment not in ("queued", "draining"):
                await at(run, "draining")
                stream.__exit__(None, None, None)
            await at(run, moment)
            if not clean:
                run.kill()
            if not stream.left:
                stream.__exit__(None, None, None)
        async with living(after(run)) as again:
            done = await again.switches.over(switch.id)
            if fails:
                assert done.state is SwitchState.ROLLED_BACK
                assert done.error is not None
                back = C if moment == "queued" else A
                assert again.house.state(back) is BackendState.READY
                assert again.house.state(B) in (BackendState.STOPPED, BackendState.FAILED)
            else:
                assert done.state is SwitchState.SUCCEEDED
                assert again.house.state(B) is BackendState.READY
                assert again.house.state(A) is BackendState.STOPPED
        again.house.nobody_left()
        async with living(after(again)) as third:
            assert third.switches.open_ones() == []
            assert third.switches.get(switch.id) == done

    run_it()


@virtual
async def test_numbers_go_on_after_a_restart() -> None:
    async with living(life()) as run:
        for _ in range(120):
            last = await run.switched(A)
        assert len(run.switches.all()) == 100
        with pytest.raises(LauncherError, match="There is no switch 1"):
            run.switches.get(1)
    async with living(after(run)) as again:
        assert again.switches.begin(A).id == last.id + 1


@virtual
async def test_where_the_file_was_lost_no_number_is_given_twice() -> None:
    async with living(Life(world(), MemoryStore(lost=True))) as run:
        assert run.switches.begin(A).id > 1_800_000_000


@virtual
async def test_who_waits_is_told_when_the_launcher_ends() -> None:
    async with living(life()) as run:
        run.driver.script(B).ready_after = 1000.0
        waits = asyncio.create_task(run.switched(B))
        await run.house.until(lambda: run.house.state(B) is BackendState.STARTING)
    with pytest.raises(LauncherError, match="goes on with the switch"):
        await waits


@virtual
async def test_an_internal_error_fails_one_switch_and_the_next_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with living(life()) as run:
        with monkeypatch.context() as broken:
            broken.setattr(run.leases, "blocking", None)
            done = await run.switched(B, force=True)
        assert done.state is SwitchState.FAILED
        assert done.error is not None
        assert done.error.code == "internal_error"
        assert "TypeError" in caplog.text
        assert (await run.switched(B)).state is SwitchState.SUCCEEDED


@virtual
async def test_where_the_route_is_gone_after_the_restart_what_was_there_comes_back() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 1000.0
        switch = run.switches.begin(B)
        await at(run, "starting")
        run.kill()
    run.driver.kill(B)
    async with living(after(run, config=world(A, C))) as again:
        done = await again.switches.over(switch.id)
        assert done.state is SwitchState.ROLLED_BACK
        assert done.error is not None
        assert done.error.code == "unknown_route"
        assert again.house.state(A) is BackendState.READY


@virtual
async def test_stops_before_a_kill_count_for_the_switch() -> None:
    async with living(life()) as run:
        await run.up(A)
        run.driver.script(B).ready_after = 50.0
        switch = run.switches.begin(B)
        await at(run, "starting")
        await run.switches.durable()
        run.kill()
    run.driver.kill(B)
    async with living(after(run)) as again:
        done = await again.switches.over(switch.id)
        assert (done.state, done.stopped) == (SwitchState.SUCCEEDED, (A,))
        cut = [step for step in done.steps if step.detail == "the launcher ended meanwhile"]
        assert [step.ok for step in cut] == [False]
        assert all(step.ended_at is not None for step in done.steps)


class Time:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 1.0
        return self.at


def told(*facts: Fact, recorder: StepRecorder | None = None) -> list[tuple[str, bool | None]]:
    recorder = recorder or StepRecorder([B], Time())
    for fact in facts:
        recorder.fact(fact)
    return [(step.name, step.ok) for step in recorder.steps]


def stop(backend: BackendId, wanted_by: BackendId | None) -> tuple[Fact, Fact]:
    return (
        Decided(Action.STOP, backend, "evicted", wanted_by=wanted_by),
        StopBegan(backend, StopReason.EVICTED),
    )


FAILURE = Failure("backend_start_failed", "exit code 1")


def test_stops_for_other_backends_are_no_steps() -> None:
    recorder = StepRecorder([B], Time())
    assert told(
        *stop(A, C), *stop(C, B), StopEnded(A, StopReason.EVICTED, 1.0), recorder=recorder
    ) == [("stop c", None)]
    assert recorder.stopped == {C}
    assert not recorder.fact(StartBegan(A, 1, False, False))


def test_a_drain_step_ends_with_the_stop_or_an_undrain() -> None:
    drain = Decided(Action.DRAIN, A, "overdue", wanted_by=B)
    assert told(drain, *stop(A, B)) == [("drain a", True), ("stop a", None)]
    assert told(drain, Decided(Action.UNDRAIN, A, "no longer wanted")) == [("drain a", False)]


def test_a_stop_that_sticks_says_so() -> None:
    recorder = StepRecorder([B], Time())
    told(*stop(A, B), StopStuck(A, Failure("backend_stop_failed", "It hangs.")), recorder=recorder)
    assert recorder.steps == (Step("stop a", 1.0, detail="It hangs. It is tried again."),)
    recorder.fact(StopEnded(A, StopReason.EVICTED, 9.0))
    assert recorder.steps[0].ok


def test_a_start_is_what_the_driver_does_and_then_the_waiting() -> None:
    began = StartBegan(B, 1, adopted=False, swap=True)
    ended = StartEnded(B, 1, False, True, "ready", 31.4)
    assert told(began, Loading(B, 1), ended) == [
        ("start b", True),
        ("wait until b is healthy", True),
    ]
    recorder = StepRecorder([B], Time())
    failed = StartEnded(B, 1, False, True, "failed", 3.0, FAILURE)
    assert told(began, failed, StopBegan(B, StopReason.FAILED_START), recorder=recorder) == [
        ("start b", False),
        ("stop b", None),
    ]
    assert [step.detail for step in recorder.steps] == [
        "exit code 1",
        "what may be left of the start that failed",
    ]


def test_a_restore_adds_its_own_steps() -> None:
    recorder = StepRecorder([B], Time(), [Step("stop a", 1.0, 2.0, True)])
    recorder.restore([A])
    began = StartBegan(A, 2, adopted=False, swap=False)
    assert told(began, StartEnded(A, 2, False, False, "cancelled", 1.0), recorder=recorder) == [
        ("stop a", True),
        ("restore a", False),
    ]
    assert recorder.steps[-1].detail == "cancelled"
