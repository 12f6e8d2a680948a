"""The shell as a whole: the gate's promises, effects carried out, outcomes fed back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from launcher import tasks
from launcher.core.effects import Effect, PrewarmSkipped
from launcher.core.events import Event, Tick
from launcher.core.types import BackendState, Estimates
from launcher.drivers.base import ContainerSpec
from launcher.errors import LauncherError
from launcher.runtime.admission import Admission, Admitter, Ask
from launcher.runtime.dispatcher import Dispatcher
from tests.runtime.house import A, B, C, House, config, opened
from tests.runtime.virtual_clock import virtual


def is_a_gate(dispatcher: Dispatcher) -> Admitter:
    return dispatcher


@virtual
async def test_a_cold_backend_is_started_and_granted() -> None:
    house = House()
    house.driver.script(A).start_takes = 2.0
    house.driver.script(A).ready_after = 3.0
    async with opened(house):
        began = asyncio.get_running_loop().time()
        with house.asking(A) as admission:
            assert admission.grant is None
            grant = await admission.granted()
            assert grant.backend == A
            assert grant.cold
            assert grant.endpoint == house.dispatcher.endpoint(A)
            assert grant.queued == pytest.approx(asyncio.get_running_loop().time() - began)
            assert 5.0 <= grant.queued < 5.1
            assert grant.starting == grant.queued
            assert house.one().in_flight == 1
        house.nobody_left()


@virtual
async def test_a_ready_backend_is_granted_at_once_without_task_or_future() -> None:
    house = House()
    async with opened(house):
        await house.use()
        before = asyncio.all_tasks()
        with house.asking() as admission:
            assert admission.grant is not None
            assert (admission.grant.cold, admission.grant.queued, admission.grant.starting) == (
                False,
                0,
                0,
            )
            assert asyncio.all_tasks() == before
            assert await admission.granted() is admission.grant
        house.nobody_left()


@virtual
async def test_a_hundred_who_come_together_share_one_start() -> None:
    house = House()
    house.driver.script(A).start_takes = 1.0
    async with opened(house):
        await asyncio.gather(*(house.use() for _ in range(100)))
        assert house.driver.count("start", A) == house.driver.count("up", A) == 1
        house.nobody_left()


@virtual
async def test_the_other_makes_way_first() -> None:
    house = House()
    house.driver.script(A).stop_takes = 4.0
    house.driver.script(B).start_takes = 2.0
    async with opened(house):
        await house.use(A)
        with house.asking(B) as admission:
            grant = await admission.granted()
            assert house.driver.running() == {B}
            assert grant.queued == pytest.approx(6.0, abs=0.1)
            assert grant.starting == pytest.approx(2.0, abs=0.1)
        whats = [(n.what, n.backend) for n in house.driver.record if n.what in ("up", "down")]
        assert whats == [("up", A), ("down", A), ("up", B)]


@virtual
async def test_a_stop_blocks_nobody_else() -> None:
    house = House(config(A), config(B), config(C, needs=()))
    house.driver.script(A).stop_takes = 9.0
    async with opened(house):
        await house.use(A)
        waiting = tasks.spawn(house.use(B), name="b")
        await house.until(lambda: house.state(A) is BackendState.STOPPING)
        with house.asking(C) as admission:
            assert (await admission.granted()).queued < 1.0
            assert house.state(A) is BackendState.STOPPING
        await waiting


@virtual
async def test_the_idle_are_stopped_by_the_timer() -> None:
    house = House(config(A, idle_timeout=300.0))
    async with opened(house):
        await house.use()
        await asyncio.sleep(299)
        assert house.driver.running() == {A}
        await asyncio.sleep(2)
        assert house.driver.running() == set()
        assert house.dispatcher.endpoint(A) is None
        assert house.ledger.of(Tick)


@virtual
async def test_a_failed_start_tells_every_waiter() -> None:
    house = House()
    house.driver.script(A).exits_after = 1.0
    house.driver.script(A).ready_after = 10.0
    async with opened(house):
        places = [house.ask() for _ in range(3)]
        ends = await asyncio.gather(*(p.granted() for p in places), return_exceptions=True)
        assert {getattr(end, "code", None) for end in ends} == {"backend_start_failed"}
        for admission in places:
            with admission:
                pass
        with house.asking() as admission:
            with pytest.raises(LauncherError) as again:
                await admission.granted()
            assert again.value.retry_after is not None
        house.nobody_left()


@virtual
async def test_what_was_refused_knows_how_much_of_its_wait_was_a_start() -> None:
    house = House()
    house.driver.script(A).stop_takes = 4.0
    house.driver.script(B).exits_after = 2.0
    house.driver.script(B).ready_after = 10.0
    async with opened(house):
        await house.use(A)
        with house.asking(B) as admission:
            with pytest.raises(LauncherError):
                await admission.granted()
            assert house.dispatcher.snapshot().now - admission.asked_at == pytest.approx(
                6.0, abs=0.6
            )
            assert admission.starting == pytest.approx(2.0, abs=0.6)
        with house.asking(B) as admission:
            with pytest.raises(LauncherError):
                await admission.granted()
            assert admission.starting == 0.0, "nothing was waited for"


@virtual
async def test_who_waits_no_longer_was_waiting_for_a_start() -> None:
    house = House()
    house.driver.script(A).start_takes = 30.0
    async with opened(house):
        with house.asking(queue_timeout=5.0) as admission:
            with pytest.raises(LauncherError):
                await admission.granted()
            assert admission.starting == pytest.approx(5.0, abs=0.1)


@virtual
async def test_after_the_back_off_it_is_tried_again() -> None:
    house = House()
    house.driver.script(A).start_error = LauncherError("backend_start_failed", "no")
    async with opened(house):
        with house.asking() as admission, pytest.raises(LauncherError):
            await admission.granted()
        house.driver.script(A).start_error = None
        await asyncio.sleep(1.5)
        await house.use()
        assert house.driver.count("up", A) == 1


@virtual
async def test_a_queue_that_takes_too_long_ends_in_an_error() -> None:
    house = House()
    house.driver.script(A).ready_after = 50.0
    async with opened(house):
        with house.asking(A, queue_timeout=7.0) as admission:
            with pytest.raises(LauncherError) as raised:
                await admission.granted()
        assert raised.value.code == "queue_timeout"
        house.nobody_left()


@virtual
async def test_an_operators_stop_cancels_the_start_and_waits_for_it() -> None:
    house = House()
    house.driver.script(A).start_takes = 30.0
    async with opened(house):
        with house.asking() as admission:
            await house.until(lambda: house.driver.count("start", A))
            house.dispatcher.request_stop(A)
            with pytest.raises(LauncherError) as raised:
                await admission.granted()
            assert raised.value.code == "backend_stopped"
        await house.until(lambda: house.state() is BackendState.STOPPED)
        await asyncio.sleep(60)
        assert house.driver.count("up", A) == 0
        house.nobody_left()


@virtual
async def test_a_forced_stop_cuts_each_exchange_once() -> None:
    house = House()
    cut: list[str] = []
    async with opened(house):
        with house.asking() as first, house.asking() as second, house.asking() as deaf:
            await first.granted()
            first.on_abort = lambda error: cut.append(f"first {error.code}")
            second.on_abort = lambda error: cut.append(f"second {error.code}")
            house.dispatcher.request_stop(A, force=True)
            assert cut == ["first backend_stopped", "second backend_stopped"]
            house.dispatcher.request_stop(A, force=True)
            assert len(cut) == 2
            deaf.on_abort = lambda error: cut.append(f"late {error.code}")
            assert cut[2:] == ["late backend_stopped"]
            assert house.driver.running() == {A}
        await house.until(lambda: house.state() is BackendState.STOPPED)
        house.nobody_left()


@virtual
async def test_an_exchange_that_fails_at_being_cut_does_not_save_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    cut: list[LauncherError] = []

    def broken(error: LauncherError) -> None:
        raise ValueError("broken")

    async with opened(house):
        with house.asking() as first, house.asking() as second:
            await second.granted()
            first.on_abort, second.on_abort = broken, cut.append
            house.dispatcher.request_stop(A, force=True)
            assert len(cut) == 1
    assert "cutting the exchange" in caplog.text


@virtual
async def test_what_is_fed_while_feeding_comes_after() -> None:
    house = House()
    order: list[str] = []
    inner: list[Admission] = []

    def observer(event: Event, effects: Sequence[Effect], now: float) -> None:
        order.append(type(event).__name__)
        if isinstance(event, Tick) and not inner:
            inner.append(house.ask(B))
            house.dispatcher.feed(Tick())
            order.append("observer done")

    async with opened(house):
        house.dispatcher._observers += (observer,)
        house.dispatcher.feed(Tick())
        assert order == ["Tick", "observer done"]
        with house.asking(B) as admission:
            assert order[2:] == ["Arrived", "Tick", "Arrived"]
            await admission.granted()
        with inner[0]:
            assert inner[0].grant is not None
        house.nobody_left()


@virtual
async def test_one_let_go_while_its_grant_is_on_its_way_is_released() -> None:
    house = House()

    def observer(event: Event, effects: Sequence[Effect], now: float) -> None:
        if isinstance(event, Tick):
            with house.ask(A):
                pass

    async with opened(house):
        await house.use()
        house.dispatcher._observers += (observer,)
        house.dispatcher.feed(Tick())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        house.nobody_left()
        assert len(house.ledger.ended) == 2


@virtual
async def test_an_observers_fault_costs_nobody_an_effect(caplog: pytest.LogCaptureFixture) -> None:
    house = House()

    def observer(event: Event, effects: object, now: float) -> None:
        raise ValueError("broken")

    house.dispatcher._observers += (observer,)
    async with opened(house):
        await house.use()
    assert "an observer failed" in caplog.text


@virtual
async def test_several_backends_are_asked_in_order() -> None:
    house = House()
    async with opened(house):
        with house.asking(B, A) as admission:
            assert (await admission.granted()).backend == B
        house.nobody_left()


@virtual
async def test_what_is_not_configured_is_refused() -> None:
    house = House(config(A))
    async with opened(house):
        with (
            house.asking(B) as admission,
            pytest.raises(LauncherError, match="no longer configured"),
        ):
            await admission.granted()
        with pytest.raises(KeyError):
            house.dispatcher.request_stop(B)
        with pytest.raises(KeyError):
            house.dispatcher.drain([B], True)
        house.nobody_left()


@virtual
async def test_quiet_requests_wake_nothing() -> None:
    house = House()
    async with opened(house):
        with house.asking(A, quiet=True) as admission:
            with pytest.raises(LauncherError) as raised:
                await admission.granted()
            assert raised.value.code == "not_resident"
        assert house.driver.count("start", A) == 0


@virtual
async def test_a_silent_tunnel_makes_way_and_is_cut() -> None:
    house = House()
    async with opened(house):
        with house.asking(A) as tunnel:
            await tunnel.granted()
            tunnel.silence(True)
            assert house.one().silent == 1
            gone = asyncio.Event()
            tunnel.on_abort = lambda error: gone.set()
            other = tasks.spawn(house.use(B), name="b")
            await gone.wait()
        await other
        house.nobody_left()


@virtual
async def test_prewarmed_backends_start_with_the_house_and_the_rest_is_told() -> None:
    house = House(prewarm=(B, A))
    async with opened(house):
        await house.until(lambda: house.state(B) is BackendState.READY)
        assert house.driver.running() == {B}
        assert [skipped.backend for skipped in house.ledger.of(PrewarmSkipped)] == [A]


@virtual
async def test_measured_times_of_an_earlier_run_are_known() -> None:
    house = House(estimates={A: Estimates(start=38.0)})
    house.driver.script(A).ready_after = 30.0
    async with opened(house):
        with house.asking() as admission:
            await house.until(lambda: house.driver.running())
            await asyncio.sleep(12)
            told = admission.progress()
            assert (told.backend, told.phase) == (A, "starting")
            assert told.waited == pytest.approx(12, abs=0.2)
            assert told.forecast is not None
            assert told.forecast.seconds == pytest.approx(26, abs=0.2)
            await admission.granted()


@virtual
async def test_closing_rejects_the_queue_and_leaves_containers_up() -> None:
    house = House()
    async with opened(house):
        await house.use(A)
        handle = house.ask(A)
        waiting = house.ask(B)
        later = tasks.spawn(waiting.granted(), name="waiting")
        await asyncio.sleep(0)
    with pytest.raises(LauncherError) as raised:
        await later
    assert raised.value.code == "draining"
    with waiting, handle:
        pass
    assert house.driver.running() == {A}
    house.nobody_left()
    with pytest.raises(LauncherError), house.asking(A) as late:
        await late.granted()


@virtual
async def test_closing_may_stop_what_runs() -> None:
    house = House(config(A), config(B, needs=()))
    async with opened(house, stop=True):
        await house.use(A)
        await house.use(B)
        assert house.driver.running() == {A, B}
    assert house.driver.running() == set()


@virtual
async def test_closing_in_the_middle_of_everything_leaves_no_task() -> None:
    house = House(config(A), config(B, needs=()), config(C, needs=()))
    house.driver.script(A).start_takes = math.inf
    house.driver.script(B).stop_takes = math.inf
    house.driver.script(B).unkillable = True
    house.driver.script(C).hangs = True
    async with opened(house):
        await house.use(B)
        house.dispatcher.request_stop(B)
        places = [house.ask(A), house.ask(C)]
        await asyncio.sleep(5)
    for admission in places:
        with admission:
            pass
    house.nobody_left()


@virtual
async def test_a_stop_that_does_not_end_is_told_and_tried_again() -> None:
    house = House(config(A, stop_grace=1.0), config(B))
    house.driver.script(A).unkillable = True
    async with opened(house):
        await house.use(A)
        with house.asking(B) as admission:
            with pytest.raises(LauncherError) as raised:
                await admission.granted()
            assert raised.value.code == "backend_stop_failed"
        assert house.one(A).stop_failure is not None
        house.driver.script(A).unkillable = False
        await house.until(lambda: house.state(A) is BackendState.STOPPED)
        await house.use(B)
        assert house.driver.count("stop", A) >= 2


@virtual
async def test_drivers_are_told_their_backends() -> None:
    house = House(config(A, stop_grace=3.0))
    async with opened(house):
        assert house.driver._specs == {A: ContainerSpec("a", 8000, stop_grace=3.0)}
        assert is_a_gate(house.dispatcher).admit(Ask((A,))).ok is False
