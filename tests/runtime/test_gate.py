"""One ticket, without a dispatcher: what its holder sees."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from launcher.core.types import BackendId, Ticket, TicketId
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Grant, Progress, TicketAdmission

A = BackendId("a")
GRANT = Grant(A, 1, Endpoint("h", 1), False, 0.0, 0.0)


class Keeper:
    def __init__(self) -> None:
        self.told: list[object] = []

    def left(self, admission: TicketAdmission) -> None:
        self.told.append("left")

    def silenced(self, admission: TicketAdmission, silent: bool) -> None:
        self.told.append(silent)

    def progress_of(self, admission: TicketAdmission) -> Progress:
        return Progress(A, "queued", 1.0, None)


def new() -> tuple[TicketAdmission, Keeper]:
    keeper = Keeper()
    return TicketAdmission(keeper, Ticket(TicketId(1), (A,)), 0.0), keeper


async def test_a_grant_wakes_all_who_wait() -> None:
    admission, _ = new()
    waits = [tasks.spawn(admission.granted(), name="wait") for _ in range(3)]
    await asyncio.sleep(0)
    await tasks.cancel(waits.pop())
    admission.give(GRANT)
    assert await asyncio.gather(*waits) == [GRANT, GRANT]
    assert await admission.granted() is GRANT
    assert repr(admission) == "<TicketAdmission 1 for a: granted>"


async def test_a_rejection_is_raised_to_all_who_wait_or_come() -> None:
    admission, _ = new()
    wait = tasks.spawn(admission.granted(), name="wait")
    await asyncio.sleep(0)
    assert repr(admission) == "<TicketAdmission 1 for a: waits>"
    admission.refuse(LauncherError("queue_full", "full"), starting=2.0)
    assert admission.starting == 2.0
    for awaitable in (wait, admission.granted()):
        with pytest.raises(LauncherError, match="full"):
            await awaitable
    assert repr(admission) == "<TicketAdmission 1 for a: refused>"


async def test_silence_is_told_when_it_changes() -> None:
    admission, keeper = new()
    admission.silence(True)
    assert keeper.told == []
    admission.give(GRANT)
    with admission:
        for silent in (False, True, True, False):
            admission.silence(silent)
    admission.silence(True)
    assert keeper.told == [True, False, "left"]


async def test_its_keeper_is_told_once_that_it_left_whatever_happened() -> None:
    admission, keeper = new()
    with pytest.raises(ValueError, match="inside"), admission:
        raise ValueError("inside")
    assert keeper.told == ["left"]
    assert repr(admission) == "<TicketAdmission 1 for a: left>"
    with pytest.raises(RuntimeError):
        admission.__exit__(None, None, None)
    assert keeper.told == ["left"]


async def test_one_that_left_is_not_told_to_abort() -> None:
    admission, _ = new()
    cut: list[LauncherError] = []
    admission.give(GRANT)
    with admission:
        admission.on_abort = cut.append
        assert admission.on_abort is not None
    admission.abort(LauncherError("backend_stopped", "x"))
    assert cut == []


async def test_one_cut_before_it_was_heard_is_told_when_it_asks() -> None:
    admission, _ = new()
    wait = tasks.spawn(admission.granted(), name="wait")
    await asyncio.sleep(0)
    admission.give(GRANT)
    admission.abort(LauncherError("backend_stopped", "cut"))
    with pytest.raises(LauncherError, match="cut"):
        await wait


async def test_progress_comes_from_its_keeper() -> None:
    admission, _ = new()
    assert admission.progress().phase == "queued"
