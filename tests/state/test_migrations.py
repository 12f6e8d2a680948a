"""The state file's tables are made once, step by step."""

from __future__ import annotations

import sqlite3

import pytest

from launcher.state import migrations
from launcher.state.migrations import MIGRATIONS, NewerFileError, migrate


def tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_each_step_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    before = tables(db)
    db.execute("INSERT INTO counters VALUES ('lease', 7)")
    later = "CREATE TABLE later (x); INSERT INTO later VALUES (1);"
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, later))
    migrate(db)
    migrate(db)
    assert tables(db) - before == {"later"}
    assert db.execute("SELECT count(*) FROM later").fetchone() == (1,)
    assert db.execute("SELECT value FROM counters").fetchone() == (7,)
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    db.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_a_file_of_any_older_launcher_is_brought_up_to_date(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, old = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    migrate(fresh)
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "MIGRATIONS", MIGRATIONS[:version])
        migrate(old)
    migrate(old)
    assert tables(old) == tables(fresh)
    fresh.close()
    old.close()


def test_a_newer_file_is_not_touched() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(NewerFileError, match="newer launcher"):
        migrate(db)
    assert tables(db) == set()
    db.close()
