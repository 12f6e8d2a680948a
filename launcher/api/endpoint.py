"""What an endpoint is: its description, the request it is given, and what it answers with.

An endpoint is a function of a `Context` and a `Request`, described once where it is registered:

    @ENDPOINTS.add("GET", "/api/mode", need="observe", tag="control", answers={200: ModeView})
    async def get_mode(context: Context, request: Request) -> web.Response:
        "Return the mode that is in force. …"

The router, the checks of what is sent, docs/reference.md and /openapi.json all read it there.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from aiohttp import web

from launcher import tasks
from launcher.api.history import History
from launcher.auth.access import Need
from launcher.config import LauncherConfig
from launcher.config.reload import Reloaded
from launcher.control.base import OperatorGate
from launcher.control.plane import ControlPlane
from launcher.core.dry_run import Step
from launcher.core.types import BackendId, Forecast, Ticket
from launcher.errors import LauncherError
from launcher.http.endpoint import Endpoint as Address
from launcher.runtime.admission import Ask, Progress
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.journal import Journal
from launcher.telemetry.timeline import Timeline

S = TypeVar("S")

Method = Literal["GET", "POST", "PUT", "DELETE"]
Tag = Literal["status", "control", "models", "page", "alias"]
"""`page` is for browsers and `alias` for callers of older switchers; /openapi.json leaves both
out, since a tool server's clients would offer them as tools."""


# -- what endpoints use


class Control(OperatorGate, Protocol):
    """What the endpoints use of the dispatcher."""

    def waiting(self, most: int) -> list[tuple[Ticket, Progress]]:
        """Return the first so many waiting tickets, and how far each has come."""
        ...

    def forecasts(self) -> Mapping[BackendId, Forecast]:
        """Return what one more request would wait, for each backend where it would wait."""
        ...

    def plan(self, ask: Ask) -> list[Step]:
        """Return what admitting this would bring about, without doing it."""
        ...

    def request_stop(self, backend: BackendId, force: bool = False) -> None:
        """Stop a backend after what runs, or at once."""
        ...

    def endpoint(self, backend: BackendId) -> Address | None:
        """Return where a backend answers, while it is ready."""
        ...

    def driver_health(self) -> dict[str, str | None]:
        """Return for each driver by name why it doesn't answer, None where it does."""
        ...


class Exposition(Protocol):
    """What the endpoints use of the metrics."""

    @property
    def content_type(self) -> str: ...

    async def render(self) -> bytes:
        """Return all metrics as text of that type."""
        ...


class Reloads(Protocol):
    """What the endpoints use of the reloader."""

    async def reload(self, asked_by: str) -> Reloaded:
        """Read the configuration and apply what differs. Raise ConfigError."""
        ...


class Output(Protocol):
    """What the endpoints use of the backends' output."""

    async def tail(self, backend: BackendId, lines: int) -> list[str]:
        """Return the last lines."""
        ...

    def follow(self, backend: BackendId, lines: int) -> AsyncGenerator[list[str], None]:
        """Yield the last lines, then what is printed."""
        ...


@dataclass(eq=False, kw_only=True)
class Context:
    """Everything that endpoints work with, under one configuration.

    A reload makes another one with `dataclasses.replace(context, config=…)`.
    """

    config: LauncherConfig
    control: Control
    plane: ControlPlane
    metrics: Exposition
    history: History
    decisions: DecisionLog
    reloader: Reloads
    journal: Journal
    timeline: Timeline
    output: Output
    starts: tasks.Group = field(default_factory=tasks.Group)
    """Operators' starts for which nobody waits; they outlive a configuration."""
    redact: Callable[[str], str] = lambda text: text
    wall: Callable[[], float] = time.time
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        self.loaded_at = self.wall()
        self._made: dict[Callable[[Context], Any], Any] = {}

    def once(self, make: Callable[[Context], S]) -> S:
        """Return what `make` makes of this context; it is called once per configuration."""
        if make not in self._made:
            self._made[make] = make(self)
        made: S = self._made[make]
        return made


