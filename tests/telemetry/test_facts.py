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
    Granted,
    Loading,
    Narrator,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)

A, B = BackendId("a"), BackendId("b")
ONE, TWO = TicketId(1), TicketId(2)
FAILURE = Failure("backend_start_failed", "exit code 1")


class Story:
    """A narrator and what it told."""

    def __init__(self) -> None:
        self.told: list[Fact] = []
        self.narrator = Narrator(self.told.append, of_grants=(self.told.append,))

    def tell(self, event: Event, *effects: Effect, at: float = 0.0) -> Sequence[Fact]:
        """The facts of one step."""
        before = len(self.told)
        self.narrator.observe(event, effects, at)
        return self.told[before:]


@pytest.fixture
def story() -> Story:
    return Story()


def arrived(ticket: TicketId, backend: BackendId = A) -> Arrived:
    return Arrived(Ticket(ticket, (backend,)))


def start(backend: BackendId, epoch: int) -> Start:
    return Start(backend, epoch, Placement(), 600.0)


def test_a_ticket_granted_at_once_waited_for_nothing(story: Story) -> None:
    assert story.tell(arrived(ONE), Admit(ONE, A, False), at=5.0) == [Granted(A, 0.0, False)]


def test_a_wait_is_measured_from_arrival_to_grant(story: Story) -> None:
    story.tell(arrived(ONE), start(A, 1), at=5.0)

    facts = story.tell(Started(A, 1, "i"), Admit(ONE, A, True), at=17.5)

    assert facts == [StartEnded(A, 1, False, False, "ready", 12.5), Granted(A, 12.5, True)]


def test_nothing_is_remembered_of_those_who_left(story: Story) -> None:
    story.tell(arrived(ONE))
    story.tell(arrived(TWO))
    story.tell(Abandoned(ONE))
    reject = Reject(TWO, A, "queue_timeout", "too long")

    assert story.tell(Tick(), reject) == [reject]
    assert repr(story.narrator) == "<Narrator waiting=0 starting=[] stopping=[]>"


def test_a_failed_start(story: Story) -> None:
    assert story.tell(arrived(ONE), start(A, 1)) == [StartBegan(A, 1, False, False)]

    facts = story.tell(StartFailed(A, 1, FAILURE), Stop(A, 2, StopReason.FAILED_START), at=3.0)

    assert facts == [
        StartEnded(A, 1, False, False, "failed", 3.0, FAILURE),
        StopBegan(A, StopReason.FAILED_START),
    ]


def test_an_outcome_that_came_too_late_is_no_fact(story: Story) -> None:
    story.tell(arrived(ONE), start(A, 3))

    assert story.tell(Started(A, 1, "old")) == []
    assert story.tell(Started(B, 1, "unheard of")) == []
    assert story.tell(Started(A, 3, "new")) == [StartEnded(A, 3, False, False, "ready", 0.0)]
    assert story.tell(Started(A, 3, "again")) == []


def test_a_start_that_is_stopped_was_cancelled(story: Story) -> None:
    story.tell(arrived(ONE), start(A, 1))

    facts = story.tell(StopRequested(A), Stop(A, 2, StopReason.OPERATOR), at=2.0)

    assert facts == [
        StopRequested(A),
        StartEnded(A, 1, False, False, "cancelled", 2.0),
        StopBegan(A, StopReason.OPERATOR),
    ]


def test_a_stop_that_is_repeated_is_one_stop(story: Story) -> None:
    assert story.tell(Tick(), Stop(A, 5, StopReason.IDLE), at=1.0) == [
        StopBegan(A, StopReason.IDLE)
    ]
    failed = StopFailed(A, 5, FAILURE)
    assert story.tell(failed, at=2.0) == [StopStuck(A, FAILURE)]
    assert story.tell(Tick(), Stop(A, 6, StopReason.IDLE), at=3.0) == []
    assert story.tell(Stopped(A, 5), at=4.0) == []
    assert story.tell(Stopped(A, 6), at=5.0) == [StopEnded(A, StopReason.IDLE, 4.0)]
    assert story.tell(Tick(), Stop(A, 9, StopReason.IDLE)) == [StopBegan(A, StopReason.IDLE)]


