"""Which of the launcher's own endpoints a path is, and who may ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

from launcher.api.answers import json_answer
from launcher.api.contract import Answer, ApiRequest, ApiResponse, Found, Need
from launcher.api.control import Control, Switches
from launcher.api.decisions import Decisions
from launcher.api.health import Health
from launcher.api.live import Live
from launcher.api.models import Models
from launcher.api.plan import Plans
from launcher.api.routes import Routes
from launcher.api.stats import History, Stats
from launcher.api.status import Status
from launcher.api.timeline import Timelines
from launcher.config import LauncherConfig
from launcher.decisions import DecisionLog
from launcher.errors import LauncherError
from launcher.journal import Journal
from launcher.timeline import Timeline

#: Where lists of models are asked for.
MODEL_LISTS = ("/openai/v1/models", "/openai/models", "/v1/models")

_ROUTES = "/api/routes/"
_PREFIXES = (_ROUTES, *(f"{path}/" for path in MODEL_LISTS))

Methods = dict[str, tuple[Need, Answer]]


class Scrape(Protocol):
    """What `/metrics` needs of the metrics."""

    @property
    def content_type(self) -> str: ...

    async def render(self) -> bytes:
        """Everything, as text of that type."""
        ...


class OwnApi:
    """Every endpoint of the launcher's own: the proxy's handler asks it first.

    Nothing here starts a backend, but an operator's start.
    """

    def __init__(
        self,
        config: LauncherConfig,
        control: Control,
        metrics: Scrape,
        history: History,
        decisions: DecisionLog,
        journal: Journal,
        timeline: Timeline,
        *,
        redact: Callable[[str], str] = lambda text: text,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._journal = journal
        health = Health(control)
        routes = Routes(config, redact)
        stats = Stats(config, control, history, wall)
        status = Status(config, control, history, redact, wall)
        models = Models(config, wall())
        self._switches = Switches(config, control)
        self._exact: dict[str, Methods] = {
            "/": {"GET": ("open", self._pointer)},
            "/healthz": {"GET": ("open", health.alive)},
            "/readyz": {"GET": ("open", health.ready)},
            "/routes": {"GET": ("observe", routes.list)},
            "/stats": {"GET": ("observe", stats.show)},
            "/metrics": {"GET": ("observe", self._scrape)},
            "/api/status": {"GET": ("observe", status.show)},
            "/api/events": {"GET": ("observe", Live(control, journal, wall).follow)},
            "/api/timeline": {"GET": ("observe", Timelines(timeline, wall).show)},
            "/api/decisions": {"GET": ("observe", Decisions(config, decisions, wall).show)},
        }
        for path in MODEL_LISTS:
            self._exact[path] = {"GET": ("observe", models.list)}
        self._model: Methods = {"GET": ("observe", models.one)}
        self._actions: dict[str, Methods] = {
            "plan": {"GET": ("observe", Plans(config, control).show)},
            "start": {"POST": ("admin", self._switches.start)},
            "stop": {"POST": ("admin", self._switches.stop)},
        }

    def find(self, method: str, path: str) -> Found | None:
        """The endpoint of a raw path (without query), None where it isn't one of ours.

        Raises `method_not_allowed`. Every request of every client passes here, so a path that
        isn't ours costs one look-up and one comparison.
        """
        args: dict[str, str] = {}
        methods = self._exact.get(path)
        if methods is None:
            if not path.startswith(_PREFIXES):
                return None
            methods, args = self._below(path)
            if methods is None:
                return None
        found = methods.get("GET" if method == "HEAD" else method)
        if found is None:
            allow = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            message = f"This path answers to {', '.join(methods)} only."
            raise LauncherError("method_not_allowed", message, allow=allow)
        return Found(found[0], found[1], args)

    def _below(self, path: str) -> tuple[Methods | None, dict[str, str]]:
        """Paths with a name in them, which is percent-decoded after the path was taken apart."""
        if path.startswith(_ROUTES):
            name, _, action = path.removeprefix(_ROUTES).rpartition("/")
            return self._actions.get(action), {"name": unquote(name)}
        for prefix in _PREFIXES:
            if path.startswith(prefix) and path != prefix:
                return self._model, {"id": unquote(path.removeprefix(prefix))}
        return None, {}

    async def close(self) -> None:
        """Give up what operators still wait for, and end what they follow."""
        self._journal.close()
        await self._switches.close()

    async def _scrape(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse(await self._metrics.render(), content_type=self._metrics.content_type)

    async def _pointer(self, request: ApiRequest) -> ApiResponse:
        return json_answer(
            {
                "message": "This is a lazy-launch proxy. Clients of the OpenAI API use "
                "/openai/v1; each route answers under its own prefix.",
                "see": ["/openai/v1/models", "/routes", "/stats", "/healthz", "/readyz"],
            }
        )
