"""What is written down: records by number, of which each change is kept, and the last so many
that are over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from launcher.control.records import COUNTERS
from launcher.state.tables import Table

K = TypeVar("K", str, int)
V = TypeVar("V")


class Store(Protocol):
    """What is needed of `launcher.state.store.StateStore`."""

    @property
    def lost(self) -> bool:
        """Earlier runs may have kept what this one can't read."""
        ...

    @property
    def kept(self) -> bool:
        """Whether what is put now will outlive this run."""
        ...

    def loaded(self, table: Table[K, V]) -> dict[K, V]:
        """What earlier runs kept, in the order of the keys."""
        ...

    def put(self, table: Table[K, V], key: K, record: V) -> None:
        """Keep a record in the place of what had that key; returns at once."""
        ...

    def drop(self, table: Table[K, V], key: K) -> None:
        """Keep it no longer; returns at once."""
        ...

    async def durable(self) -> bool:
        """Wait until what was put before is on the disk. False where that isn't to be had."""
        ...


#: Records that are over and are kept.
MOST_OVER = 100


class Numbered(Protocol):
    """What the book needs of a record."""

    @property
    def id(self) -> int: ...
    @property
    def over(self) -> bool: ...


R = TypeVar("R", bound=Numbered)


class Book(Generic[R]):
    """Records by number. Numbers count up for ever: where an earlier file may have been lost,
    they go on from the clock's seconds, which are beyond any number that was given out."""

    def __init__(self, table: Table[int, R], store: Store, wall: Callable[[], float]) -> None:
        self._table = table
        self._store = store
        self._records = store.loaded(table)
        last = store.loaded(COUNTERS).get(table.name, 0)
        self._last = max(last, *self._records, int(wall()) if store.lost else 0, 0)

    def __repr__(self) -> str:
        return f"<Book {self._table.name} last={self._last}>"

    def next_id(self) -> int:
        """A number that was never given out."""
        self._last += 1
        self._store.put(COUNTERS, self._table.name, self._last)
        return self._last

    def was_issued(self, id: int) -> bool:
        """Whether a record has, or had, that number."""
        return 0 < id <= self._last

    def put(self, record: R) -> R:
        """Note a record, new or changed; it."""
        self._records[record.id] = record
        self._store.put(self._table, record.id, record)
        if record.over:
            for id in [one.id for one in self._records.values() if one.over][:-MOST_OVER]:
                del self._records[id]
                self._store.drop(self._table, id)
        return record

    def get(self, id: int) -> R | None:
        """A record, as long as it is kept."""
        return self._records.get(id)

    def all(self) -> list[R]:
        """The oldest first."""
        return [self._records[id] for id in sorted(self._records)]

    def open(self) -> list[R]:
        """Those that aren't over, the oldest first."""
        return [one for one in self.all() if not one.over]

    async def durable(self) -> None:
        """Wait until all changes are on the disk, as far as that is to be had."""
        await self._store.durable()
