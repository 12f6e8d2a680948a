"""What is simulated: models, open arrivals, and clients that wait for their answer before they
ask again; made up (from seeds: the same arguments give the same traffic) or read from a trace.

Times are in seconds on the simulation's clock. A trace is a CSV file with a header and the
columns `time`, `model`, `service` (seconds) and, if there are classes, `class`; other columns
are ignored.
"""

from __future__ import annotations

import csv
import math
from array import array
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import TextIO

from launcher.core.types import BackendId, BackendSpec, Needs, Placement, Priority

#: Draws one time in seconds.
Draw = Callable[[Random], float]
#: When it arrives, the number of its model, its service time, its class.
Request = tuple[float, int, float, int]

ONE_SLOT: Needs = (("gpu", 1),)
#: A simulated queue is as long as it gets: what a policy can't serve has to show as waits.
NO_QUEUE_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class Model:
    """A model server: what it occupies and how long it takes."""

    name: str
    needs: Needs = ONE_SLOT
    start: float = 25.0
    stop: float = 2.0
    jitter: float = 0.0
    """Starts and stops take up to this share more or less, evenly."""
    max_in_flight: int | None = 8
    max_wait: float = 60.0
    priority: Priority = Priority.NORMAL
    """The class of requests that name none."""
    idle_timeout: float = math.inf
    linger: float = math.inf

    def spec(self) -> BackendSpec:
        """Return its spec for the scheduler, whose guesses are the true times."""
        return BackendSpec(
            BackendId(self.name),
            (Placement(self.needs),),
            idle_timeout=self.idle_timeout,
            start_timeout=max(600.0, 4 * self.start),
            max_queue=NO_QUEUE_LIMIT,
            max_in_flight=self.max_in_flight,
            linger=self.linger,
            start_guess=self.start,
            stop_guess=self.stop,
        )


@dataclass(frozen=True, slots=True)
class Loop:
    """A client that asks, waits for the answer, thinks, and asks again: an agent."""

    model: int
    service: Draw
    think: Draw
    begin: float = 0.0
    priority: Priority = Priority.NORMAL


class Requests:
    """Open arrivals in the order of time, kept in columns: a million take 20 MB.

    Iterating gives `Request`s, as often as wanted.
    """

    __slots__ = ("at", "model", "priority", "service")

    def __init__(self, rows: Iterable[Request] = ()) -> None:
        self.at = array("d")
        self.model = array("H")
        self.service = array("d")
        self.priority = array("B")
        for row in rows:
            self.add(*row)

    def add(self, at: float, model: int, service: float, priority: int = Priority.NORMAL) -> None:
        """Append one; `in_order` puts them right afterwards."""
        self.at.append(at)
        self.model.append(model)
        self.service.append(service)
        self.priority.append(priority)

    def in_order(self) -> Requests:
        """The same ones sorted by time; those of one moment stay in their order."""
        times = self.at
        order = sorted(range(len(times)), key=times.__getitem__)
        return Requests((times[n], self.model[n], self.service[n], self.priority[n]) for n in order)

    def __iter__(self) -> Iterator[Request]:
        return zip(self.at, self.model, self.service, self.priority, strict=True)

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True)
class Workload:
    """All that is given; the policy is what is tried on it."""

    models: tuple[Model, ...]
    requests: Iterable[Request] = ()
    """In the order of time."""
    loops: tuple[Loop, ...] = ()
    capacity: Needs = ONE_SLOT
    horizon: float = math.inf
    """Everything ends here; without loops it may be infinite: the end is the last answer."""
    queue_timeout: float = math.inf
    """How long a request waits at most before it is rejected."""
    batch_max_wait: float = 1800.0
    """As in the configuration: what bounds the waits of the lower classes."""
    seed: int = 0
    """Of what the models and loops draw; it doesn't depend on the policy."""
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.loops and self.horizon == math.inf:
            raise ValueError("loops go on for ever: they need a horizon")
        object.__setattr__(self, "names", tuple(model.name for model in self.models))
        if len(set(self.names)) != len(self.names):
            raise ValueError("two models have the same name")


