"""What one more request would wait, and what it would bring about."""

from __future__ import annotations

import asyncio
import math

import pytest

from launcher.core.dry_run import Step
from launcher.core.effects import Action, Admit, Decided, Reject
from launcher.core.types import Hold, OnLease, TicketId, Wake
from launcher.errors import LauncherError
from launcher.runtime.admission import PLANNED, Ask
from launcher.runtime.forecaster import SOMEBODY
from tests.runtime.house import A, B, House, config, opened
from tests.runtime.virtual_clock import virtual


@virtual
async def test_a_plan_is_not_carried_out() -> None:
    house = House(config(A), config(B))
    async with opened(house):
        await house.use(A)
        before, seen = house.dispatcher.snapshot(), len(house.ledger.events)
        served = house.dispatcher.plan(Ask((A,)))
        cold = house.dispatcher.plan(Ask((B,)))
        assert served == [Step(0.0, Admit(PLANNED, A, False))]
        decided = [step.effect for step in cold if isinstance(step.effect, Decided)]
        assert [(one.action, one.backend) for one in decided] == [
            (Action.STOP, A),
            (Action.START, B),
        ]
        assert cold[-1].effect == Admit(PLANNED, B, True)
        assert house.dispatcher.snapshot() == before
        assert len(house.ledger.events) == seen


@virtual
async def test_who_is_sent_away_is_told_when_to_come_back() -> None:
    house = House(config(A), config(B))
    house.driver.script(B).start_takes = 20.0
    async with opened(house):
        await house.use(B)  # so that its times are known
        await house.use(A)
        assert A not in house.dispatcher.forecasts()
        predicted = house.dispatcher.forecasts()[B]
        assert predicted.seconds == pytest.approx(23.0, abs=0.5)  # a stop by its guess
        rejected = house.dispatcher.plan(Ask((B,), quiet=True))[-1].effect
        assert isinstance(rejected, Reject)
        assert rejected.retry_after == SOMEBODY, "who may not evict a waits until it is idle"
        with house.asking(B, quiet=True) as admission, pytest.raises(LauncherError) as caught:
            await admission.granted()
        assert (caught.value.code, caught.value.retry_after) == ("not_resident", SOMEBODY)


@virtual
async def test_what_the_scheduler_knows_better_stays() -> None:
    house = House(config(A))
    async with opened(house):
        foresight = house.dispatcher._forecaster
        one = TicketId(1)
        assert foresight.retry_after(Reject(one, A, "queue_full", "", retry_after=7.0)) == 7.0
        assert foresight.retry_after(Reject(one, A, "draining", "")) is None
        assert foresight.retry_after(Reject(one, A, "queue_full", "")) is not None


@virtual
async def test_a_look_is_good_for_a_moment() -> None:
    house = House(config(A))
    asked = []
    async with opened(house):
        forecasts = house.scheduler.forecasts
        house.scheduler.forecasts = lambda now: asked.append(now) or forecasts(now)  # type: ignore[method-assign,func-returns-value]
        for _ in range(3):
            house.dispatcher.forecasts()
        assert len(asked) == 1
        await asyncio.sleep(1.0)
        house.dispatcher.forecasts()
        assert len(asked) == 2


@virtual
async def test_who_is_sent_away_for_a_lease_is_told_when_to_come_back() -> None:
    house = House()
    async with opened(house):
        with house.asking(A, urgent=True, hold=Hold(20.0)) as lease:
            await lease.granted()
            for more in ({"on_lease": OnLease.REJECT}, {"wake": Wake.IF_IDLE}):
                with house.asking(B, **more) as admission, pytest.raises(LauncherError) as caught:
                    await admission.granted()
                assert caught.value.retry_after == pytest.approx(20.0, abs=0.1)
            lease.renew(math.inf)
            with house.asking(B, on_lease=OnLease.REJECT) as admission:
                with pytest.raises(LauncherError) as caught:
                    await admission.granted()
            assert (caught.value.code, caught.value.retry_after) == ("leased", SOMEBODY)