def test_a_stop_that_failed_may_be_seen_to_have_ended(story: Story) -> None:
    story.tell(Tick(), Stop(A, 5, StopReason.IDLE), at=1.0)
    story.tell(StopFailed(A, 5, FAILURE), at=2.0)
    assert story.tell(Observed(A, 5, True, "i"), at=3.0) == []
    assert story.tell(Observed(A, 5, False, None), at=4.0) == [StopEnded(A, StopReason.IDLE, 3.0)]
    assert story.tell(Observed(A, 5, False, None), at=5.0) == []


def test_a_start_after_an_eviction_is_a_swap_and_only_the_first(story: Story) -> None:
    story.tell(arrived(ONE, B), Stop(A, 2, StopReason.EVICTED))

    assert story.tell(Stopped(A, 2), start(B, 1))[-1] == StartBegan(B, 1, False, True)
    assert story.tell(Started(B, 1, "i")) == [StartEnded(B, 1, False, True, "ready", 0.0)]
    assert story.tell(arrived(TWO, A), start(A, 3)) == [StartBegan(A, 3, False, False)]


def test_what_was_idle_makes_no_swap(story: Story) -> None:
    story.tell(Tick(), Stop(A, 2, StopReason.IDLE))

    assert story.tell(Stopped(A, 2), start(B, 1))[-1] == StartBegan(B, 1, False, False)


def test_what_ran_already_is_adopted(story: Story) -> None:
    assert story.tell(Tick(), Adopt(A, 1, 60.0)) == [StartBegan(A, 1, True, False)]
    assert story.tell(Started(A, 1, "i"), at=1.0) == [StartEnded(A, 1, True, False, "ready", 1.0)]


def test_only_a_change_of_reach_is_news(story: Story) -> None:
    away, back = Reachable((A, B), False, FAILURE), Reachable((A, B), True)

    assert story.tell(back) == []
    assert story.tell(away) == [away]
    assert story.tell(away) == []
    assert story.tell(back) == [back]
    assert story.tell(back) == []


@pytest.mark.parametrize("event", [Hung(A, 1), StopRequested(A, True), Closed()])
def test_some_events_are_facts_themselves(story: Story, event: Event) -> None:
    assert story.tell(event) == [event]


@pytest.mark.parametrize(
    "effect",
    [
        PrewarmSkipped(A),
        Abort(A, "backend_stopped", "by force"),
        Decided(Action.UNDRAIN, A, "no longer wanted"),
    ],
)
def test_some_effects_are_facts_themselves(story: Story, effect: Effect) -> None:
    assert story.tell(Tick(), effect) == [effect]


def test_the_end_comes_once(story: Story) -> None:
    assert story.tell(Closed()) == [Closed()]
    assert story.tell(Closed()) == []


def test_the_rest_is_no_news(story: Story) -> None:
    assert story.tell(Released(ONE)) == []
    assert story.tell(Tick()) == []


def test_everybody_listens() -> None:
    first: list[Fact] = []
    second: list[Fact] = []

    Narrator(first.append, second.append).observe(Closed(), (), 0.0)

    assert first == second == [Closed()]


def test_grants_are_told_to_those_alone_who_ask_for_them() -> None:
    everything: list[Fact] = []
    grants: list[Fact] = []
    narrator = Narrator(everything.append, of_grants=(grants.append,))

    narrator.observe(Tick(), (Admit(TicketId(1), A, False), Abort(A, "hung", "")), 1.0)

    assert grants == [Granted(A, 0.0, False)]
    assert everything == [Abort(A, "hung", "")]


def test_what_runs_and_is_not_ready_yet_loads(story: Story) -> None:
    story.tell(Tick(), Start(A, 1, Placement(), 600.0))
    assert story.tell(Launched(A, 1)) == [Loading(A, 1)]
    assert story.tell(Launched(A, 0)) == [], "it came too late"
    assert story.tell(Launched(B, 1)) == []
