"""A request that has found who may serve it; who does is known when a backend is granted.

Until then the first of its candidates speaks for it: how long it waits, whether it is quiet.
From then on everything is the granted backend's: the route's keys and timeouts, and its own
name for the model, which takes the place of the one that the client wrote. It must not know
how candidates are found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from launcher.config import ModelSpec, RouteConfig
from launcher.core.types import BackendId
from launcher.proxy.body import Body, KeptBody


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route that may serve the request, and as which of its models."""

    route: RouteConfig
    model: ModelSpec | None = None
    """None: on the route's own path, nobody asks for a model."""


class InQuery(NamedTuple):
    """The model stands in the query, its raw value from `start` to `end`."""

    query: bytes
    start: int
    end: int

    def renamed(self, name: str) -> bytes:
        """The query with another name for the model; only that value's bytes differ."""
        return self.query[: self.start] + quote(name, safe="").encode() + self.query[self.end :]


class InBody(NamedTuple):
    """The model stands in a kept body, its raw value in `span`."""

    body: KeptBody
    span: tuple[int, int]
    encode: Callable[[str], bytes]


def backends_of(candidates: tuple[Candidate, ...]) -> tuple[BackendId, ...]:
    """All that these lead to, in order of preference."""
    if len(candidates) == 1:
        return candidates[0].route.backends
    every = (id for candidate in candidates for id in candidate.route.backends)
    return tuple(dict.fromkeys(every))


@dataclass(slots=True)
class Resolved:
    """A request on its way to whoever is granted."""

    candidates: tuple[Candidate, ...]
    """At least one, in order of preference."""
    path: bytes
    """The backend's, raw."""
    query: bytes | None
    prefix: bytes
    body: Body
    asked: str = ""
    """The configured model id or alias that was asked for; empty on a route's own path."""
    named: InQuery | InBody | None = None
    """Where that stands in the request."""
    stream: bool | None = None
    """Whether a JSON body asks for a stream; None: nobody has looked."""
    keep_later: bool = False
    """Its JSON body is read after the admission: the client waits for a 100 Continue."""
    chosen: Candidate = field(init=False)
    """Who serves it; before a grant the first."""

    def __post_init__(self) -> None:
        self.chosen = self.candidates[0]

    @property
    def first(self) -> RouteConfig:
        """The route whose word holds while the request waits."""
        return self.candidates[0].route

    @property
    def route(self) -> RouteConfig:
        """The route that serves it."""
        return self.chosen.route

    @property
    def backends(self) -> tuple[BackendId, ...]:
        """All that may serve it, in order of preference."""
        return backends_of(self.candidates)

    def lead(self, candidates: tuple[Candidate, ...]) -> None:
        """Others may serve it, by another configuration."""
        self.candidates, self.chosen = candidates, candidates[0]

    def settle(self, backend: BackendId) -> None:
        """This backend was granted. May be called again, for another, before it is sent again."""
        for one in self.candidates:
            if backend in one.route.backends:
                self.chosen = one
                break
        model = self.chosen.model
        if model is None or (model.upstream is None and model.id == self.asked):
            return  # it stands there as it should
        name = model.upstream or model.id
        match self.named:
            case InQuery():
                self.query = self.named.renamed(name)
            case InBody(body, span, encode):
                body.replace(span, encode(name))
            case None:
                pass
