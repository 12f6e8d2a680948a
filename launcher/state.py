"""What outlives a restart: measured times and start counters, in SQLite on a thread of its own.

Nothing here is needed to serve a request. A file that is missing, corrupt, too new or not
writable is said out loud once, and the launcher runs on with what it measures itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from launcher.core.types import BackendId, Estimates, Snapshot
from launcher.facts import Fact, StartEnded, StopEnded

log = logging.getLogger(__name__)

#: Where a container keeps its state, if it may.
CONTAINER_DIR = Path("/var/lib/launcher")

#: Seconds that the end of the process waits for the last write.
CLOSE_TIMEOUT = 5.0

#: Seconds that a write waits for another program that holds the file.
LOCK_TIMEOUT = 3.0

#: Numbered by their place; `PRAGMA user_version` says how many a file has had. Append only.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE estimates (
        backend TEXT PRIMARY KEY, start REAL, stop REAL, service REAL
    ) WITHOUT ROWID;
    CREATE TABLE starts (
        backend TEXT PRIMARY KEY, count INTEGER NOT NULL, total REAL NOT NULL,
        last_duration REAL, last_started_at REAL
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Starts:
    """How often a backend was started, and how long that took. Times in seconds."""

    count: int = 0
    total: float = 0.0
    last_duration: float | None = None
    last_started_at: float | None = None
    """Wall-clock time (seconds since 1970) at which the last start became ready."""

    @property
    def average(self) -> float | None:
        """Mean duration of all starts, None before the first."""
        return self.total / self.count if self.count else None

    def plus(self, duration: float, at: float) -> Starts:
        """One more start, which took `duration` and was ready at the wall-clock time `at`."""
        return Starts(self.count + 1, self.total + duration, duration, at)


def path_for(state_file: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file to use: as configured, none for "", else `launcher.db` in the place that the
    system has for it (in a container /var/lib/launcher, where that is writable)."""
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


_Row = Estimates | Starts
_Key = tuple[str, BackendId]


