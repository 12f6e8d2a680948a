"""How a record stands in a table of the state file. Each keeper of something describes its own
table; the store knows nothing of what is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

#: What stands in a cell.
Cell = str | int | float | None

K = TypeVar("K", str, int)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Table(Generic[K, R]):
    """A table whose first column is the key; the rest is made from a record, and makes one."""

    name: str
    columns: tuple[str, ...]
    cells_of: Callable[[R], tuple[Cell, ...]]
    """The cells after the key."""
    record_of: Callable[..., R]
    """Called with the key and the cells after it. Raises ValueError, TypeError or KeyError for what
    it can't make sense of."""

    @property
    def select(self) -> str:
        """The statement that reads all of it, in the order of the keys."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY {self.columns[0]}"

    @property
    def insert(self) -> str:
        """The statement that writes a row, in the place of an older one."""
        holders = ", ".join("?" for _ in self.columns)
        return f"INSERT OR REPLACE INTO {self.name} ({', '.join(self.columns)}) VALUES ({holders})"

    @property
    def delete(self) -> str:
        """The statement that takes a key out."""
        return f"DELETE FROM {self.name} WHERE {self.columns[0]} = ?"

    def records(self, rows: Iterable[tuple[K, *tuple[Cell, ...]]]) -> dict[K, R]:
        """What rows say; those that make no sense are left out, and said."""
        found: dict[K, R] = {}
        for key, *cells in rows:
            try:
                found[key] = self.record_of(key, *cells)
            except (ValueError, TypeError, KeyError) as error:
                log.error("the state file's %s has a row %r of no sense: %s", self.name, key, error)
        return found
