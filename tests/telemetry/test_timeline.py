"""What is kept of the last hour."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from launcher.core.effects import Action, Admit, Decided, Reject, Start
from launcher.core.events import Arrived, Released, Started, StartFailed, Tick
from launcher.core.types import BackendState, Failure, Placement, Ticket, TicketId
from launcher.telemetry.timeline import (
    COARSE_INTERVAL,
    FINE_SAMPLES,
    MAX_CHANGES,
    RETENTION,
    Sample,
    Timeline,
    coarsened,
)
from tests.api.world import CHAT, CODER, TINY, FakeControl

WANTED = Decided(Action.START, CHAT, "wanted")
START = Start(CHAT, 1, Placement(), 1000.0)


class World:
    """A timeline whose clock and timers a test turns by hand."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.due: list[tuple[float, Callable[[], object]]] = []
        self.timeline = Timeline(
            self.control.snapshot, lambda delay, do: self.due.append((delay, do))
        )
        self.timeline.observe(Tick(), [], self.control.now)

    def at(self, now: float, **changes: object) -> None:
        self.control.now = now
        if changes:
            self.control.put(CHAT, since=now, **changes)

    def ring(self) -> None:
        """The timer that is set goes off."""
        ((_, do),) = self.due
        self.due.clear()
        do()

    def changes(self) -> list[tuple[float, str]]:
        return [(one.at, one.state.value) for one in self.timeline.backends[CHAT].changes]

    def samples(self) -> list[tuple[float, int, int]]:
        return [(one.at, one.in_flight, one.queued) for one in self.timeline.backends[CHAT].samples]


@pytest.fixture
def world() -> World:
    return World()


def test_every_backend_is_there_from_the_beginning(world: World) -> None:
    assert set(world.timeline.backends) == {CODER, CHAT, TINY}
    assert world.changes() == [(100.0, "stopped")]


def test_changes_of_state_are_noted_when_they_happen_however_short(world: World) -> None:
    world.at(110.0, state=BackendState.STARTING)
    world.timeline.observe(Arrived(Ticket(TicketId(1), (CHAT,))), [WANTED, START], 110.0)
    world.at(110.1, state=BackendState.READY)
    world.timeline.observe(Started(CHAT, 1, "x"), [], 110.1)

    assert world.changes() == [(100.0, "stopped"), (110.0, "starting"), (110.1, "ready")]
    assert [(one.at, one.what) for one in world.timeline.marks] == [(110.0, WANTED)]


def test_a_start_that_failed_is_marked_with_its_reason(world: World) -> None:
    failed = StartFailed(CHAT, 1, Failure("backend_start_failed", "It exited."))
    world.timeline.observe(failed, [], 120.0)

    assert [one.what for one in world.timeline.marks] == [failed]


def test_requests_alone_are_looked_at_once_a_second(world: World) -> None:
    world.ring()
    looked = []
    snapshot = world.control.snapshot
    world.timeline._snapshot = lambda: looked.append(1) or snapshot()  # type: ignore[func-returns-value]
    for number in range(50):
        ticket = Ticket(TicketId(number), (CHAT,))
        world.timeline.observe(Arrived(ticket), [Admit(ticket.id, CHAT, False)], 101.0)
        world.timeline.observe(Released(ticket.id), [], 101.0)
    rejected = Reject(TicketId(1), CHAT, "queue_full", "Too many.")
    refused = Decided(Action.REJECT, CHAT, "queue_full")
    world.timeline.observe(Arrived(Ticket(TicketId(1), (CHAT,))), [refused, rejected], 101.0)
    assert looked == []
    assert list(world.timeline.marks) == []

    world.at(102.0, in_flight=2, queued=7)
    world.ring()

    assert looked == [1]
    assert world.samples() == [(102.0, 2, 7)]
    assert world.due == []


def test_only_changes_are_kept_and_the_last_one_holds(world: World) -> None:
    world.at(102.0, in_flight=1)
    world.ring()
    for now in (103.0, 104.0):
        world.at(now)
        assert world.timeline.sample() == now
    world.at(105.0, in_flight=0)
    world.timeline.sample()

    assert world.samples() == [(102.0, 1, 0), (105.0, 0, 0)]


def test_what_is_older_than_an_hour_goes_but_for_what_stood_then(world: World) -> None:
    for now, state in (
        (200.0, BackendState.STARTING),
        (210.0, BackendState.READY),
        (220.0 + RETENTION, BackendState.STOPPED),
    ):
        world.at(now, state=state, in_flight=int(now))
        world.timeline.sample()

    assert world.changes() == [(210.0, "ready"), (220.0 + RETENTION, "stopped")]
    assert [at for at, *_ in world.samples()] == [210.0, 220.0 + RETENTION]


def test_a_backend_that_is_not_configured_any_more_is_gone(world: World) -> None:
    del world.control.backends[TINY]
    world.timeline.sample()

    assert set(world.timeline.backends) == {CODER, CHAT}


def test_memory_is_bounded(world: World) -> None:
    for number in range(2 * MAX_CHANGES):
        flips = (BackendState.READY, BackendState.DRAINING)
        world.at(300.0 + number / 100, state=flips[number % 2], in_flight=number)
        world.timeline.observe(Tick(), [WANTED], world.control.now)
        world.timeline.sample()

    assert len(world.timeline.marks) == len(world.changes()) == MAX_CHANGES
    assert len(world.samples()) <= 2 * RETENTION / COARSE_INTERVAL + FINE_SAMPLES


def test_an_hour_of_traffic_is_told_in_few_samples_that_keep_its_peaks(world: World) -> None:
    chance, told = random.Random(1), {}
    for second in range(5000):
        queued = told[1000 + second] = chance.choice(
            [0, 0, 0, 1, 2, 30 if second % 500 == 7 else 3]
        )
        world.at(1000.0 + second, queued=queued)
        world.timeline.sample()

    samples = world.samples()
    assert len(samples) <= 2 * RETENTION / COARSE_INTERVAL + FINE_SAMPLES
    times = [at for at, *_ in samples]
    assert times == sorted(times)
    assert times[1] > 6000 - 1 - RETENTION
    assert samples[-100:] == [sample for sample in samples if sample[0] >= samples[-100][0]]
    for at, _, queued in samples[-FINE_SAMPLES // 2 :]:
        assert told[int(at)] == queued, "the last minutes are as they were"
    peaks = [at for at, queued in told.items() if queued == 30 and at > times[0] + COARSE_INTERVAL]
    for peak in peaks:
        held = [queued for at, _, queued in samples if peak - COARSE_INTERVAL <= at <= peak]
        assert 30 in held


def test_what_holds_after_a_peak_is_what_held_at_its_end() -> None:
    taken = [Sample(30.0, 1, 0), Sample(33.0, 4, 2), Sample(36.0, 0, 0), Sample(61.0, 1, 1)]
    assert coarsened(taken) == [Sample(30.0, 4, 2), Sample(36.0, 0, 0), Sample(61.0, 1, 1)]
