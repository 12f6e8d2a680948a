"""The state file (SQLite): one writer on a thread of its own, so that no disk blocks the loop.

No request needs it. A file that is missing, corrupt, too new or not writable is logged as an
error, and the launcher runs on with what it knows itself.

A write is in the file (and synced: `synchronous = FULL` on a write-ahead log, one sync for a
batch) once `durable` has returned True; whoever tells a client of something that must outlive a
SIGKILL waits for that first. Other writes follow within `WRITE_DELAY`, in batches.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher.state.migrations import NewerFileError, migrate

log = logging.getLogger(__name__)

K = TypeVar("K", str, int)
R = TypeVar("R")

#: Seconds by which a write that nobody waits for may be delayed.
WRITE_DELAY = 0.25

#: Seconds that `durable` and `close` wait for a write.
WAIT_TIMEOUT = 5.0

#: Seconds that a write waits for another program that holds the file.
LOCK_TIMEOUT = 3.0

#: Most rows that wait for a file that can't be written; beyond that the oldest are dropped.
MAX_PENDING = 10_000

#: Primary codes of errors that say that the file is damaged.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_NOT_KEPT = "leases, drains, decisions and measured times will not outlive this run"

#: Where a container keeps its state, if it may.
CONTAINER_DIR = Path("/var/lib/launcher")

#: The value of one column in one row.
Cell = str | int | float | None

_Pending = dict[tuple[str, str | int], tuple[str, tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class StateTable(Generic[K, R]):
    """A table of the state file: its first column is the key, the others hold a record."""

    name: str
    columns: tuple[str, ...]
    cells_of: Callable[[R], tuple[Cell, ...]]
    """The cells after the key."""
    record_of: Callable[..., R]
    """Called with the key and the cells after it. Raises ValueError, TypeError or KeyError for what
    it can't make sense of."""

    @property
    def select(self) -> str:
        """SQL that reads all of it, in the order of the keys."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY {self.columns[0]}"

    @property
    def insert(self) -> str:
        """SQL that writes a row in place of an older one."""
        holders = ", ".join("?" for _ in self.columns)
        return f"INSERT OR REPLACE INTO {self.name} ({', '.join(self.columns)}) VALUES ({holders})"

    @property
    def delete(self) -> str:
        """SQL that deletes a key."""
        return f"DELETE FROM {self.name} WHERE {self.columns[0]} = ?"

    def records(self, rows: Iterable[tuple[K, *tuple[Cell, ...]]]) -> dict[K, R]:
        """Return the records of these rows; those that can't be read are left out and logged."""
        found: dict[K, R] = {}
        for key, *cells in rows:
            try:
                found[key] = self.record_of(key, *cells)
            except (ValueError, TypeError, KeyError) as error:
                log.error("the state file's %s has a bad row %r: %s", self.name, key, error)
        return found


