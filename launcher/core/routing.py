"""Which route a request belongs to: longest prefix on segment boundaries, host, or model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Model(Protocol):
    """A model id that clients use."""

    @property
    def id(self) -> str: ...


class Routable(Protocol):
    """What the table needs of a route."""

    @property
    def name(self) -> str: ...
    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def hosts(self) -> tuple[str, ...]: ...
    @property
    def models(self) -> Sequence[Model]: ...


R = TypeVar("R", bound=Routable)


@dataclass(frozen=True, slots=True)
class PathMatch(Generic[R]):
    """A route and where its part of the path begins."""

    route: R
    prefix: str
    """What to cut off; empty where the host matched."""


class RouteTable(Generic[R]):
    """Immutable look-up; its cost does not grow with the number of routes or models."""

    def __init__(self, routes: Iterable[R]) -> None:
        self.routes: tuple[R, ...] = tuple(routes)
        self._by_prefix: dict[bytes, tuple[R, str]] = {}
        self._by_host: dict[str, R] = {}
        self._by_model: dict[str, R] = {}
        for route in self.routes:
            for prefix in route.prefixes:
                self._by_prefix[prefix.encode()] = (route, prefix)
            for host in route.hosts:
                self._by_host[host.lower()] = route
            for model in route.models:
                self._by_model[model.id] = route
        self._depth = max((p.count(b"/") for p in self._by_prefix), default=0)

    def by_path(self, path: bytes) -> PathMatch[R] | None:
        """The route with the longest prefix of `path` that ends on a segment boundary.

        `path` is compared as raw bytes: no decoding, so `/%63oder` is not `/coder`.
        """
        cuts: list[int] = []
        at = path.find(b"/", 1)
        while at != -1 and len(cuts) < self._depth:
            cuts.append(at)
            at = path.find(b"/", at + 1)
        if at == -1 and len(cuts) < self._depth:
            cuts.append(len(path))
        for cut in reversed(cuts):
            found = self._by_prefix.get(path[:cut])
            if found is not None:
                return PathMatch(*found)
        return None

    def by_host(self, host: str) -> R | None:
        """The route that owns a host name (without port), or None."""
        return self._by_host.get(host.lower()) if self._by_host else None

    def by_model(self, model: str) -> R | None:
        """The route that serves a model id, or None."""
        return self._by_model.get(model)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model id, in the order of the configuration."""
        return tuple(self._by_model)
