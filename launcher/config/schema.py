"""Every key of routes.toml: where it may stand, how it is read, its default, what it does.

The reader, the check for unknown keys, and the tables of the reference all come from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from launcher.config import (
    MIB,
    QUIET,
    Health,
    KeyScope,
    Listen,
    ModelSpec,
    PolicyName,
    Secret,
    values,
)
from launcher.core.types import Needs, OnLease, Priority, Wake

T = TypeVar("T")
Scope = Literal["launcher", "route", "backend", "mode", "key"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

HERE: tuple[Scope, ...] = ("launcher",)
ROUTE: tuple[Scope, ...] = ("route",)
BACKEND: tuple[Scope, ...] = ("backend",)
ROUTES: tuple[Scope, ...] = ("launcher", "route")
BACKENDS: tuple[Scope, ...] = ("launcher", "backend")
MODE: tuple[Scope, ...] = ("mode",)
KEY: tuple[Scope, ...] = ("key",)


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """One key; its name may mean another in tables of other scopes. A `backend` key may stand in
    a route's table too, where that table describes the route's own backend; a `launcher` key
    that is also another's is that one's default."""

    name: str
    scopes: tuple[Scope, ...]
    parse: Callable[[object], T]
    default: T
    shown: str
    """The default, for people."""
    help: str
    secret: bool = False
    """Its value is never quoted, and may be `file:/path`."""


LISTEN: Key[tuple[Listen, ...]] = Key(
    "listen", HERE, values.listens, (Listen("127.0.0.1", 8000),), '["127.0.0.1:8000"]',
    "Addresses to listen on: `host:port`, `:port` for all interfaces, `unix:/path`.",
)  # fmt: skip
ADMIN_LISTEN: Key[tuple[Listen, ...]] = Key(
    "admin_listen", HERE, values.listens, (), "",
    "Addresses for operators, like `listen`: the API, the page and the metrics answer only there; "
    "the others have routes, lists of models, `/healthz` and `/readyz`.",
)  # fmt: skip
ALLOWED_HOSTS: Key[tuple[str, ...] | None] = Key(
    "allowed_hosts", HERE, values.allowed_hosts, None, "",
    'What clients may call the launcher by, such as `"gpu.example.org"` or `"*.example.org"`, '
    'besides addresses and names of the local network; `"*"`: anything.',
)  # fmt: skip
TLS_CERT: Key[str | None] = Key(
    "tls_cert", HERE, values.text, None, "", "Certificate chain (PEM file); needs `tls_key`."
)
TLS_KEY: Key[str | None] = Key(
    "tls_key", HERE, values.text, None, "", "Private key of `tls_cert` (PEM file)."
)
PREWARM: Key[tuple[str, ...]] = Key(
    "prewarm", HERE, values.texts, (), "[]",
    "Routes (or backends) to start at boot, in this order, as far as they fit together.",
)  # fmt: skip
API_KEYS: Key[tuple[Secret, ...]] = Key(
    "api_keys", HERE, values.secrets, (), "[]",
    'Keys with the scopes `infer` and `observe`: the short way of writing `[keys.NAME]`. While '
    "no key has the scope `infer`, everybody may use the routes.", secret=True,
)  # fmt: skip
ADMIN_KEYS: Key[tuple[Secret, ...]] = Key(
    "admin_keys", HERE, values.secrets, (), "[]",
    "Keys with the scope `admin`; never implied by `api_keys`. While no key has that scope, only "
    "callers on this machine may start, stop and the like.", secret=True,
)  # fmt: skip
TRUSTED_PROXIES: Key[tuple[str, ...]] = Key(
    "trusted_proxies", HERE, values.networks, (), "[]",
    "Networks whose `X-Forwarded-*` headers are believed and appended to.",
)  # fmt: skip
MAX_BODY: Key[int] = Key(
    "max_body", HERE, values.size, 64 * MIB, '"64MiB"',
    "Largest body in which a `model` is looked for. Bodies under a route's own path are "
    "streamed, whatever their size.",
)  # fmt: skip
MAX_BUFFERED: Key[int] = Key(
    "max_buffered", HERE, values.size, 256 * MIB, '"256MiB"',
    "Memory for all buffered bodies together; what is beyond goes to temporary files.",
)  # fmt: skip
DRAIN_TIMEOUT: Key[float] = Key(
    "drain_timeout", HERE, values.seconds, 30.0, '"30s"',
    "How long running exchanges may go on after the launcher was told to end.",
)  # fmt: skip
STOP_ON_EXIT: Key[bool] = Key(
    "stop_on_exit", HERE, values.boolean, False, "false",
    "Stop the containers when the launcher ends. Otherwise they stay warm for the next one.",
)  # fmt: skip
DOCKER_HOST: Key[str | None] = Key(
    "docker_host", HERE, values.engine, None, "",
    "The Docker Engine: `unix:///path` or `tcp://host:port`; default: the engine's own.",
)  # fmt: skip
COMPOSE_PROJECT: Key[str | None] = Key(
    "compose_project", HERE, values.text, None, "",
    "Narrows compose services to one project, where two have a service of the same name.",
)  # fmt: skip
STATE_FILE: Key[str | None] = Key(
    "state_file", HERE, values.state_file, None, "",
    "File for what outlives a restart; default: in the user's state directory; `\"none\"`: none.",
)  # fmt: skip

POLICY: Key[PolicyName] = Key(
    "policy", HERE, values.policy, "bounded", '"bounded"',
    'Who is resident when. `"arrival"` (in the order of arrival) and `"collation"` (the resident '
    "backend is served while it has work, however long others wait) are there for comparison.",
)  # fmt: skip
BATCH_MAX_WAIT: Key[float] = Key(
    "batch_max_wait", HERE, values.positive_seconds, 1800.0, '"30m"',
    "The `max_wait` of requests of the class `batch`; after that they are of the highest class, "
    "`normal` ones after a third of it, so that everybody has their turn. A batch request's "
    "`queue_timeout` is longer by as much.",
)  # fmt: skip
HOME: Key[str | None] = Key(
    "home", HERE, values.text, None, "",
    "The route whose backend becomes resident again when the last lease has ended.",
)  # fmt: skip
MAX_LEASE: Key[float] = Key(
    "max_lease", HERE, values.positive_seconds, 5400.0, '"90m"',
    "The longest that a lease or a mode may last. A pin has no end, and no bound.",
)  # fmt: skip

BACKEND_KEY: Key[Secret | None] = Key(
    "backend_key", BACKENDS, values.secret, None, "",
    'The key that the backend asks for, sent in place of the client\'s (`auth = "inject"`).',
    secret=True,
)  # fmt: skip
IDLE_TIMEOUT: Key[float] = Key(
    "idle_timeout", BACKENDS, values.seconds_or_never, 600.0, '"10m"',
    'Stop the backend this long after its last request ended; 0 or `"never"`: not at all.',
)  # fmt: skip
START_TIMEOUT: Key[float] = Key(
    "start_timeout", BACKENDS, values.positive_seconds, 600.0, '"10m"',
    "How long a start may take until the backend is healthy.",
)  # fmt: skip
STOP_GRACE: Key[float] = Key(
    "stop_grace", BACKENDS, values.seconds, 10.0, '"10s"', "Time between SIGTERM and SIGKILL."
)
MAX_QUEUE: Key[int] = Key(
    "max_queue", BACKENDS, values.positive, 512, "512",
    "Requests that may wait for the backend; more are answered `queue_full`.",
)  # fmt: skip

QUEUE_TIMEOUT: Key[float] = Key(
    "queue_timeout", ROUTES, values.positive_seconds, 1800.0, '"30m"',
    "How long a request may wait in all; then it is answered `queue_timeout`.",
)  # fmt: skip
MAX_WAIT: Key[float] = Key(
    "max_wait", ROUTES, values.seconds, 60.0, '"60s"',
    "How long a request waits for a busy backend to leave by itself before it is drained.",
)  # fmt: skip
RESPONSE_TIMEOUT: Key[float | None] = Key(
    "response_timeout", ROUTES, values.seconds_or_none, None, '"never"',
    "How long the backend may take to the first byte of a response.",
)  # fmt: skip
HEARTBEAT: Key[float] = Key(
    "heartbeat", ROUTES, values.seconds, 10.0, '"10s"',
    "A streaming request that waits longer is told so in SSE comments; 0 turns them off.",
)  # fmt: skip
TUNNEL_IDLE: Key[float] = Key(
    "tunnel_idle", ROUTES, values.seconds_or_never, 300.0, '"5m"',
    "A WebSocket that carried less than 1 KiB for this long no longer holds its backend.",
)  # fmt: skip

CONTAINER: Key[str | None] = Key(
    "container", BACKEND, values.container, None, "",
    "A container or compose service that exists already.",
)  # fmt: skip
COMMAND: Key[tuple[str, ...]] = Key(
    "command", BACKEND, values.command, (), "",
    "A local program and its arguments; `{port}` becomes a free port.",
)  # fmt: skip
PORT: Key[int | None] = Key(
    "port", BACKEND, values.port, None, "8000",
    "The port inside the container; for `command` a fixed one (default: a free one).",
)  # fmt: skip
ADDRESS: Key[str | None] = Key(
    "address", BACKEND, values.address, None, "",
    "Where the container answers, `host:port` or `unix:/path`, instead of finding out.",
)  # fmt: skip
SCHEME: Key[Literal["http", "https"]] = Key(
    "scheme", BACKEND, values.scheme, "http", '"http"', "`https` where the backend wants TLS."
)
BASE_PATH: Key[str] = Key(
    "base_path", BACKEND, values.base_path, "", '""', "Put before every path on the backend."
)
ENV: Key[tuple[tuple[str, str], ...]] = Key(
    "env", BACKEND, values.variables, (), "{}",
    "Variables for `command`, on top of the launcher's own; `{port}` is replaced.",
)  # fmt: skip
CWD: Key[str | None] = Key("cwd", BACKEND, values.text, None, "", "Directory to run `command` in.")
HEALTH: Key[Health] = Key(
    "health", BACKEND, values.health, Health(), '"/health"',
    'How readiness is asked: a path (any 2xx), `"docker"` (the container\'s HEALTHCHECK), '
    'or `"tcp"` (a connect).',
)  # fmt: skip
MAX_IN_FLIGHT: Key[int | None] = Key(
    "max_in_flight", BACKEND, values.positive, None, "no bound",
    "Requests that the backend is given at a time; those beyond wait for one of them to end.",
)  # fmt: skip
LINGER: Key[float] = Key(
    "linger", BACKEND, values.seconds, math.inf, "as long as it was learned to pay",
    "The longest that the backend, idle while others wait for its place, stays for the next "
    "request of a client that asks, reads and asks again; 0: it leaves at once.",
)  # fmt: skip
START_GUESS: Key[float] = Key(
    "start_guess", BACKEND, values.positive_seconds, 30.0, '"30s"',
    "How long a start takes, until one was measured.",
)  # fmt: skip
STOP_GUESS: Key[float] = Key(
    "stop_guess", BACKEND, values.seconds, 3.0, '"3s"',
    "How long a stop takes, until one was measured.",
)  # fmt: skip
NEEDS: Key[Needs | None] = Key(
    "needs", BACKEND, values.needs, None, "all of the capacity",
    "What the backend occupies while it runs; `{}`: nothing, it lives beside everything else.",
)  # fmt: skip
BUSY: Key[str | None] = Key(
    "busy", BACKEND, values.request_path, None, "",
    "Path that tells of work that no request holds (ComfyUI: `/queue`); asked before a stop.",
)  # fmt: skip

BACKEND_OF: Key[tuple[str, ...]] = Key(
    "backend", ROUTE, values.texts, (), "", "A table of `[backends]`, where routes share one."
)
PATH: Key[tuple[str, ...]] = Key(
    "path", ROUTE, values.prefixes, (), "[]", "Further path prefixes, such as `/v2/coder`."
)
HOST: Key[tuple[str, ...]] = Key(
    "host", ROUTE, values.host_names, (), "[]",
    "Host names that are the route's alone, for apps that can't live under a prefix.",
)  # fmt: skip
MODELS: Key[tuple[ModelSpec, ...] | None] = Key(
    "models", ROUTE, values.models, None, "the container's name, or the route's",
    'Model ids, or `{ id = "gpt-4o", upstream = "…" }` where the backend has its own name.',
)  # fmt: skip
AUTH: Key[Literal["inject", "passthrough"]] = Key(
    "auth", ROUTE, values.auth, "inject", '"inject"',
    '`"inject"`: `backend_key` replaces the client\'s credentials; `"passthrough"` leaves them.',
)  # fmt: skip
PUBLIC: Key[bool] = Key(
    "public", ROUTE, values.boolean, False, "false", "No api key is asked (a page for browsers)."
)
HOST_HEADER: Key[Literal["client", "backend"]] = Key(
    "host_header", ROUTE, values.host_header, "client", '"client"',
    "Whose `Host` the backend sees.",
)  # fmt: skip
PRIORITY: Key[Priority] = Key(
    "priority", ROUTE, values.priority, Priority.NORMAL, '"normal"',
    'The class of the route\'s requests, `"interactive"`, `"normal"` or `"batch"`: of those who '
    "wait, the higher goes first. A request may lower its own with `X-Launcher-Priority`.",
)  # fmt: skip
WAKE: Key[Wake] = Key(
    "wake", ROUTE, values.wake, Wake.ALWAYS, '"always"',
    'What a request may cause where the backend is down: `"always"` whatever it takes, '
    '`"if-idle"` a start that stops nobody, `"never"` nothing (it is answered `not_resident`). '
    "A request may ask for less with `X-Launcher-Wake`.",
)  # fmt: skip
ON_LEASE: Key[OnLease] = Key(
    "on_lease", ROUTE, values.on_lease, OnLease.WAIT, '"wait"',
    'What a request does whose place is held by a lease: `"wait"` for the end of the lease, or '
    '`"reject"`: it is answered `leased`, with `Retry-After`.',
)  # fmt: skip
QUIET_PATHS: Key[tuple[str, ...]] = Key(
    "quiet", ROUTE, values.quiet, QUIET, '["default"]',
    'Paths behind the prefix that neither wake the backend nor keep it; `"default"` stands '
    "for " + ", ".join(f"`{path}`" for path in QUIET) + ".",
)  # fmt: skip

MODE_ROUTES: Key[tuple[str, ...]] = Key(
    "routes", MODE, values.texts, (), "",
    "Names of routes: their backends are made resident, and keep their places while it lasts.",
)  # fmt: skip
TTL: Key[float | None] = Key(
    "ttl", MODE, values.positive_seconds, None, "max_lease",
    "How long the mode lasts where nobody says otherwise; at most `max_lease`.",
)  # fmt: skip

KEY_HASH: Key[bytes | None] = Key(
    "hash", KEY, values.digest, None, "",
    "SHA-256 of the key in hexadecimal, as `launcher key new` prints it.",
)  # fmt: skip
KEY_VALUE: Key[Secret | None] = Key(
    "value", KEY, values.some_secret, None, "",
    'The key itself, in the place of `hash`: from a variable (`"${ALICES_KEY}"`) or a file '
    '(`"file:/run/secrets/alice"`).', secret=True,
)  # fmt: skip
KEY_SCOPES: Key[frozenset[KeyScope]] = Key(
    "scopes", KEY, values.scopes, frozenset({"infer"}), '["infer"]',
    "`infer`: use routes; `observe`: look at status, metrics and decisions; `admin`: start, stop, "
    "switch, and look. None implies another, but who may operate may look.",
)  # fmt: skip
KEY_ROUTES: Key[tuple[str, ...]] = Key(
    "routes", KEY, values.some_texts, (), "all",
    "Names of the routes that it may use; lists of models show it theirs alone.",
)  # fmt: skip
KEY_PRIORITY: Key[Priority | None] = Key(
    "priority", KEY, values.priority, None, "the route's",
    "The class of its requests, in the place of the route's; a header may lower it still.",
)  # fmt: skip
KEY_WAKE: Key[Wake | None] = Key(
    "wake", KEY, values.wake, None, "the route's",
    "What its requests may cause where the backend is down, in the place of the route's.",
)  # fmt: skip
KEY_MAX_IN_FLIGHT: Key[int | None] = Key(
    "max_in_flight", KEY, values.positive, None, "no bound",
    "Requests to routes that it may have under way or waiting; more are answered "
    "`too_many_in_flight`.",
)  # fmt: skip
KEY_PER_MINUTE: Key[int | None] = Key(
    "requests_per_minute", KEY, values.positive, None, "no bound",
    "Requests to routes in any 60 s; more are answered `rate_limited`, with the time until the "
    "next may come.",
)  # fmt: skip

#: In the order of the reference. `Any`: the values differ, and each is read by its own key.
KEYS: tuple[Key[Any], ...] = (
    LISTEN, ADMIN_LISTEN, ALLOWED_HOSTS, TLS_CERT, TLS_KEY, PREWARM, API_KEYS, ADMIN_KEYS,
    TRUSTED_PROXIES, MAX_BODY, MAX_BUFFERED, DRAIN_TIMEOUT, STOP_ON_EXIT, DOCKER_HOST,
    COMPOSE_PROJECT, STATE_FILE, POLICY, BATCH_MAX_WAIT, HOME, MAX_LEASE,
    CONTAINER, COMMAND, PORT, ADDRESS, SCHEME, BASE_PATH, ENV, CWD, HEALTH, NEEDS, BUSY,
    BACKEND_KEY, IDLE_TIMEOUT, START_TIMEOUT, STOP_GRACE, MAX_QUEUE, MAX_IN_FLIGHT, LINGER,
    START_GUESS, STOP_GUESS,
    BACKEND_OF, PATH, HOST, MODELS, AUTH, PUBLIC, HOST_HEADER, QUIET_PATHS, PRIORITY, WAKE,
    ON_LEASE, QUEUE_TIMEOUT, MAX_WAIT, RESPONSE_TIMEOUT, HEARTBEAT, TUNNEL_IDLE,
    MODE_ROUTES, TTL,
    KEY_HASH, KEY_VALUE, KEY_SCOPES, KEY_ROUTES, KEY_PRIORITY, KEY_WAKE, KEY_MAX_IN_FLIGHT,
    KEY_PER_MINUTE,
)  # fmt: skip


def names(*scopes: Scope) -> tuple[str, ...]:
    """The keys that may stand in a table of any of these scopes."""
    return tuple(key.name for key in KEYS if not set(scopes).isdisjoint(key.scopes))
