"""The state file's tables, as numbered steps from nothing to what this launcher knows."""

from __future__ import annotations

import sqlite3

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
    """
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE drains (route TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE home (route TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE leases (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
    CREATE TABLE switches (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
    CREATE TABLE decisions (number INTEGER PRIMARY KEY, at REAL NOT NULL, times INTEGER NOT NULL,
        record TEXT NOT NULL);
    """,
)


class NewerFileError(Exception):
    """A newer launcher wrote the file: it is not to be touched."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"it was written by a newer launcher (version {version}, this one knows "
            f"{len(MIGRATIONS)})"
        )


def migrate(db: sqlite3.Connection) -> None:
    """Bring a file up to date. Raises NewerFileError, or sqlite3.Error with the file as it
    was before the step that failed."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerFileError(version)
    for number in range(version, len(MIGRATIONS)):
        # One transaction each, its number included: a crash leaves all of it or nothing.
        db.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
        )