class StateStore:
    """What was kept, and what is to be kept. Use `await StateStore.open(path)`.

    `save_*` return at once; of several values for one backend only the newest is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._estimates: dict[BackendId, Estimates] = {}
        self._starts: dict[BackendId, Starts] = {}
        self._pending: dict[_Key, _Row] = {}
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failing = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<StateStore {self._path} {'kept' if self._db is not None else 'in memory only'}>"

    @classmethod
    async def open(cls, path: Path | None) -> StateStore:
        """Open (or make) the file and read it; None keeps nothing. Never fails."""
        store = cls(path)
        if path is not None:
            store._thread = threading.Thread(target=store._run, name="state", daemon=True)
            store._thread.start()
            await store._call(store._open)
        return store

    def load_estimates(self) -> dict[BackendId, Estimates]:
        """The times that earlier runs measured."""
        return dict(self._estimates)

    def load_starts(self) -> dict[BackendId, Starts]:
        """The starts that earlier runs counted."""
        return dict(self._starts)

    def save_estimates(self, backend: BackendId, estimates: Estimates) -> None:
        """Keep a backend's measured times; returns at once."""
        self._save(("estimates", backend), estimates)

    def save_starts(self, backend: BackendId, starts: Starts) -> None:
        """Keep a backend's start counters; returns at once."""
        self._save(("starts", backend), starts)

    async def close(self) -> None:
        """Write what is pending and close the file; gives up on a hanging disk after a few
        seconds."""
        if self._thread is None:
            return
        try:
            await asyncio.wait_for(self._call(self._close), CLOSE_TIMEOUT)
        except TimeoutError:
            log.warning("the state file %s hangs; the last measurements are lost", self._path)
            return
        self._jobs.put(None)
        self._thread = None

    # -- on the loop's thread -------------------------------------------------------------

    def _save(self, key: _Key, row: _Row) -> None:
        if self._thread is None:
            return
        with self._lock:
            first = not self._pending
            self._pending[key] = row
        if first:
            self._jobs.put(self._flush)

    async def _call(self, job: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def run() -> None:
            job()
            # The loop may be gone: close() gave up on this job and the launcher ended.
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self._jobs.put(run)
        await done.wait()

    # -- on the state thread --------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _open(self) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._connect(self._path)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                self._set_aside(self._path, error)
                self._db = self._connect(self._path)
        except (OSError, sqlite3.Error) as error:
            log.error(
                "the state file %s can't be used (%s): measured times will not outlive this run; "
                "make it writable, or choose another with `state_file`",
                self._path,
                error,
            )

    def _connect(self, path: Path) -> sqlite3.Connection | None:
        db = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            with closing(db.execute("PRAGMA quick_check")) as cursor:
                (verdict,) = cursor.fetchone()
            if verdict != "ok":
                error = sqlite3.DatabaseError(verdict)
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            if not self._migrate(db):
                db.close()
                return None
            self._load(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> bool:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            log.error(
                "the state file %s was written by a newer launcher (version %d, this one knows "
                "%d): it is left alone, and measured times will not outlive this run",
                self._path,
                version,
                len(MIGRATIONS),
            )
            return False
        for number in range(version, len(MIGRATIONS)):
            # One transaction each, its number included: a crash leaves all of it or nothing.
            db.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; "
                f"PRAGMA user_version = {number + 1}; COMMIT;"
            )
        return True

    def _load(self, db: sqlite3.Connection) -> None:
        for backend, *times in db.execute("SELECT backend, start, stop, service FROM estimates"):
            self._estimates[BackendId(backend)] = Estimates(*map(_sound, times))
        for backend, *counters in db.execute(
            "SELECT backend, count, total, last_duration, last_started_at FROM starts"
        ):
            self._starts[BackendId(backend)] = Starts(*counters)

    def _set_aside(self, path: Path, error: Exception) -> None:
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the old file and would spoil a new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.error(
            "the state file %s is corrupt (%s): it was set aside as %s and a new one begun; "
            "measured times start afresh",
            path,
            error,
            aside.name,
        )

    def _flush(self) -> None:
        with self._lock:
            rows, self._pending = self._pending, {}
        if self._db is None or not rows:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for (_, backend), row in rows.items():
                self._write(self._db, backend, row)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            if not self._failing:
                log.error("the state file %s can't be written: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False

    @staticmethod
    def _write(db: sqlite3.Connection, backend: BackendId, row: _Row) -> None:
        match row:
            case Estimates():
                db.execute(
                    "INSERT OR REPLACE INTO estimates VALUES (?, ?, ?, ?)",
                    (backend, row.start, row.stop, row.service),
                )
            case Starts():
                db.execute(
                    "INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?, ?)",
                    (backend, row.count, row.total, row.last_duration, row.last_started_at),
                )

    def _close(self) -> None:
        self._flush()
        if self._db is not None:
            self._db.close()
            self._db = None


class Keeper:
    """Saves the measured times after each start and stop, and all of them at the end.

    `fact` listens to `launcher.facts.Narrator`; `snapshot` is the dispatcher's.
    """

    def __init__(self, store: StateStore, snapshot: Callable[[], Snapshot]) -> None:
        self._store = store
        self._snapshot = snapshot

    def fact(self, fact: Fact) -> None:
        """Something happened to a backend."""
        if isinstance(fact, (StartEnded, StopEnded)):
            found = self._snapshot().backends.get(fact.backend)
            if found is not None:
                self._store.save_estimates(fact.backend, found.estimates)

    def save_all(self) -> None:
        """Save every backend's times: service times change without a start or a stop."""
        for backend, found in self._snapshot().backends.items():
            if found.estimates != Estimates():
                self._store.save_estimates(backend, found.estimates)


def _sound(time: object) -> float | None:
    """A time that can be reckoned with; None for whatever else stands in the file."""
    if isinstance(time, int | float) and math.isfinite(time) and time >= 0:
        return float(time)
    return None
