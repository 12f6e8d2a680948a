"""Records and rows."""

from __future__ import annotations

import pytest

from launcher.state.tables import Table

TABLE: Table[str, tuple[int, int]] = Table(
    "pairs", ("name", "one", "two"), lambda pair: pair, lambda _, one, two: (int(one), int(two))
)


def test_the_statements() -> None:
    assert TABLE.select == "SELECT name, one, two FROM pairs ORDER BY name"
    assert TABLE.insert == "INSERT OR REPLACE INTO pairs (name, one, two) VALUES (?, ?, ?)"
    assert TABLE.delete == "DELETE FROM pairs WHERE name = ?"


def test_rows_of_no_sense_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert TABLE.records([("a", 1, 2), ("b", "x", 2), ("c", None, 2)]) == {"a": (1, 2)}
    assert [record.args[1] for record in caplog.records if record.args] == ["b", "c"]  # type: ignore[index]
