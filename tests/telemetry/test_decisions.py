"""The decision log, and decisions as sentences."""

from __future__ import annotations

import pytest

from launcher.core.effects import Action, Decided
from launcher.core.events import Closed
from launcher.core.types import BackendId
from launcher.telemetry.decisions import MAX_DECISIONS, DecisionLog, sentence

A, B, C = BackendId("a"), BackendId("b"), BackendId("c")


def test_the_newest_come_first_and_only_so_many_are_kept() -> None:
    log = DecisionLog(wall=lambda: 5.0)
    log.fact(Closed())
    for _ in range(MAX_DECISIONS + 2):
        log.fact(Decided(Action.START, A, "wanted"))

    kept = list(log.newest())

    assert (len(kept), kept[0].number, kept[-1].number) == (MAX_DECISIONS, MAX_DECISIONS + 2, 3)
    assert (kept[0].at, kept[0].what.backend) == (5.0, A)


def test_of_one_backend_all_that_names_it() -> None:
    log = DecisionLog()
    log.fact(Decided(Action.STOP, A, "evicted", wanted_by=B))
    log.fact(Decided(Action.START, B, "wanted", pays=(A, C)))
    log.fact(Decided(Action.STOP, B, "idle"))

    assert [one.number for one in log.newest(A)] == [2, 1]
    assert [one.number for one in log.newest(B)] == [3, 2, 1]
    assert [one.number for one in log.newest(C)] == [2]


def test_a_refusal_again_and_again_is_one_that_counts() -> None:
    log = DecisionLog()
    for _ in range(3):
        log.fact(Decided(Action.REJECT, A, "not_resident"))
    log.fact(Decided(Action.REJECT, A, "queue_full"))
    for _ in range(2):
        log.fact(Decided(Action.REJECT, B, "queue_full"))

    assert [(one.what.backend, one.what.why, one.times) for one in log.newest()] == [
        (B, "queue_full", 2),
        (A, "queue_full", 1),
        (A, "not_resident", 3),
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            Decided(Action.STOP, A, "evicted", B, cost=41.2, waiting=3, waited=61.3),
            "stops a: b waits for its place (3 requests, the oldest for 61 s); "
            "expected to cost 41 s",
        ),
        (
            Decided(Action.DRAIN, A, "overdue", B, cost=90.0, waiting=1, waited=61.3),
            "drains a: b waits too long for its place (1 request, for 61 s); expected to cost 90 s",
        ),
        (Decided(Action.STOP, A, "idle", cost=0.0), "stops a: it was idle"),
        (
            Decided(Action.UNDRAIN, A, "no longer wanted"),
            "serves on with a: its place is no longer wanted",
        ),
        (
            Decided(Action.START, B, "wanted", pays=(A, C), cost=25.0, waiting=2, waited=7.26),
            "starts b: 2 requests waiting, the oldest for 7.3 s, in the place of a, c; "
            "expected to take 25 s",
        ),
        (
            Decided(Action.START, B, "wanted", cost=25.0, waiting=1, waited=0.0),
            "starts b: 1 request waiting; expected to take 25 s",
        ),
        (
            Decided(Action.START, B, "wanted", waiting=1, waited=6.4),
            "starts b: 1 request waiting for 6.4 s",
        ),
        (Decided(Action.START, B, "found running"), "starts b: it was found running"),
        (Decided(Action.REJECT, B, "queue_full", waiting=9), "rejects a request for b: queue_full"),
    ],
)
def test_sentences(what: Decided, said: str) -> None:
    assert sentence(what) == said
