"""What a running launcher tells, as its commands use it. Durations in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a backend failed."""

    code: str
    message: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """A wait as the launcher predicts it, in seconds; `place` counts from 1."""

    place: int
    wait: float
    spread: float


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend as the launcher reports it. Durations in seconds."""

    backend: str
    routes: tuple[str, ...]
    state: str
    since: datetime | None
    in_flight: int
    queued: int
    needs: Mapping[str, int]
    idle_stop_at: datetime | None
    retry_at: datetime | None
    failure: Trouble | None
    stop_failure: Trouble | None
    predicted: Predicted | None
    """What one more request would wait; None: nothing, or nobody can tell."""
    average_start: float | None
    start_count: int


@dataclass(frozen=True, slots=True)
class SwitchStep:
    """One thing that is done for a switch."""

    name: str
    time: datetime
    took: float | None
    ok: bool | None
    """None while it goes on, as `took` is."""
    detail: str | None


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """A switch as it stands."""

    id: str
    state: str
    """`queued`, `running`, `succeeded`, `failed`, `rolled_back`."""
    to: str
    steps: tuple[SwitchStep, ...]
    started_at: datetime | None
    duration: float | None
    left: float | None
    """What it will probably take yet; None: it is over, or nobody can tell."""
    error: Trouble | None
    text: str
    """How it stands, in words: `failed, and chat is back: exit code 1`."""
    raw: bytes
    """As the launcher sent it, where it was asked for alone."""

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """A lease that is held or asked for."""

    id: str
    what: str
    """The routes that it holds, or what it reserves."""
    state: str
    """`pending` or `active`."""
    by: str
    """Who holds it, where that is known."""
    note: str
    left: float | None
    """None: a pin, or not granted yet."""
    mode: str | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Everything at a glance, at `server_time`."""

    version: str
    server_time: datetime
    started_at: datetime
    problems: tuple[str, ...]
    capacity: Mapping[str, int]
    used: Mapping[str, int]
    backends: tuple[BackendStatus, ...]
    switches: tuple[SwitchReport, ...]
    """The one that is under way, and those that wait for their turn."""
    leases: tuple[LeaseReport, ...]
    """Those that are held or asked for."""
    mode: str | None
    drained: tuple[str, ...]
    """Routes whose new requests are refused."""
    raw: bytes
    """As the launcher sent it."""

    def of_route(self, route: str) -> BackendStatus | None:
        """The backend of a route (the liveliest, where it has several), None for no route."""
        order = ("starting", "ready", "draining", "stopping", "failed", "stopped")
        found = [one for one in self.backends if route in one.routes]
        return min(found, key=lambda one: order.index(one.state), default=None)

    def named(self, name: str) -> BackendStatus | None:
        """The backend of that id, else that of the route."""
        return next((one for one in self.backends if one.backend == name), self.of_route(name))


@dataclass(frozen=True, slots=True)
class PastDecision:
    """What was decided: `start`, `stop`, `drain`, … and a sentence that says why."""

    at: datetime
    times: int
    """How often in a row."""
    action: str
    text: str


@dataclass(frozen=True, slots=True)
class ModeReport:
    """The mode that is, and those there are."""

    mode: str | None
    left: float | None
    modes: Mapping[str, tuple[str, ...]]
    """Name → its routes."""


@dataclass(frozen=True, slots=True)
class PlannedDecision:
    """What would be decided: `start`, `stop`, `drain`, … and a sentence that says why."""

    action: str
    text: str
    after: float
    """In so many seconds."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What would happen if a request for a route came now."""

    route: str
    outcome: str
    """`served`, `waits` or `rejected`."""
    backend: str
    predicted: Predicted | None
    rejection: Trouble | None
    retry_after: float | None
    """In seconds, where it would be rejected and that is known."""
    decisions: tuple[PlannedDecision, ...]
    raw: bytes
    """As the launcher sent it."""
