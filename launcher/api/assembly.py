"""All of the launcher's own endpoints: the only place that knows each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from launcher.api.control import Control, Switches
from launcher.api.decisions import Decisions
from launcher.api.drain import DrainApi
from launcher.api.endpoint import Endpoint, Found
from launcher.api.health import Health
from launcher.api.leases import LeaseApi
from launcher.api.legacy import Aliased, Legacy
from launcher.api.live import Live
from launcher.api.logs import Logs, Printed
from launcher.api.metrics import Exposition, Scrape
from launcher.api.models import Models
from launcher.api.modes import ModeApi
from launcher.api.openapi import OpenApi
from launcher.api.page import Page
from launcher.api.plan import Plans
from launcher.api.pointer import Pointer
from launcher.api.queue import QueueApi
from launcher.api.reload import Reload, Reloads
from launcher.api.router import Router
from launcher.api.routes import Routes
from launcher.api.stats import History, Stats
from launcher.api.status import Status
from launcher.api.switch import SwitchApi
from launcher.api.timeline import Timelines
from launcher.auth.access import Need
from launcher.config import LauncherConfig
from launcher.control.plane import ControlPlane
from launcher.tasks import Group
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.journal import Journal
from launcher.telemetry.timeline import Timeline


class Api(Protocol):
    """One concern's endpoints."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What there is, in the order of the reference. Reads nothing of the instance."""
        ...


#: Every concern, in the order of the reference.
CONCERNS: tuple[type[Api], ...] = (
    Pointer,
    OpenApi,
    Health,
    Models,
    Routes,
    Stats,
    Exposition,
    Status,
    Timelines,
    Live,
    Logs,
    Decisions,
    Plans,
    QueueApi,
    Switches,
    SwitchApi,
    LeaseApi,
    ModeApi,
    DrainApi,
    Reload,
    Page,
    Legacy,
)


def described() -> tuple[Endpoint, ...]:
    """Every endpoint there is, to be read about: nothing stands behind them."""
    return tuple(one for kind in CONCERNS for one in kind.endpoints(kind.__new__(kind)))


def _keyed(config: LauncherConfig) -> frozenset[Need]:
    """What keys have to be shown for."""
    looking = not config.scopes.isdisjoint(("infer", "observe"))
    needs: dict[Need, bool] = {
        "known": looking,
        "observe": looking,
        "admin": "admin" in config.scopes,
    }
    return frozenset(need for need, keyed in needs.items() if keyed)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is kept to be looked at live; made once, whatever the configuration becomes."""

    journal: Journal
    timeline: Timeline
    outputs: Printed


class OwnApi:
    """The endpoints of one configuration: the proxy's handler asks it first.

    Nothing here starts a backend, but an operator's start.
    """

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        metrics: Scrape,
        history: History,
        decisions: DecisionLog,
        reloader: Reloads,
        *,
        plane: ControlPlane,
        watched: Watched,
        holds: Group | None = None,
        redact: Callable[[str], str] = lambda text: text,
        wall: Callable[[], float] = time.time,
    ) -> None:
        health, models = Health(control), Models(config, wall())
        status = Status(config, control, plane, history, redact, wall)
        modes = ModeApi(plane.modes, plane.leases)
        aliased = Aliased(health.alive, health.ready, models.list, modes.show, status.report)
        concerns: tuple[Api, ...] = (
            Pointer(),
            OpenApi(_keyed(config), described),
            health,
            models,
            Routes(config, redact),
            Stats(config, control, history, wall),
            Exposition(metrics),
            status,
            Timelines(watched.timeline, wall),
            Live(control, watched.journal, wall),
            Logs(control, watched.outputs),
            Decisions(config, decisions, wall),
            Plans(config, control),
            QueueApi(control),
            Switches(config, control, holds),
            SwitchApi(config, plane.switches),
            LeaseApi(config, plane.leases),
            modes,
            DrainApi(control, plane.drains),
            Reload(reloader),
            Page(),
            Legacy(config, control, plane, aliased),
        )
        self._router = Router(one for concern in concerns for one in concern.endpoints())
        self._for_clients = Router(one for one in self._router.endpoints if one.everywhere)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them."""
        return self._router.endpoints

    def find(self, method: str, path: str, *, operators: bool = True) -> Found | None:
        """See `launcher.api.endpoint.OwnEndpoints`."""
        return (self._router if operators else self._for_clients).find(method, path)
