"""`/api/events`: what a follower gets, and what becomes of one that was away; events as data;
`/api/backends/{id}/logs`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest

from launcher.api import events as api
from launcher.api.events import Concerns, describe, plain
from launcher.core import effects, events, types
from launcher.core.effects import Action, Admit, Decided, Effect, Reject, Start, WakeAt
from launcher.core.events import (
    Abandoned,
    Arrived,
    Event,
    Hung,
    Released,
    SpecsChanged,
    StartFailed,
    Tick,
)
from launcher.core.types import (
    BackendId,
    BackendSpec,
    Failure,
    Placement,
    Priority,
    Ticket,
    TicketId,
)
from launcher.telemetry.journal import Entry, Journal
from tests import keyring
from tests.api.world import (
    CHAT,
    CODER,
    CONFIG,
    Asking,
    FakeOutputs,
    a_context,
    asking,
    chunk_of,
    head_of,
)

KINDS = [*get_args(Event), *get_args(Effect)]


# -- following


class Follower:
    """Reads a stream, one message at a time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self._rest = b""

    async def block(self) -> str:
        """The next message, whatever it is; empty at the end."""
        while b"\n\n" not in self._rest:
            if not (piece := await chunk_of(self.reader)):
                return ""
            self._rest += piece
        block, _, self._rest = self._rest.partition(b"\n\n")
        return block.decode()

    async def message(self) -> dict[str, Any]:
        """The next one that says something; empty at the end."""
        while block := await self.block():
            found: dict[str, Any] = {}
            for line in block.splitlines():
                name, _, value = line.partition(": ")
                found[name] = orjson.loads(value) if name == "data" else value
            if "data" in found:
                return found
        return {}


class Following:
    """A launcher whose events are followed."""

    def __init__(self, here: Asking, stack: AsyncExitStack) -> None:
        self.here = here
        self.journal = here.context.journal
        self._stack = stack

    async def follow(self, last: str = "", query: str = "") -> Follower:
        """A follower that was answered."""
        headers = {"last_event_id": last} if last else {}
        sent = self.here.sent("GET", f"/api/events{query}", **headers)
        reader, _ = await self._stack.enter_async_context(sent)
        status, told = await head_of(reader)
        assert (status, told["content-type"]) == (200, "text/event-stream")
        return Follower(reader)

    def happen(self, *names: str) -> None:
        """Something happens to these backends."""
        for name in names:
            self.journal.observe(Hung(BackendId(name), 1), [], 100.0)


@pytest.fixture(params=[None])
async def live(request: pytest.FixtureRequest) -> AsyncIterator[Following]:
    """With a journal that keeps so many, where a test says how many."""
    journal = Journal() if request.param is None else Journal(most=request.param)
    context = a_context(journal=journal, wall=lambda: 1e9)
    async with asking(context) as here, AsyncExitStack() as stack:
        yield Following(here, stack)


async def test_a_follower_is_told_where_it_is_and_then_what_happens(live: Following) -> None:
    live.happen(CHAT)
    one = await live.follow()
    assert await one.block() == "retry: 2000"
    assert await one.block() == f"id: {live.journal.run}-1"

    live.happen(CODER)

    message = await one.message()
    assert message["id"] == f"{live.journal.run}-2"
    assert message["data"]["at"] == "2001-09-09T01:46:40.000Z"
    assert message["data"]["event"] == {"type": "hung", "backend": "coder", "epoch": 1}


async def test_who_was_away_goes_on_where_it_was(live: Following) -> None:
    live.happen(*"abcde")
    one = await live.follow(f"{live.journal.run}-3")

    told = [await one.message() for _ in range(2)]

    assert [message["data"]["event"]["backend"] for message in told] == ["d", "e"]
    assert "event" not in told[0]


