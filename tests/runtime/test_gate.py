"""One ticket, without a dispatcher: what its holder sees."""

from __future__ import annotations

import asyncio

import pytest

from launcher import tasks
from launcher.core.types import BackendId, Ticket, TicketId
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint
from launcher.runtime.admission import Grant, Place, Progress

A = BackendId("a")
GRANT = Grant(A, 1, Endpoint("h", 1), False, 0.0, 0.0)


class Keeper:
    def __init__(self) -> None:
        self.told: list[object] = []

    def left(self, place: Place) -> None:
        self.told.append("left")

    def silenced(self, place: Place, silent: bool) -> None:
        self.told.append(silent)

    def progress_of(self, place: Place) -> Progress:
        return Progress(A, "queued", 1.0, None)


def new() -> tuple[Place, Keeper]:
    keeper = Keeper()
    return Place(keeper, Ticket(TicketId(1), (A,)), 0.0), keeper


async def test_a_grant_wakes_all_who_wait() -> None:
    place, _ = new()
    waits = [tasks.spawn(place.granted(), name="wait") for _ in range(3)]
    await asyncio.sleep(0)
    await tasks.cancel(waits.pop())
    place.give(GRANT)
    assert await asyncio.gather(*waits) == [GRANT, GRANT]
    assert await place.granted() is GRANT
    assert repr(place) == "<Place 1 for a: granted>"


async def test_a_rejection_is_raised_to_all_who_wait_or_come() -> None:
    place, _ = new()
    wait = tasks.spawn(place.granted(), name="wait")
    await asyncio.sleep(0)
    assert repr(place) == "<Place 1 for a: waits>"
    place.refuse(LauncherError("queue_full", "full"), starting=2.0)
    assert place.starting == 2.0
    for awaitable in (wait, place.granted()):
        with pytest.raises(LauncherError, match="full"):
            await awaitable
    assert repr(place) == "<Place 1 for a: refused>"


async def test_silence_is_told_when_it_changes() -> None:
    place, keeper = new()
    place.silence(True)
    assert keeper.told == []
    place.give(GRANT)
    with place:
        for silent in (False, True, True, False):
            place.silence(silent)
    place.silence(True)
    assert keeper.told == [True, False, "left"]


async def test_its_keeper_is_told_once_that_it_left_whatever_happened() -> None:
    place, keeper = new()
    with pytest.raises(ValueError, match="inside"), place:
        raise ValueError("inside")
    assert keeper.told == ["left"]
    assert repr(place) == "<Place 1 for a: left>"
    with pytest.raises(RuntimeError):
        place.__exit__(None, None, None)
    assert keeper.told == ["left"]


async def test_one_that_left_is_not_told_to_abort() -> None:
    place, _ = new()
    cut: list[LauncherError] = []
    place.give(GRANT)
    with place:
        place.on_abort = cut.append
        assert place.on_abort is not None
    place.abort(LauncherError("backend_stopped", "x"))
    assert cut == []


async def test_one_cut_before_it_was_heard_is_told_when_it_asks() -> None:
    place, _ = new()
    wait = tasks.spawn(place.granted(), name="wait")
    await asyncio.sleep(0)
    place.give(GRANT)
    place.abort(LauncherError("backend_stopped", "cut"))
    with pytest.raises(LauncherError, match="cut"):
        await wait


async def test_progress_comes_from_its_keeper() -> None:
    place, _ = new()
    assert place.progress().phase == "queued"
