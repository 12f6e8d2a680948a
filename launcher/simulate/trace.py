"""A trace as people have it: a CSV file with a header and the columns `time`, `model`,
`service` (seconds) and, if there are classes, `class`. Other columns are ignored."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from launcher.core.types import Priority
from launcher.simulate.workload import Requests

#: As many as the columns of a workload can tell apart.
MOST_MODELS = 65_535

#: Column names, lower-case, by what they hold.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "time": ("time", "timestamp", "at"),
    "model": ("model", "route"),
    "service": ("service", "service_seconds", "seconds", "duration"),
    "class": ("class", "priority"),
}
_CLASSES = {priority.name.lower(): priority for priority in Priority}


class TraceError(ValueError):
    """A trace can't be read; says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests, and the names of the models that they name by number."""

    names: tuple[str, ...]
    requests: Requests


def read_trace(path: Path, class_of: Callable[[str], Priority] | None = None) -> Trace:
    """Read a file; `class_of` says what the requests of a model are that name no class.

    Times are seconds or ISO 8601, and count from the first request. Raises TraceError with
    the line and the column, OSError where there is no such file.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return _read(file, class_of or (lambda _: Priority.NORMAL))
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise TraceError(f"{path}: it isn't a CSV file in UTF-8: {error}") from None


def _read(file: TextIO, class_of: Callable[[str], Priority]) -> Trace:
    rows = csv.reader(file)
    header = next(rows, None)
    if header is None:
        raise TraceError("it is empty; expected a header such as time,model,service")
    at, model, service, priority = _places(header)
    width = max(at, model, service) + 1
    numbers: dict[str, int] = {}
    requests = Requests()
    first, dates = None, False
    ordered, last = True, -math.inf
    for row in rows:
        if not row:
            continue
        line = rows.line_num
        if len(row) < width:
            raise TraceError(f"line {line}: {len(row)} columns, the header has {len(header)}")
        time, dated = _time(row[at], line, header[at])
        if first is None:
            first, dates = time, dated
        elif dated is not dates:
            kinds = ("seconds", "dates")
            raise TraceError(
                f"line {line}, column {header[at]}: {kinds[dated]}, where line 2 has {kinds[dates]}"
            )
        name = row[model].strip()
        if not name:
            raise TraceError(f"line {line}, column {header[model]}: expected a model's name")
        cell = row[priority].strip().lower() if 0 <= priority < len(row) else ""
        if cell and cell not in _CLASSES:
            raise TraceError(
                f"line {line}, column {header[priority]}: expected one of "
                f"{', '.join(_CLASSES)}, not {cell!r}"
            )
        if len(numbers) >= MOST_MODELS and name not in numbers:
            raise TraceError(f"line {line}: more than {MOST_MODELS:,} models")
        requests.add(
            time - first,
            numbers.setdefault(name, len(numbers)),
            _service(row[service], line, header[service]),
            _CLASSES[cell] if cell else class_of(name),
        )
        ordered, last = ordered and time >= last, time
    if not len(requests):
        raise TraceError("it has a header and no requests")
    if not ordered:
        requests = requests.in_order()
        begin = requests.at[0]
        requests = Requests((t - begin, m, s, p) for t, m, s, p in requests)
    return Trace(tuple(numbers), requests)


def _places(header: Sequence[str]) -> tuple[int, int, int, int]:
    """Where the columns stand; -1 for a `class` that isn't there."""
    names = [cell.strip().lower() for cell in header]
    places = []
    for column, words in _COLUMNS.items():
        found = [names.index(word) for word in words if word in names]
        if not found and column != "class":
            raise TraceError(
                f"line 1: no column {column!r} ({', '.join(words)}) among {', '.join(header)}"
            )
        places.append(found[0] if found else -1)
    return places[0], places[1], places[2], places[3]


def _time(cell: str, line: int, column: str) -> tuple[float, bool]:
    """In seconds, and whether it was a date."""
    try:
        seconds = float(cell)
    except ValueError:
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise TraceError(
                f"line {line}, column {column}: expected seconds or an ISO 8601 time, not {cell!r}"
            ) from None
        # Without a zone it is taken as UTC: only differences matter.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), True
    if not math.isfinite(seconds):
        raise TraceError(f"line {line}, column {column}: expected a finite time, not {cell!r}")
    return seconds, False


def _service(cell: str, line: int, column: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise TraceError(f"line {line}, column {column}: expected seconds >= 0, not {cell!r}")
    return seconds
