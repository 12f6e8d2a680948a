"""What outlives a restart, and files that can't be used."""

# ruff: noqa: ASYNC240 - nothing else runs on these loops while a file is prepared
from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import state
from launcher.core.types import BackendId, BackendState, Estimates, StopReason
from launcher.facts import Granted, StartEnded, StopEnded
from launcher.state import MIGRATIONS, Keeper, Starts, StateStore, path_for
from tests.api.world import CODER, FakeControl

A, B = BackendId("a"), BackendId("b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "launcher.db"


async def reopened(path: Path) -> StateStore:
    store = await StateStore.open(path)
    await store.close()
    return store


async def test_a_restart_knows_what_was_measured(path: Path) -> None:
    store = await StateStore.open(path)
    assert store.load_estimates() == {}
    store.save_estimates(A, Estimates(start=38.5, service=2.0))
    store.save_estimates(B, Estimates(stop=1.0))
    store.save_starts(A, Starts(2, 77.0, 38.5, 1_800_000_000.25))
    await store.close()

    again = await reopened(path)

    assert again.load_estimates() == {
        A: Estimates(start=38.5, service=2.0),
        B: Estimates(stop=1.0),
    }
    assert again.load_starts() == {A: Starts(2, 77.0, 38.5, 1_800_000_000.25)}


async def test_times_that_cannot_be_reckoned_with_are_forgotten(path: Path) -> None:
    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0, stop=2.0, service=3.0))
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE estimates SET start = -5, stop = 9e999, service = 'abc'")
    db.close()
    assert (await reopened(path)).load_estimates() == {A: Estimates()}


async def test_the_newest_value_wins(path: Path) -> None:
    store = await StateStore.open(path)
    for number in range(500):
        store.save_estimates(A, Estimates(start=float(number)))
    await store.close()

    assert (await reopened(path)).load_estimates() == {A: Estimates(start=499.0)}


async def test_what_was_saved_survives_a_crash_a_moment_later(path: Path) -> None:
    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0))

    def written() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            found: bool = db.execute("SELECT count(*) FROM estimates").fetchone() == (1,)
        db.close()
        return found

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(written):  # noqa: ASYNC110 - the file has no event
            await asyncio.sleep(0.01)
    await store.close()


async def test_nothing_is_kept_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    store = await StateStore.open(None)
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()

    assert store.load_estimates() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "garbage", [b"this is no database " * 200, b"SQLite format 3\0" + b"\xff" * 8000]
)
async def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(garbage)

    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()

    (aside,) = path.parent.glob("launcher.db.corrupt-*")
    assert aside.read_bytes() == garbage
    assert (await reopened(path)).load_estimates() == {A: Estimates(start=1.0)}
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert aside.name in line.getMessage()


async def test_damage_inside_a_file_is_found(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await StateStore.open(path)
    for number in range(200):
        store.save_estimates(BackendId(f"backend-{number:04}" * 10), Estimates(start=1.0))
    await store.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)

    again = await reopened(path)

    assert again.load_estimates() == {}
    assert "corrupt" in caplog.text
    assert list(path.parent.glob("launcher.db.corrupt-*"))


async def test_a_directory_that_cannot_be_made_is_said_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    store = await StateStore.open(tmp_path / "file" / "launcher.db")
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()

    assert "in memory only" in repr(store)
    assert "can't be used" in caplog.text


async def test_a_path_that_is_no_file_is_said_and_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)

    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()

    assert "can't be used" in caplog.text


async def test_a_file_of_a_newer_launcher_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await reopened(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()

    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()

    assert "newer launcher" in caplog.text
    assert path.read_bytes() == before


async def test_each_migration_is_made_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await StateStore.open(path)
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()
    monkeypatch.setattr(
        state, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x); INSERT INTO later VALUES (1);")
    )

    await reopened(path)
    again = await reopened(path)

    assert again.load_estimates() == {A: Estimates(start=1.0)}
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM later").fetchone() == (1,)
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    db.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await reopened(path)
    broken = "CREATE TABLE later (x); INSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr(state, "MIGRATIONS", (*MIGRATIONS, broken))

    await reopened(path)

    assert "can't be used" in caplog.text
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall() == []
    db.close()


async def test_a_file_locked_by_another_program_costs_measurements_not_the_launcher(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT", 0.05)
    store = await StateStore.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.save_estimates(A, Estimates(start=1.0))
    await store.close()
    other.close()

    assert "can't be written" in caplog.text


def test_the_file_is_where_it_was_configured() -> None:
    assert path_for("/srv/state.db", {}) == Path("/srv/state.db")
    assert path_for("", {"XDG_STATE_HOME": "/x"}) is None


def test_the_file_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CONTAINER_DIR", Path("/nonexistent"))
    monkeypatch.setenv("HOME", "/home/u")

    assert path_for(None, {"XDG_STATE_HOME": "/x"}) == Path("/x/launcher/launcher.db")
    expected = Path("/home/u/.local/state/launcher/launcher.db")
    assert path_for(None, {"XDG_STATE_HOME": "relative"}) == expected
    assert path_for(None, {}) == expected


def test_averages() -> None:
    assert Starts().average is None
    assert Starts().plus(10.0, 1.0).plus(20.0, 2.0).average == 15.0


async def test_the_keeper_saves_after_each_start_and_stop(path: Path) -> None:
    control, store = FakeControl(), await StateStore.open(path)
    keeper = Keeper(store, control.snapshot)

    control.put(CODER, BackendState.READY, estimates=Estimates(start=10.0))
    keeper.fact(Granted(CODER, 0.0, False))
    keeper.fact(StartEnded(CODER, 1, False, False, "ready", 10.0))
    keeper.fact(StopEnded(BackendId("gone"), StopReason.REMOVED, 1.0))
    await store.close()

    assert (await reopened(path)).load_estimates() == {CODER: Estimates(start=10.0)}


async def test_the_keeper_saves_all_that_was_measured_at_the_end(path: Path) -> None:
    control, store = FakeControl(), await StateStore.open(path)
    measured = replace(Estimates(), service=3.0)
    control.put(CODER, estimates=measured)

    Keeper(store, control.snapshot).save_all()
    await store.close()

    assert (await reopened(path)).load_estimates() == {CODER: measured}
