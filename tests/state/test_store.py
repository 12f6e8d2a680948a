"""What outlives a restart, and files that can't be used."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.state import migrations, store
from launcher.state.migrations import MIGRATIONS
from launcher.state.store import StateStore, StateTable, path_for

# ruff: noqa: ASYNC240 - nothing else runs on these loops while a file is prepared


ROOT = Path(__file__).resolve().parent.parent.parent

COUNTS: StateTable[str, int] = StateTable(
    "counters", ("name", "value"), lambda n: (n,), lambda _, n: int(n)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "launcher.db"


async def opened(path: Path | None) -> StateStore:
    return await StateStore.open(path, [COUNTS])


async def found_in(path: Path) -> dict[str, int]:
    """What a later run finds."""
    again = await opened(path)
    await again.close()
    return again.loaded(COUNTS)


async def test_a_restart_knows_what_was_kept(path: Path) -> None:
    first = await opened(path)
    assert (first.loaded(COUNTS), first.lost, first.kept) == ({}, False, True)
    first.put(COUNTS, "b", 2)
    first.put(COUNTS, "a", 1)
    first.put(COUNTS, "c", 3)
    first.drop(COUNTS, "c")
    await first.close()

    again = await opened(path)
    assert list(again.loaded(COUNTS).items()) == [("a", 1), ("b", 2)]
    again.drop(COUNTS, "a")
    await again.close()

    assert await found_in(path) == {"b": 2}


async def test_the_newest_value_wins(path: Path) -> None:
    kept = await opened(path)
    for number in range(500):
        kept.put(COUNTS, "a", number)
    await kept.close()
    assert await found_in(path) == {"a": 499}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from launcher.state import store
from launcher.state.store import StateStore
from tests.state.test_store import COUNTS

store.WRITE_DELAY = 3600.0

async def main():
    kept = await StateStore.open(Path(sys.argv[1]), [COUNTS])
    kept.put(COUNTS, "told", 1)
    assert await kept.durable()
    kept.put(COUNTS, "not told", 1)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_durable_writes_survive_a_kill(path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert await found_in(path) == {"told": 1}


async def test_writes_are_delayed_and_batched(path: Path) -> None:
    kept = await opened(path)
    kept.put(COUNTS, "a", 1)

    def written() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            found: bool = db.execute("SELECT count(*) FROM counters").fetchone() == (1,)
        db.close()
        return found

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(written):  # noqa: ASYNC110 - the file has no event
            await asyncio.sleep(0.01)
    await kept.close()


async def test_nothing_is_kept_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    kept = await opened(None)
    kept.put(COUNTS, "a", 1)
    assert not await kept.durable()
    await kept.close()

    assert (kept.loaded(COUNTS), kept.lost, kept.kept) == ({}, True, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "garbage", [b"this is no database " * 200, b"SQLite format 3\0" + b"\xff" * 8000]
)
async def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(garbage)

    kept = await opened(path)
    kept.put(COUNTS, "a", 1)
    await kept.close()

    (aside,) = path.parent.glob("launcher.db.corrupt-*")
    assert aside.read_bytes() == garbage
    assert kept.lost
    assert await found_in(path) == {"a": 1}
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert aside.name in line.getMessage()


async def test_damage_inside_a_file_is_detected(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await opened(path)
    for number in range(200):
        kept.put(COUNTS, f"backend-{number:04}" * 10, 1)
    await kept.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)

    assert await found_in(path) == {}
    assert "corrupt" in caplog.text
    assert list(path.parent.glob("launcher.db.corrupt-*"))


async def test_a_bad_row_is_left_out_and_logged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await opened(path)
    kept.put(COUNTS, "a", 1)
    kept.put(COUNTS, "b", 2)
    await kept.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE counters SET value = 'nonsense' WHERE name = 'a'")
    db.close()
    assert await found_in(path) == {"b": 2}
    assert "'a'" in caplog.text


async def test_a_directory_that_cannot_be_made_is_logged_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    kept = await opened(tmp_path / "file" / "launcher.db")
    kept.put(COUNTS, "a", 1)
    assert not await kept.durable()
    await kept.close()

    assert "in memory only" in repr(kept)
    assert kept.lost
    assert "can't be used" in caplog.text


async def test_a_path_that_is_no_file_is_logged_and_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)

    kept = await opened(path)
    kept.put(COUNTS, "a", 1)
    await kept.close()

    assert "can't be used" in caplog.text


async def test_a_file_of_a_newer_launcher_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await found_in(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()

    kept = await opened(path)
    kept.put(COUNTS, "a", 1)
    await kept.close()

    assert "newer launcher" in caplog.text
    assert path.read_bytes() == before


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await found_in(path)
    broken = "CREATE TABLE later (x); INSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, broken))

    await found_in(path)

    assert "can't be used" in caplog.text
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall() == []
    db.close()


async def test_what_could_not_be_written_is_written_when_the_file_is_free_again(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT", 0.05)
    kept = await opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    kept.put(COUNTS, "a", 1)
    kept.put(COUNTS, "b", 1)
    assert not await kept.durable()
    assert not kept.kept
    assert "can't be written" in caplog.text
    other.close()

    kept.put(COUNTS, "b", 2)
    assert await kept.durable()
    assert "is written again" in caplog.text
    await kept.close()
    assert await found_in(path) == {"a": 1, "b": 2}


async def test_a_file_that_stays_locked_costs_records_not_the_launcher(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr(store, "MAX_PENDING", 3)
    kept = await opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(10):
        kept.put(COUNTS, f"n{number}", number)
        await kept.durable()
    assert len(kept._pending) == 3
    await kept.close()
    other.close()
    assert caplog.text.count("can't be written") == 1


async def test_a_hanging_disk_is_given_up_after_a_timeout(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WAIT_TIMEOUT", 0.05)
    kept = await opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    kept.put(COUNTS, "a", 1)
    assert not await kept.durable()
    assert "hangs" in caplog.text
    other.close()
    monkeypatch.setattr(store, "WAIT_TIMEOUT", 30.0)
    await kept.close()
    assert await found_in(path) == {"a": 1}


def test_no_thread_is_left(path: Path) -> None:
    before = os.listdir("/proc/self/task")

    async def run() -> None:
        kept = await opened(path)
        await kept.close()

    asyncio.run(run())
    assert len(os.listdir("/proc/self/task")) <= len(before) + 1


TABLE: StateTable[str, tuple[int, int]] = StateTable(
    "pairs", ("name", "one", "two"), lambda pair: pair, lambda _, one, two: (int(one), int(two))
)


def test_the_statements() -> None:
    assert TABLE.select == "SELECT name, one, two FROM pairs ORDER BY name"
    assert TABLE.insert == "INSERT OR REPLACE INTO pairs (name, one, two) VALUES (?, ?, ?)"
    assert TABLE.delete == "DELETE FROM pairs WHERE name = ?"


def test_rows_of_no_sense_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert TABLE.records([("a", 1, 2), ("b", "x", 2), ("c", None, 2)]) == {"a": (1, 2)}
    assert [record.args[1] for record in caplog.records if record.args] == ["b", "c"]  # type: ignore[index]


def test_the_file_is_where_it_was_configured() -> None:
    assert path_for("/srv/state.db", {}) == Path("/srv/state.db")
    assert path_for("", {"XDG_STATE_HOME": "/x"}) is None


def test_the_file_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CONTAINER_DIR", Path("/nonexistent"))
    monkeypatch.setenv("HOME", "/home/u")

    assert path_for(None, {"XDG_STATE_HOME": "/x"}) == Path("/x/launcher/launcher.db")
    expected = Path("/home/u/.local/state/launcher/launcher.db")
    assert path_for(None, {"XDG_STATE_HOME": "relative"}) == expected
    assert path_for(None, {}) == expected
