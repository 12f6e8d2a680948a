"""The facts that belong to a switch, as its steps."""

from __future__ import annotations

from launcher.control.records import Step
from launcher.control.story import Story
from launcher.core.effects import Action, Decided
from launcher.core.types import BackendId, Failure, StopReason
from launcher.telemetry.facts import (
    Fact,
    Loading,
    StartBegan,
    StartEnded,
    StopBegan,
    StopEnded,
    StopStuck,
)

A, B, C = BackendId("a"), BackendId("b"), BackendId("c")


class Time:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 1.0
        return self.at


def told(*facts: Fact, story: Story | None = None) -> list[tuple[str, bool | None]]:
    story = story or Story([B], Time())
    for fact in facts:
        story.fact(fact)
    return [(step.name, step.ok) for step in story.steps]


def stop(backend: BackendId, wanted_by: BackendId | None) -> tuple[Fact, Fact]:
    return (
        Decided(Action.STOP, backend, "evicted", wanted_by=wanted_by),
        StopBegan(backend, StopReason.EVICTED),
    )


FAILURE = Failure("backend_start_failed", "exit code 1")


def test_what_is_stopped_for_somebody_else_does_not_belong_here() -> None:
    story = Story([B], Time())
    assert told(*stop(A, C), *stop(C, B), StopEnded(A, StopReason.EVICTED, 1.0), story=story) == [
        ("stop c", None)
    ]
    assert story.stopped == {C}
    assert not story.fact(StartBegan(A, 1, False, False))


def test_a_drain_ends_with_the_stop_or_with_being_called_off() -> None:
    drain = Decided(Action.DRAIN, A, "overdue", wanted_by=B)
    assert told(drain, *stop(A, B)) == [("drain a", True), ("stop a", None)]
    assert told(drain, Decided(Action.UNDRAIN, A, "no longer wanted")) == [("drain a", False)]


def test_a_stop_that_sticks_says_so() -> None:
    story = Story([B], Time())
    told(*stop(A, B), StopStuck(A, Failure("backend_stop_failed", "It hangs.")), story=story)
    assert story.steps == (Step("stop a", 1.0, detail="It hangs. It is tried again."),)
    story.fact(StopEnded(A, StopReason.EVICTED, 9.0))
    assert story.steps[0].ok


def test_a_start_is_what_the_driver_does_and_then_the_waiting() -> None:
    began = StartBegan(B, 1, adopted=False, swap=True)
    ended = StartEnded(B, 1, False, True, "ready", 31.4)
    assert told(began, Loading(B, 1), ended) == [
        ("start b", True),
        ("wait until b is healthy", True),
    ]
    story = Story([B], Time())
    failed = StartEnded(B, 1, False, True, "failed", 3.0, FAILURE)
    assert told(began, failed, StopBegan(B, StopReason.FAILED_START), story=story) == [
        ("start b", False),
        ("stop b", None),
    ]
    assert [step.detail for step in story.steps] == [
        "exit code 1",
        "what may be left of the start that failed",
    ]


def test_the_way_back_has_words_of_its_own_and_goes_on_in_the_same_story() -> None:
    story = Story([B], Time(), [Step("stop a", 1.0, 2.0, True)])
    story.restore([A])
    began = StartBegan(A, 2, adopted=False, swap=False)
    assert told(began, StartEnded(A, 2, False, False, "cancelled", 1.0), story=story) == [
        ("stop a", True),
        ("restore a", False),
    ]
    assert story.steps[-1].detail == "cancelled"
