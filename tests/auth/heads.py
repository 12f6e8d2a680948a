"""Heads of requests, and a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.config import ModelSpec, RouteConfig
from launcher.core.types import BackendId


@dataclass(frozen=True)
class Request:
    """A request's head, as `launcher.auth.head.Head` describes it."""

    method: str = "GET"
    headers: Sequence[tuple[bytes, bytes]] = ()
    host: bytes = b"example.test"
    peer: str = "192.0.2.7"
    upgrade: bytes | None = None
    fields: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.headers:
            self.fields[name.lower()] = (*self.fields.get(name.lower(), ()), value)

    def get(self, name: bytes) -> bytes | None:
        return self.fields[name][0] if name in self.fields else None


def a_route(**fields: Any) -> RouteConfig:
    """`/coder`."""
    given: dict[str, Any] = {
        "name": "coder",
        "backends": (BackendId("coder"),),
        "prefixes": ("/coder",),
        "models": (ModelSpec("coder-fast"),),
    }
    return RouteConfig(**(given | fields))