# -- what they are given, and what they answer


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an endpoint whose key, query and body have been checked."""

    args: Mapping[str, str] = field(default_factory=dict)
    """What the names in the path stand for, percent-decoded."""
    query: object = None
    """Of the endpoint's `query` shape; None where it has none."""
    body: object = None
    """Of the endpoint's `body` shape; None where it has none."""
    key: str | None = None
    """The name of the key that opened it; None: none was needed."""
    admin: bool = False
    """The caller would pass where an admin is needed."""
    details: bool = False
    """May see operators' details: an admin, or anybody where no keys are set."""
    routes: frozenset[str] | None = None
    """Names of the routes that the caller may use; None: all."""
    last_event_id: str = ""
    """The last event that the client of an event stream received before it lost it."""

    def query_as(self, shape: type[S]) -> S:
        """Return the query, which is of the shape that the endpoint declares."""
        assert isinstance(self.query, shape), "the endpoint declares another query"
        return self.query

    def body_as(self, shape: type[S]) -> S:
        """Return the body, which is of the shape that the endpoint declares."""
        assert isinstance(self.body, shape), "the endpoint declares another body"
        return self.body

    def number(self, name: str, code: str, what: str) -> int:
        """Return the number in the path. Raise the error of that code where it can't be one."""
        text = self.args[name]
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        raise LauncherError(code, f"There is no {what} {text[:40]!r}: they have numbers.")


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of 200 that goes on: sent piece by piece, no faster than the client takes it.

    `pieces` is closed when the client leaves, and has to end by itself when the launcher does.
    """

    pieces: AsyncGenerator[bytes, None]
    """None of them empty."""
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Context, Request], Awaitable[web.Response | Stream]]


# -- how they are described


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One of the launcher's own endpoints. Shapes are described in `launcher.api.shapes`."""

    method: Method
    """GET answers HEAD as well."""
    path: str
    """`/api/switches/{id}`: a name in braces is one segment; a last `{id...}` has slashes."""
    handler: Handler
    need: Need
    tag: Tag
    operation: str
    """The operationId: a verb and what it is done to, `start_route`."""
    summary: str
    """One sentence, for a table and for a model that chooses among tools."""
    description: str
    """What else a caller has to know, in whole sentences."""
    everywhere: bool
    """For clients: it also answers at their addresses where operators have their own."""
    query: type | None
    """Shape of the query; None: the query is ignored."""
    body: type | None
    """Shape of the JSON body; None: the body is ignored."""
    answers: Mapping[int, object]
    """Status → shape of the answer's JSON, for each status but errors'."""
    produces: str
    """Media type of the answer."""

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it: `/v1/models/{id}`."""
        return self.path.replace("...}", "}")


class EndpointTable(list[Endpoint]):
    """The endpoints of one concern, in the order of the reference."""

    def add(
        self,
        method: Method,
        path: str,
        *,
        need: Need,
        tag: Tag,
        operation: str | None = None,
        summary: str | None = None,
        everywhere: bool = False,
        query: type | None = None,
        body: type | None = None,
        answers: Mapping[int, object] | None = None,
        produces: str = "application/json",
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that registers a function as an endpoint.

        The operation is the function's name, unless given. The first paragraph of its docstring
        is the summary, unless given; the others are the description.
        """

        def register(handler: Handler) -> Handler:
            paragraphs = (inspect.getdoc(handler) or "").split("\n\n")
            first, *others = (" ".join(one.split()) for one in paragraphs)
            self.append(
                Endpoint(
                    method=method,
                    path=path,
                    handler=handler,
                    need=need,
                    tag=tag,
                    operation=operation or str(getattr(handler, "__name__", "")),
                    summary=summary or first,
                    description="" if summary else " ".join(others),
                    everywhere=everywhere,
                    query=query,
                    body=body,
                    answers=answers or {},
                    produces=produces,
                )
            )
            return handler

        return register
