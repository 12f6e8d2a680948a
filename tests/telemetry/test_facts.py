"""The scheduler's events and effects, read as facts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from launcher.core.effects import (
    Abort,
    Action,
    Admit,
    Adopt,
    Decided,
    Effect,
    PrewarmSkipped,
    Reject,
    Start,
    Stop,
)
from launcher.core.events import (
    Abandoned,
    Arrived,
    Closed,
    Event,
    Hung,
    Launched,
    Observed,
    Reachable,
    Released,
    Started,
    StartFailed,
    StopFailed,
    Stopped,
    StopRequested,
    Tick,
)
from launcher.core.types import (
    BackendId,
    Failure,
    Placement,
    StopReason,
    Ticket,
    TicketId,
)
from launcher.telemetry.facts import (
    Fact,
    FactPublisher,
    Granted,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)

A, B = BackendId("a"), BackendId("b")
ONE, TWO = TicketId(1), TicketId(2)
FAILURE = Failure("backend_start_failed", "exit code 1")


class Published:
    """A publisher and what it published."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.publisher = FactPublisher(self.facts.append, of_grants=(self.facts.append,))

    def by(self, event: Event, *effects: Effect, at: float = 0.0) -> Sequence[Fact]:
        """The facts of one step."""
        before = len(self.facts)
        self.publisher.observe(event, effects, at)
        return self.facts[before:]


@pytest.fixture
def published() -> Published:
    return Published()


def arrived(ticket: TicketId, backend: BackendId = A) -> Arrived:
    return Arrived(Ticket(ticket, (backend,)))


def start(backend: BackendId, epoch: int) -> Start:
    return Start(backend, epoch, Placement(), 600.0)


def test_a_ticket_granted_at_once_waited_for_nothing(published: Published) -> None:
    assert published.by(arrived(ONE), Admit(ONE, A, False), at=5.0) == [Granted(A, 0.0, False)]


def test_a_wait_is_measured_from_arrival_to_grant(published: Published) -> None:
    published.by(arrived(ONE), start(A, 1), at=5.0)

    facts = published.by(Started(A, 1, "i"), Admit(ONE, A, True), at=17.5)

    assert facts == [StartEnded(A, 1, False, False, "ready", 12.5), Granted(A, 12.5, True)]


def test_nothing_is_remembered_of_those_who_left(published: Published) -> None:
    published.by(arrived(ONE))
    published.by(arrived(TWO))
    published.by(Abandoned(ONE))
    reject = Reject(TWO, A, "queue_timeout", "too long")

    assert published.by(Tick(), reject) == [reject]
    assert repr(published.publisher) == "<FactPublisher waiting=0 starting=[] stopping=[]>"


def test_a_failed_start(published: Published) -> None:
    assert published.by(arrived(ONE), start(A, 1)) == [StartBegan(A, 1, False, False)]

    facts = published.by(StartFailed(A, 1, FAILURE), Stop(A, 2, StopReason.FAILED_START), at=3.0)

    assert facts == [
        StartEnded(A, 1, False, False, "failed", 3.0, FAILURE),
        StopBegan(A, StopReason.FAILED_START),
    ]


def test_an_outcome_that_came_too_late_is_no_fact(published: Published) -> None:
    published.by(arrived(ONE), start(A, 3))

    assert published.by(Started(A, 1, "old")) == []
    assert published.by(Started(B, 1, "unheard of")) == []
    assert published.by(Started(A, 3, "new")) == [StartEnded(A, 3, False, False, "ready", 0.0)]
    assert published.by(Started(A, 3, "again")) == []


def test_a_start_that_is_stopped_was_cancelled(published: Published) -> None:
    published.by(arrived(ONE), start(A, 1))

    facts = published.by(StopRequested(A), Stop(A, 2, StopReason.OPERATOR), at=2.0)

    assert facts == [
        StopRequested(A),
        StartEnded(A, 1, False, False, "cancelled", 2.0),
        StopBegan(A, StopReason.OPERATOR),
    ]


