"""The options of `launcher simulate` → a workload."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from launcher.config import values
from launcher.core.types import Needs, Priority
from launcher.simulate.workload import (
    Loop,
    Model,
    Requests,
    Trace,
    TraceError,
    Workload,
    agents,
    fixed,
    open_traffic,
    read_trace,
    zipf,
)

Value = TypeVar("Value")
_CLASSES = {priority.name.lower(): priority for priority in Priority}


class OptionError(ValueError):
    """An option's value is wrong; `option` is its name."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, slots=True)
class Options:
    """The options as written. Items of tuples are `VALUE` or `NAME:VALUE`."""

    trace: Path | None = None
    capacity: str = "gpu=1"
    horizon: str | None = None
    seed: int = 0
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    max_in_flight: tuple[str, ...] = ()
    max_wait: tuple[str, ...] = ()
    priority: tuple[str, ...] = ()
    models: int = 4
    rate: float = 0.1
    burst: float = 3.0
    service: str = "5s"
    agents: int = 0
    duration: str = "1h"


@dataclass(frozen=True, slots=True)
class PerModel(Generic[Value]):
    """An option's value for all models, and for single ones."""

    option: str
    everyone: Value
    single: Mapping[str, Value] = field(default_factory=dict)

    def of(self, model: str) -> Value:
        """Return the value for one model."""
        return self.single.get(model, self.everyone)

    def check(self, models: Sequence[str]) -> None:
        """Raise OptionError for a model that doesn't exist."""
        for name in self.single:
            if name not in models:
                raise OptionError(
                    self.option, f"there is no model {name!r}; there are {', '.join(models)}"
                )


def per_model(
    option: str, words: Sequence[str], read: Callable[[str], Value], default: Value
) -> PerModel[Value]:
    """Read `VALUE` and `NAME:VALUE`; names may hold colons, values don't."""
    everyone, single = default, {}
    for word in words:
        name, _, text = word.rpartition(":")
        try:
            value = read(text.strip())
        except ValueError as error:
            raise OptionError(option, f"{word}: {error}") from None
        if name:
            single[name.strip()] = value
        else:
            everyone = value
    return PerModel(option, everyone, single)


def assemble(options: Options) -> Workload:
    """Return the workload. Raises OptionError."""
    capacity = _read("--capacity", options.capacity, units_of)
    starts = per_model("--start", options.start, values.seconds, 25.0)
    stops = per_model("--stop", options.stop, values.seconds, 2.0)
    needs = per_model("--needs", options.needs, units_of, capacity)
    at_a_time = per_model("--max-in-flight", options.max_in_flight, _count, 8)
    patience = per_model("--max-wait", options.max_wait, values.seconds, 60.0)
    classes = per_model("--priority", options.priority, _class, Priority.NORMAL)
    loops: tuple[Loop, ...] = ()
    if options.trace is not None:
        trace = _traced(options.trace, classes)
    else:
        trace = _made_up(options, classes)
        loops = _loops(options, trace.names, classes)
    for option in (starts, stops, needs, at_a_time, patience, classes):
        option.check(trace.names)
    for name in trace.names:
        _fits(name, needs.of(name), capacity)
    return Workload(
        tuple(
            Model(
                name,
                needs=needs.of(name),
                start=starts.of(name),
                stop=stops.of(name),
                max_in_flight=at_a_time.of(name) or None,
                max_wait=patience.of(name),
                priority=classes.of(name),
            )
            for name in trace.names
        ),
        trace.requests,
        loops,
        capacity=capacity,
        horizon=_horizon(options, bool(loops)),
        seed=options.seed,
    )


def duration_of(option: str, text: str) -> float:
    """Seconds. Raises OptionError."""
    return _read(option, text, values.seconds)


def units_of(text: str) -> Needs:
    """`gpu=1,vram=24GiB`. Raises ValueError."""
    table: dict[str, str] = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        if not equals:
            raise ValueError("expected NAME=N, as in gpu=1,vram=24GiB")
        table[name.strip()] = amount.strip()
    return values.needs(table)


def _traced(path: Path, classes: PerModel[Priority]) -> Trace:
    try:
        return read_trace(path, classes.of)
    except (TraceError, OSError) as error:
        raise OptionError("TRACE.csv", str(error)) from None


def _made_up(options: Options, classes: PerModel[Priority]) -> Trace:
    names = tuple(f"model-{number + 1}" for number in range(options.models))
    if not options.rate:
        return Trace(names, Requests())
    return Trace(
        names,
        open_traffic(
            zipf(options.models),
            rate=options.rate,
            variation=options.burst,
            service=fixed(duration_of("--service", options.service)),
            until=duration_of("--duration", options.duration),
            seed=options.seed,
            priorities=[classes.of(name) for name in names],
        ),
    )


def _loops(options: Options, names: Sequence[str], classes: PerModel[Priority]) -> tuple[Loop, ...]:
    asked = [number % len(names) for number in range(options.agents)]
    return agents(asked, priorities=[classes.of(names[number]) for number in asked])


def _horizon(options: Options, loops: bool) -> float:
    if options.horizon is not None:
        return duration_of("--horizon", options.horizon)
    return duration_of("--duration", options.duration) if loops else math.inf


def _fits(name: str, needs: Needs, capacity: Needs) -> None:
    there = dict(capacity)
    for resource, amount in needs:
        if amount > there.get(resource, 0):
            raise OptionError(
                "--needs",
                f"{name} needs {amount:,} {resource}, and there are {there.get(resource, 0):,}",
            )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("expected a whole number, 0 for no bound")
    return int(text)


def _class(text: str) -> Priority:
    if text not in _CLASSES:
        raise ValueError(f"expected one of {', '.join(_CLASSES)}")
    return _CLASSES[text]


def _read(option: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise OptionError(option, f"{text}: {error}") from None