def path_for(state_file: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to use: as configured, None for "", else `launcher.db` in the user's state
    directory (in a container in /var/lib/launcher, where that is writable)."""
    if state_file is not None:
        return Path(state_file).expanduser() if state_file else None
    contained = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    if contained and os.access(CONTAINER_DIR, os.W_OK):
        return CONTAINER_DIR / "launcher.db"
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # the XDG specification: a relative path is to be ignored
        try:
            home = str(Path.home() / ".local" / "state")
        except RuntimeError:
            return None
    return Path(home) / "launcher" / "launcher.db"


class StateStore:
    """The state file, open for reading and writing. Use `await StateStore.open(path, tables)`.

    `put` and `drop` return at once; of several values for one key only the newest is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._loaded: dict[str, dict[Any, Any]] = {}
        self._pending: _Pending = {}
        self._lock = threading.Lock()
        self._flush_now = threading.Event()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._due = False
        self._failing = False
        self._lost = path is None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<StateStore {self._path} {'kept' if self.kept else 'in memory only'}>"

    @classmethod
    async def open(cls, path: Path | None, tables: Sequence[StateTable[Any, Any]]) -> StateStore:
        """Open (or make) the file and read these tables; None keeps nothing. Never fails."""
        store = cls(path)
        if path is not None:
            store._thread = threading.Thread(target=store._run, name="state", daemon=True)
            store._thread.start()
            await store._call(lambda: store._open(path, tables))
        return store

    @property
    def kept(self) -> bool:
        """Whether what is put now outlives this run, as far as is known."""
        return self._db is not None and not self._failing

    @property
    def lost(self) -> bool:
        """Whether records of earlier runs may be unreadable: the file is too new, was set aside, or
        there is none."""
        return self._lost

    def loaded(self, table: StateTable[K, R]) -> dict[K, R]:
        """Return the records of earlier runs, in the order of the keys."""
        return dict(self._loaded.get(table.name, {}))

    def put(self, table: StateTable[K, R], key: K, record: R) -> None:
        """Save a record under a key."""
        self._save(table.name, key, table.insert, (key, *table.cells_of(record)))

    def drop(self, table: StateTable[K, R], key: K) -> None:
        """Delete a record."""
        self._save(table.name, key, table.delete, (key,))

    async def durable(self) -> bool:
        """Wait until what was put before is on the disk. False where it can't be written, which has
        been logged: the caller goes on."""
        if self._thread is None:
            return False
        self._flush_now.set()
        try:
            await asyncio.wait_for(self._call(self._flush), WAIT_TIMEOUT)
        except TimeoutError:
            log.error("the state file %s hangs; what happens now may not outlive it", self._path)
            return False
        return self.kept

    async def close(self) -> None:
        """Write what is pending and close the file; gives up on a hanging disk after a few
        seconds."""
        if self._thread is None:
            return
        self._flush_now.set()
        try:
            await asyncio.wait_for(self._call(self._close), WAIT_TIMEOUT)
        except TimeoutError:
            log.warning("the state file %s hangs; what happened last is lost", self._path)
            return
        self._jobs.put(None)
        self._thread = None

    # -- on the loop's thread -------------------------------------------------------------

    def _save(self, table: str, key: str | int, statement: str, cells: tuple[Any, ...]) -> None:
        if self._thread is None:
            return
        with self._lock:
            self._pending[table, key] = (statement, cells)
            due, self._due = self._due, True
        if not due:
            self._jobs.put(self._flush_soon)

    async def _call(self, job: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def run() -> None:
            job()
            # The loop may be gone: somebody gave up on this job and the launcher ended.
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self._jobs.put(run)
        await done.wait()

    # -- on the state thread --------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _open(self, path: Path, tables: Sequence[StateTable[Any, Any]]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._connect(path, tables)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                    raise
                self._set_aside(path, error)
                self._db = self._connect(path, tables)
        except NewerFileError as error:
            self._lost = True
            log.error(
                "the state file %s is left alone: %s; %s",
                path,
                error,
                _NOT_KEPT,
            )
        except (OSError, sqlite3.Error) as error:
            self._lost = True
            log.error(
                "the state file %s can't be used (%s): %s; make it writable, or choose another "
                "with `state_file`",
                path,
                error,
                _NOT_KEPT,
            )

    def _connect(self, path: Path, tables: Sequence[StateTable[Any, Any]]) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            with closing(db.execute("PRAGMA quick_check")) as cursor:
                (verdict,) = cursor.fetchone()
            if verdict != "ok":
                error = sqlite3.DatabaseError(verdict)
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            migrate(db)
            self._loaded = {one.name: one.records(db.execute(one.select)) for one in tables}
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._lost = True
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the old file and would spoil a new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.error(
            "the state file %s is corrupt (%s): it was set aside as %s and a new one begun; leases "
            "and drains in it are lost, measured times start afresh",
            path,
            error,
            aside.name,
        )

    def _flush_soon(self) -> None:
        """Let some more gather, unless somebody waits."""
        self._flush_now.wait(WRITE_DELAY)
        self._flush()

    def _flush(self) -> None:
        self._flush_now.clear()
        with self._lock:
            rows, self._pending, self._due = self._pending, {}, False
        if self._db is None or not rows:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for statement, cells in rows.values():
                self._db.execute(statement, cells)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            if not self._failing:
                log.error("the state file %s can't be written: %s", self._path, error)
            self._failing = True
            self._keep_for_later(rows)
        else:
            if self._failing:
                log.warning("the state file %s is written again", self._path)
            self._failing = False

    def _keep_for_later(self, rows: _Pending) -> None:
        """They go with the next batch; what came since is newer."""
        with self._lock:
            rest = rows | self._pending
            self._pending = dict(list(rest.items())[-MAX_PENDING:])

    def _close(self) -> None:
        self._flush()
        if self._db is not None:
            self._db.close()
            self._db = None
