"""Events and effects as data: all of them, and none of it an operator's secret for others."""

from __future__ import annotations

import math
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest

from launcher.api import event_view
from launcher.api.event_view import Concerns, describe, plain
from launcher.core import effects, events, types
from launcher.core.effects import Action, Admit, Decided, Effect, Reject, Start, WakeAt
from launcher.core.events import Abandoned, Arrived, Event, Released, SpecsChanged, StartFailed
from launcher.core.types import (
    BackendId,
    BackendSpec,
    Failure,
    Placement,
    Priority,
    Ticket,
    TicketId,
)
from launcher.telemetry.journal import Entry

CHAT, CODER = BackendId("chat"), BackendId("coder")
KINDS = [*get_args(Event), *get_args(Effect)]


def floats(kind: type, seen: set[type]) -> set[str]:
    """The names of all its fields that hold floats, those of what it holds included."""
    found: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        for one in parts(hint):
            if one is float:
                found.add(name)
            elif isinstance(one, type) and hasattr(one, "__dataclass_fields__") and one not in seen:
                seen.add(one)
                found |= floats(one, seen)
    return found


def parts(hint: Any) -> list[Any]:
    if get_origin(hint) in (tuple, UnionType) or get_args(hint):
        return [one for arg in get_args(hint) for one in parts(arg)]
    return [hint]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_time_of_every_event_and_effect_is_known_for_what_it_is(kind: type) -> None:
    known = event_view.MOMENTS | event_view.DURATIONS | event_view.UNTOLD
    assert floats(kind, set()) <= known


@pytest.mark.parametrize("which", [0, -1], ids=["all of it", "what there must be"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_everything_can_be_written(kind: type, which: int) -> None:
    hints = get_type_hints(kind)
    made = kind(**{one.name: sample(hints[one.name], which) for one in fields(kind)})
    told = orjson.loads(orjson.dumps(plain(made, 0.0, details=True)))
    assert told["type"].replace("_", "") == kind.__name__.lower()


def sample(hint: Any, which: int) -> Any:
    """Something of that type; of several, the first or the last (None, where that is one)."""
    args = get_args(hint)
    if get_origin(hint) is tuple:
        return tuple(sample(one, which) for one in args if one is not Ellipsis)
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return sample(args[which], which)
    if hasattr(hint, "__supertype__"):
        return sample(hint.__supertype__, which)
    if hasattr(hint, "__dataclass_fields__"):
        inner = get_type_hints(hint)
        return hint(
            **{one.name: sample(inner[one.name], which) for one in fields(hint) if one.init}
        )
    if isinstance(hint, type) and issubclass(hint, types.Enum):
        return next(iter(hint))
    return {str: "x", int: 1, float: math.inf, bool: True, type(None): None}[hint]


def test_an_entry_in_whole() -> None:
    ticket = Ticket(TicketId(7), (CHAT,), deadline=200.0, priority=Priority.BATCH)
    start = Start(CHAT, 3, Placement((("gpu", 1),)), math.inf)
    entry = Entry(Arrived(ticket), [WakeAt(100.5), start], 100.0)

    told = describe(entry, 1_000_000_000.0 - 100.0, details=False)

    assert told["at"] == "2001-09-09T01:46:40.000Z"
    arrived = told["event"]
    assert isinstance(arrived, dict)
    assert arrived["type"] == "arrived"
    assert arrived["ticket"]["deadline"] == "2001-09-09T01:48:20.000Z"
    assert arrived["ticket"]["priority"] == "batch"
    assert arrived["ticket"]["max_wait_ms"] == 60_000
    assert told["effects"] == [
        {"type": "wake_at", "at": "2001-09-09T01:46:40.500Z"},
        {
            "type": "start",
            "backend": "chat",
            "epoch": 3,
            "placement": {"needs": {"gpu": 1}},
            "deadline": None,
        },
    ]


def test_a_decision_is_told_in_words_too() -> None:
    told = plain(Decided(Action.STOP, CODER, "evicted", wanted_by=CHAT), 0.0, details=False)
    assert told["text"] == "stops coder: chat waits for its place"


def test_details_are_for_operators() -> None:
    failed = StartFailed(CHAT, 1, Failure("backend_start_failed", "It exited.", "its last lines"))
    rejected = Reject(TicketId(1), CHAT, "backend_start_failed", "It exited.", 1.0, "last lines")
    for what in (failed, rejected):
        assert b"last lines" in orjson.dumps(plain(what, 0.0, details=True))
        assert b"last lines" not in orjson.dumps(plain(what, 0.0, details=False))


class TestConcerns:
    def entry(self, event: Event, *effects: Effect) -> Entry:
        return Entry(event, effects, 0.0)

    def test_a_tickets_end_concerns_whose_ticket_it_is(self) -> None:
        chat, coder = Concerns(CHAT), Concerns(CODER)
        one, other = TicketId(1), TicketId(2)
        told = [
            self.entry(Arrived(Ticket(one, (CHAT,))), Admit(one, CHAT, False)),
            self.entry(Arrived(Ticket(other, (CODER,)))),
            self.entry(Released(one)),
            self.entry(Abandoned(other)),
        ]
        assert [chat.learn(entry) for entry in told] == [True, False, True, False]
        assert [coder.learn(entry) for entry in told] == [False, True, False, True]

    def test_of_several_that_may_serve_it_only_the_one_that_does_hears_of_its_end(self) -> None:
        coder = Concerns(CODER)
        one = TicketId(1)
        arrived = self.entry(Arrived(Ticket(one, (CHAT, CODER))), Admit(one, CHAT, False))
        assert coder.learn(arrived)
        assert not coder.learn(self.entry(Released(one)))

    def test_what_is_done_for_it_and_at_its_cost_concerns_it(self) -> None:
        evicted = Decided(Action.STOP, CODER, "evicted", wanted_by=CHAT)
        for one in (CHAT, CODER):
            assert Concerns(one).learn(self.entry(events.Tick(), evicted))
        assert not Concerns(BackendId("tiny")).learn(self.entry(events.Tick(), evicted))

    def test_the_configuration_concerns_those_in_it(self) -> None:
        changed = self.entry(SpecsChanged(added=(BackendSpec(CHAT),), removed=(CODER,)))
        assert Concerns(CHAT).learn(changed)
        assert Concerns(CODER).learn(changed)
        assert not Concerns(BackendId("tiny")).learn(changed)


def test_the_unions_are_all_there_is() -> None:
    assert len(KINDS) > 20
    assert effects.Start in KINDS