def fixed(seconds: float) -> Draw:
    """Always the same time."""
    return lambda _: seconds


def between(least: float, most: float) -> Draw:
    """Evenly spread."""
    return lambda random: random.uniform(least, most)


def exponential(mean: float) -> Draw:
    """Memoryless, with this mean."""
    return lambda random: random.expovariate(1 / mean)


def zipf(count: int, exponent: float = 1.0) -> tuple[float, ...]:
    """Shares of `count` models: the n-th most popular is asked n^-exponent as often as the
    first. They add up to 1."""
    raw = [n**-exponent for n in range(1, count + 1)]
    return tuple(share / sum(raw) for share in raw)


def draw_model(shares: Sequence[float], random: Random) -> int:
    """One model's number, by its share."""
    sums = list(accumulate(shares))
    return min(bisect(sums, random.random() * sums[-1]), len(sums) - 1)


def gamma_times(rate: float, variation: float, until: float, random: Random) -> Iterator[float]:
    """Arrival times with Gamma-distributed gaps, up to `until`.

    `variation` is the gaps' coefficient of variation: 1 is a Poisson process, above 1 requests
    come in bursts. The rate is the long run's, requests a second.
    """
    shape = variation**-2
    scale = 1 / (rate * shape)
    # The first gap is cut at random: watching begins somewhere in the middle of things.
    at = random.gammavariate(shape, scale) * random.random()
    while at < until:
        yield at
        at += random.gammavariate(shape, scale)


def open_traffic(
    shares: Sequence[float],
    *,
    rate: float,
    variation: float,
    service: Draw,
    until: float,
    seed: int,
    apart: bool = False,
    priorities: Sequence[Priority] = (),
) -> Requests:
    """Requests that come whether or not others are answered, `rate` a second in all.

    One bursty stream whose requests name models at random by their shares; or, with `apart`,
    a bursty stream for each model: a burst then asks for one model.
    """
    random = Random(f"{seed}/open")
    classes = priorities or [Priority.NORMAL] * len(shares)

    def drawn(at: float, model: int) -> Request:
        return at, model, service(random), classes[model]

    if not apart:
        return Requests(
            drawn(at, draw_model(shares, random))
            for at in gamma_times(rate, variation, until, random)
        )
    streams = [
        [(at, model) for at in gamma_times(rate * share, variation, until, random)]
        for model, share in enumerate(shares)
        if share > 0
    ]
    return Requests(drawn(at, model) for at, model in merge(*streams))


def trickle(model: int, *, every: float, service: Draw, until: float, seed: int) -> Requests:
    """A few requests for one model, Poisson, one in `every` seconds."""
    random = Random(f"{seed}/trickle/{model}")
    return Requests(
        (at, model, service(random), Priority.NORMAL)
        for at in gamma_times(1 / every, 1.0, until, random)
    )


def together(*parts: Requests) -> Requests:
    """Several streams as one, in the order of time."""
    return Requests(merge(*parts))


def agents(
    models: Sequence[int],
    *,
    service: Draw | None = None,
    think: Draw | None = None,
    priorities: Sequence[Priority] = (),
) -> tuple[Loop, ...]:
    """One agent for each model named: 4 s of service, 0.3 to 2 s of thinking."""
    classes = priorities or [Priority.NORMAL] * len(models)
    return tuple(
        Loop(model, service or fixed(4.0), think or between(0.3, 2.0), 0.1 * number, priority)
        for number, (model, priority) in enumerate(zip(models, classes, strict=True))
    )


def clients(count: int, model: int, *, service: Draw, think: Draw) -> tuple[Loop, ...]:
    """Closed-loop clients of one model, which ask again as soon as they have thought."""
    return tuple(Loop(model, service, think, begin=0.01 * number) for number in range(count))


#: As many as the columns of a workload can tell apart.
MAX_MODELS = 65_535

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
        if len(numbers) >= MAX_MODELS and name not in numbers:
            raise TraceError(f"line {line}: more than {MAX_MODELS:,} models")
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