@pytest.mark.parametrize("live", [2], indirect=True)
@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("00000000-3", "restarted"),
        ("{run}-1", "gap"),
        ("{run}-99", "gap"),
        ("{run}-", "gap"),
        ("{run}-²", "gap"),
        ("{run}-99999999999999999999999", "gap"),
        ("nonsense", "restarted"),
    ],
)
async def test_who_cannot_go_on_is_told_to_begin_anew(
    live: Following, last: str, reason: str
) -> None:
    live.happen(*"abcde")
    one = await live.follow(last.format(run=live.journal.run))

    message = await one.message()
    assert (message["event"], message["data"]) == ("reset", {"reason": reason})
    assert message["id"] == f"{live.journal.run}-5"
    live.happen("f")
    assert (await one.message())["data"]["event"]["backend"] == "f"


async def test_one_backend_alone(live: Following) -> None:
    one = await live.follow(query="?backend=chat")
    live.happen(CODER, CHAT, CODER)
    live.journal.close()

    assert (await one.message())["data"]["event"]["backend"] == "chat"
    assert await one.message() == {}


async def test_a_backend_that_is_not_there_is_told_at_once(live: Following) -> None:
    answer = await live.here.get("/api/events?backend=codr")
    assert answer.code == "unknown_backend"
    assert "Known: coder, chat, tiny" in answer.json["error"]["message"]


async def test_details_are_for_admins_where_keys_are_set() -> None:
    keys = (*keyring.api("api"), *keyring.admin("root"))
    async with asking(a_context(config=replace(CONFIG, keys=keys))) as here:
        journal, told = here.context.journal, {}
        for key in ("api", "root"):
            async with here.sent("GET", "/api/events", x_api_key=key) as (reader, _):
                await head_of(reader)
                died = Failure("backend_start_failed", "It exited.", "its last lines")
                journal.observe(StartFailed(CHAT, 1, died), [], 100.0)
                told[key] = (await Follower(reader).message())["data"]["event"]["failure"]
    assert "detail" not in told["api"]
    assert told["root"]["detail"] == "its last lines"


async def test_many_at_once_come_all_and_in_order(live: Following) -> None:
    one = await live.follow()
    count = 5 * api.AT_ONCE + 7
    for number in range(count):
        live.journal.observe(Tick(), [], float(number))

    told = [await one.message() for _ in range(count)]

    ids = [f"{live.journal.run}-{number}" for number in range(1, count + 1)]
    assert [message["id"] for message in told] == ids


async def test_silence_is_broken_by_comments(
    live: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "HEARTBEAT", 0.01)
    one = await live.follow()
    assert [await one.block() for _ in range(3)][2] == ":"


@pytest.mark.parametrize("live", [5], indirect=True)
async def test_who_reads_too_slowly_to_keep_up_is_dropped(live: Following) -> None:
    one = await live.follow()
    await one.block()
    live.happen(*"abcdefg")

    assert await one.message() == {}


async def test_the_end_of_the_launcher_ends_it(live: Following) -> None:
    one = await live.follow()
    live.journal.close()

    assert await one.message() == {}


# -- as data


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
    known = api.MOMENTS | api.DURATIONS | api.COUNTED
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


# -- what backends print


@pytest.fixture
async def printed() -> AsyncIterator[Asking]:
    output = FakeOutputs()
    output.lines[CHAT] = ["one", "<script>alert(1)</script>", "thr\udcffee"]
    async with asking(a_context(output=output)) as here:
        yield here


async def test_the_last_lines_as_text(printed: Asking) -> None:
    answer = await printed.get("/api/backends/chat/logs?tail=2")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == b"<script>alert(1)</script>\nthr?ee\n"


async def test_followed_it_begins_with_the_last_lines(printed: Asking) -> None:
    async with printed.sent("GET", "/api/backends/chat/logs?tail=1&follow=1") as (reader, _):
        await head_of(reader)
        assert await chunk_of(reader) == b"thr?ee\n"


async def test_the_output_of_an_unknown_backend(printed: Asking) -> None:
    answer = await printed.get("/api/backends/codr/logs")
    assert answer.code == "unknown_backend"
    assert "Known: coder, chat, tiny" in answer.json["error"]["message"]
