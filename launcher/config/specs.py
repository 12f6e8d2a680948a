"""The shapes of a configuration: frozen routes, backends and the launcher's own settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from launcher.core.types import BackendId, Needs, OnLease, Priority, Wake
from launcher.drivers.base import DriverSpec
from launcher.http.endpoint import Listen

GIB = 1024**3
MIB = 1024**2

#: Names of the scheduling policies in `launcher.core.policy`.
PolicyName = Literal["bounded", "arrival", "collation"]

#: What a key may do: use routes, read status and metrics, operate.
KeyScope = Literal["infer", "observe", "admin"]

#: First path segments of the launcher's own paths, present and future: no route's name.
RESERVED = frozenset(
    "openai v1 anthropic api admin healthz readyz health status routes stats metrics models "
    "mode switch stop jobs queue openapi.json".split()
)

#: Default paths that neither start a backend nor keep it from its idle stop.
QUIET = ("/health", "/healthz", "/ready", "/readyz", "/ping", "/metrics", "/v1/health")

#: Values of `priority` and `wake` in routes.toml and in headers.
PRIORITIES = {one.name.lower(): one for one in Priority}
WAKES = {one.value: one for one in Wake}
#: Values of `on_lease` in routes.toml.
ON_LEASE = {one.value: one for one in OnLease}


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is never shown: not in logs, errors, reprs or status."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """An API key: what it may do, and its limits."""

    name: str
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    scopes: frozenset[KeyScope] = frozenset({"infer"})
    routes: frozenset[str] | None = None
    """Names of the routes it may use; None: all."""
    priority: Priority | None = None
    """Replaces the routes' own; None: theirs."""
    wake: Wake | None = None
    """Replaces the routes' own; None: theirs."""
    max_in_flight: int | None = None
    """Requests to routes at a time; None: no bound."""
    requests_per_minute: int | None = None
    """Requests to routes in any 60 s; None: no bound."""
    secret: Secret | None = None
    """The key itself, where the configuration holds it; it is redacted in logs and errors."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model id that clients use, and the backend's own name for it where it differs."""

    id: str
    upstream: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How readiness is probed."""

    kind: Literal["http", "docker", "tcp", "none"] = "http"
    """`none`: it is ready once it runs."""
    path: str = "/health"


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """One backend. Durations in seconds."""

    id: BackendId
    driver: DriverSpec
    health: Health = Health()
    needs: Needs | None = None
    """None: all of the capacity."""
    idle_timeout: float = 600.0
    """`inf`: never."""
    start_timeout: float = 600.0
    max_queue: int = 512
    busy: str | None = None
    """Path that reports work that no request in flight stands for (ComfyUI's `/queue`)."""
    backend_key: Secret | None = None
    max_in_flight: int | None = None
    """Most requests in flight at a time; None: no bound."""
    linger: float = math.inf
    """The longest that it stays idle while others wait for its capacity; 0: not at all."""
    start_guess: float = 30.0
    """Assumed duration of a start until one was measured."""
    stop_guess: float = 3.0


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One route: which requests it matches, and how they are forwarded."""

    name: str
    backends: tuple[BackendId, ...]
    prefixes: tuple[str, ...]
    """`/name` and those of `path`; no slash at the end."""
    hosts: tuple[str, ...] = ()
    models: tuple[ModelSpec, ...] = ()
    auth: Literal["inject", "passthrough"] = "inject"
    public: bool = False
    host_header: Literal["client", "backend"] = "client"
    quiet: tuple[str, ...] = QUIET
    """Paths behind the prefix, matched whole."""
    priority: Priority = Priority.NORMAL
    wake: Wake = Wake.ALWAYS
    on_lease: OnLease = OnLease.WAIT
    max_wait: float = 60.0
    queue_timeout: float = 1800.0
    response_timeout: float | None = None
    heartbeat: float = 10.0
    """Seconds a streaming request waits before SSE comments begin; 0 turns them off."""
    tunnel_idle: float = 300.0


@dataclass(frozen=True, slots=True)
class AliasConfig:
    """A model id that stands for several: the resident one serves it, else the first."""

    id: str
    models: tuple[str, ...]
    """Ids of models, in order of preference."""


@dataclass(frozen=True, slots=True)
class ModeConfig:
    """A named lease: while it lasts, its routes' backends stay resident."""

    name: str
    routes: tuple[str, ...]
    """Names of routes that fit side by side."""
    ttl: float
    """Default duration in seconds; at most `max_lease`."""


@dataclass(frozen=True, slots=True)
class LauncherConfig:
    """The whole configuration, checked."""

    routes: tuple[RouteConfig, ...] = ()
    backends: tuple[BackendConfig, ...] = ()
    aliases: tuple[AliasConfig, ...] = ()
    modes: tuple[ModeConfig, ...] = ()
    capacity: Needs = (("gpu", 1),)
    listen: tuple[Listen, ...] = (Listen("127.0.0.1", 8000),)
    admin_listen: tuple[Listen, ...] = ()
    """The only addresses of operators' endpoints; empty: those of `listen`."""
    allowed_hosts: tuple[str, ...] | None = None
    """What clients may call the launcher by, besides names that nobody else can have: in lower
    case, `*.example.org` for all below it, `*` for any. None: what operators' endpoints are
    called by is checked, and of the rest what browsers send."""
    tls_cert: str | None = None
    tls_key: str | None = None
    prewarm: tuple[BackendId, ...] = ()
    home: str | None = None
    """The route whose backend becomes resident again when the last lease has ended."""
    max_lease: float = 5400.0
    """The longest that a lease may last, in seconds; pins have no end."""
    policy: PolicyName = "bounded"
    batch_max_wait: float = 1800.0
    """The `max_wait` of requests of the class `batch`; and after each such time that it has
    waited, any request counts as one class higher."""
    keys: tuple[KeyConfig, ...] = ()
    """Those of `api_keys` and `admin_keys` among them."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-* are believed."""
    max_body: int = 64 * MIB
    max_buffered: int = 256 * MIB
    drain_timeout: float = 30.0
    stop_on_exit: bool = False
    """Stop the containers that run when the launcher ends."""
    docker_host: str | None = None
    """`unix:///var/run/docker.sock` or `tcp://…`; None: the engine's default."""
    compose_project: str | None = None
    state_file: str | None = None
    """None: `launcher.db` in the user's state directory; "" keeps nothing."""
    source: str = "routes.toml"
    """The file it came from, or `environment`; for messages."""
    warnings: tuple[str, ...] = ()

    def backend(self, backend: BackendId) -> BackendConfig:
        """Return one backend by id. Raises KeyError where there is none."""
        for one in self.backends:
            if one.id == backend:
                return one
        raise KeyError(backend)

    @property
    def scopes(self) -> frozenset[KeyScope]:
        """The scopes that some key has."""
        return frozenset(scope for key in self.keys for scope in key.scopes)

    @property
    def capacity_of(self) -> dict[str, int]:
        """The capacity as a mapping."""
        return dict(self.capacity)