def test_a_stop_that_is_repeated_is_one_stop(published: Published) -> None:
    assert published.by(Tick(), Stop(A, 5, StopReason.IDLE), at=1.0) == [
        StopBegan(A, StopReason.IDLE)
    ]
    failed = StopFailed(A, 5, FAILURE)
    assert published.by(failed, at=2.0) == [StopStuck(A, FAILURE)]
    assert published.by(Tick(), Stop(A, 6, StopReason.IDLE), at=3.0) == []
    assert published.by(Stopped(A, 5), at=4.0) == []
    assert published.by(Stopped(A, 6), at=5.0) == [StopEnded(A, StopReason.IDLE, 4.0)]
    assert published.by(Tick(), Stop(A, 9, StopReason.IDLE)) == [StopBegan(A, StopReason.IDLE)]


def test_a_stop_that_failed_may_be_seen_to_have_ended(published: Published) -> None:
    published.by(Tick(), Stop(A, 5, StopReason.IDLE), at=1.0)
    published.by(StopFailed(A, 5, FAILURE), at=2.0)
    assert published.by(Observed(A, 5, True, "i"), at=3.0) == []
    assert published.by(Observed(A, 5, False, None), at=4.0) == [StopEnded(A, StopReason.IDLE, 3.0)]
    assert published.by(Observed(A, 5, False, None), at=5.0) == []


def test_a_start_after_an_eviction_is_a_swap_and_only_the_first(published: Published) -> None:
    published.by(arrived(ONE, B), Stop(A, 2, StopReason.EVICTED))

    assert published.by(Stopped(A, 2), start(B, 1))[-1] == StartBegan(B, 1, False, True)
    assert published.by(Started(B, 1, "i")) == [StartEnded(B, 1, False, True, "ready", 0.0)]
    assert published.by(arrived(TWO, A), start(A, 3)) == [StartBegan(A, 3, False, False)]


def test_what_was_idle_makes_no_swap(published: Published) -> None:
    published.by(Tick(), Stop(A, 2, StopReason.IDLE))

    assert published.by(Stopped(A, 2), start(B, 1))[-1] == StartBegan(B, 1, False, False)


def test_what_ran_already_is_adopted(published: Published) -> None:
    assert published.by(Tick(), Adopt(A, 1, 60.0)) == [StartBegan(A, 1, True, False)]
    assert published.by(Started(A, 1, "i"), at=1.0) == [StartEnded(A, 1, True, False, "ready", 1.0)]


def test_only_a_change_of_reach_is_news(published: Published) -> None:
    away, back = Reachable((A, B), False, FAILURE), Reachable((A, B), True)

    assert published.by(back) == []
    assert published.by(away) == [away]
    assert published.by(away) == []
    assert published.by(back) == [back]
    assert published.by(back) == []


@pytest.mark.parametrize("event", [Hung(A, 1), StopRequested(A, True), Closed()])
def test_some_events_are_facts_themselves(published: Published, event: Event) -> None:
    assert published.by(event) == [event]


@pytest.mark.parametrize(
    "effect",
    [
        PrewarmSkipped(A),
        Abort(A, "backend_stopped", "by force"),
        Decided(Action.UNDRAIN, A, "no longer wanted"),
    ],
)
def test_some_effects_are_facts_themselves(published: Published, effect: Effect) -> None:
    assert published.by(Tick(), effect) == [effect]


def test_the_end_comes_once(published: Published) -> None:
    assert published.by(Closed()) == [Closed()]
    assert published.by(Closed()) == []


def test_the_rest_is_no_news(published: Published) -> None:
    assert published.by(Released(ONE)) == []
    assert published.by(Tick()) == []


def test_everybody_listens() -> None:
    first: list[Fact] = []
    second: list[Fact] = []

    FactPublisher(first.append, second.append).observe(Closed(), (), 0.0)

    assert first == second == [Closed()]


def test_grants_are_told_to_those_alone_who_ask_for_them() -> None:
    everything: list[Fact] = []
    grants: list[Fact] = []
    publisher = FactPublisher(everything.append, of_grants=(grants.append,))

    publisher.observe(Tick(), (Admit(TicketId(1), A, False), Abort(A, "hung", "")), 1.0)

    assert grants == [Granted(A, 0.0, False)]
    assert everything == [Abort(A, "hung", "")]


def test_what_runs_and_is_not_ready_yet_loads(published: Published) -> None:
    published.by(Tick(), Start(A, 1, Placement(), 600.0))
    assert published.by(Launched(A, 1)) == [Loading(A, 1)]
    assert published.by(Launched(A, 0)) == [], "it came too late"
    assert published.by(Launched(B, 1)) == []
