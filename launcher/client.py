"""Speaking to a running launcher, for the commands of the command line.

Standard library only and no event loop: `launcher status` has to be quick. Must not know how
anything is shown.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote, urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"

R = TypeVar("R")

#: Seconds for connecting, and for answers that nobody has to wait for.
TIMEOUT = 10.0

#: OpenSSL's codes (x509_vfy.h) for a certificate that nobody trusted here has signed.
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})


class ClientError(Exception):
    """The launcher said no, or didn't answer. `code` is its error code, if it named one;
    `detail` what it tells operators (log lines, an exit code)."""

    def __init__(self, message: str, *, code: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail


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
class StatusReport:
    """Everything at a glance, at `server_time`."""

    version: str
    server_time: datetime
    started_at: datetime
    problems: tuple[str, ...]
    capacity: Mapping[str, int]
    used: Mapping[str, int]
    backends: tuple[BackendStatus, ...]
    raw: bytes
    """As the launcher sent it."""

    def of_route(self, route: str) -> BackendStatus | None:
        """The backend of a route (the liveliest, where it has several), None for no route."""
        order = ("starting", "ready", "draining", "stopping", "failed", "stopped")
        found = [one for one in self.backends if route in one.routes]
        return min(found, key=lambda one: order.index(one.state), default=None)


@dataclass(frozen=True, slots=True)
class PlannedDecision:
    """What would be decided: `start`, `stop`, `drain`, … and a sentence that says why."""

    deed: str
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


class LauncherClient:
    """One launcher, by its URL (`http://…`, `https://…` or `unix:/path`) and a key."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self._url = url
        self._key = key
        self._unix: str | None = None
        self._host, self._port, self._tls, self._base = "localhost", 80, False, ""
        if url.startswith("unix:/"):
            self._unix = url.removeprefix("unix:")
            return
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ClientError(f"{url} is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url} is not a URL: expected http://HOST:PORT or unix:/path")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")

    def status(self) -> StatusReport:
        """GET /api/status. Raises ClientError."""
        return self._read("/api/status", _report)

    def plan(self, route: str) -> PlanReport:
        """GET /api/routes/{name}/plan. Raises ClientError."""
        return self._read(f"/api/routes/{quote(route, safe='')}/plan", _plan)

    def _read(self, path: str, reading: Callable[[bytes], R]) -> R:
        raw = self.call("GET", path, timeout=TIMEOUT).result()
        try:
            return reading(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClientError(f"{self._url} answers, but not as a launcher ({error!r})") from None

    def start(self, route: str) -> Call:
        """Ask for a start; the call ends when the backend is ready, or with its error."""
        return self.call("POST", f"/api/routes/{quote(route, safe='')}/start?wait=1")

    def stop(self, route: str, *, force: bool = False) -> Call:
        """Ask for a stop; the call ends when it is confirmed that nothing runs."""
        how = "?wait=1&force=1" if force else "?wait=1"
        return self.call("POST", f"/api/routes/{quote(route, safe='')}/stop{how}")

    def call(self, method: str, path: str, *, timeout: float | None = None) -> Call:
        """Begin one request. `timeout` in seconds for each read; None waits for ever."""
        return Call(self, method, path, timeout)

    def connection(self) -> http.client.HTTPConnection:
        """A connection, not yet open."""
        if self._unix is not None:
            return _UnixConnection(self._unix)
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    @property
    def base(self) -> str:
        """The path of the URL, put before every path."""
        return self._base

    def explain(self, error: OSError | http.client.HTTPException) -> ClientError:
        """Why nobody answers, and what to do."""
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return ClientError(
                f"No launcher listens on {self._url}. Start one with `launcher serve`, or say "
                "where it is: --url or LAUNCHER_URL."
            )
        if isinstance(error, TimeoutError):
            return ClientError(f"{self._url} does not answer.")
        if isinstance(error, ssl.SSLCertVerificationError):
            advice = (
                " If a CA of your own signed it, set SSL_CERT_FILE to that CA's certificate."
                if error.verify_code in _UNKNOWN_ISSUER
                else ""
            )
            return ClientError(f"The certificate of {self._url}: {error.verify_message}.{advice}")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ClientError(f"{self._url} can't be reached, or broke off: {reason}.")


class Call:
    """One request on a thread of its own, so that its caller can look around or be
    interrupted meanwhile."""

    def __init__(
        self, client: LauncherClient, method: str, path: str, timeout: float | None
    ) -> None:
        self._client = client
        self._connection = client.connection()
        self._done = threading.Event()
        self._body = b""
        self._error: ClientError | None = None
        target = client.base + path
        threading.Thread(
            target=self._run, args=(method, target, timeout), name=f"{method} {path}", daemon=True
        ).start()

    def _run(self, method: str, target: str, timeout: float | None) -> None:
        try:
            self._connection.connect()
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout)
            self._connection.request(method, target, headers=self._client.headers())
            response = self._connection.getresponse()
            self._body = response.read()
            if response.status >= 300:
                self._error = _refusal(response.status, self._body)
        except (OSError, http.client.HTTPException) as error:
            self._error = self._client.explain(error)
        finally:
            self._connection.close()
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, after at most `timeout` seconds."""
        return self._done.wait(timeout)

    def result(self) -> bytes:
        """The body, when it has ended. Raises ClientError."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._body

    def cancel(self) -> None:
        """Hang up: the launcher forgets whoever has left."""
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def _refusal(status: int, body: bytes) -> ClientError:
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error["code"])
        detail = error.get("detail")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ClientError(f"It answered with status {status}, and not as a launcher does.")
    if status in (401, 403):
        message += " Keys: --key, LAUNCHER_ADMIN_KEY or LAUNCHER_API_KEY."
    return ClientError(message, code=code, detail=None if detail is None else str(detail))


def _report(raw: bytes) -> StatusReport:
    data = json.loads(raw)
    return StatusReport(
        version=str(data["version"]),
        server_time=datetime.fromisoformat(data["serverTime"]),
        started_at=datetime.fromisoformat(data["startedAt"]),
        problems=tuple(str(problem["message"]) for problem in data["problems"]),
        capacity=_units(data["capacity"]),
        used=_units(data["used"]),
        backends=tuple(_backend(one) for one in data["backends"]),
        raw=raw,
    )


def _backend(data: Mapping[str, object]) -> BackendStatus:
    routes, metrics = data["routes"], data["startMetrics"]
    if not isinstance(routes, list) or not isinstance(metrics, dict):
        raise TypeError("routes or startMetrics")
    return BackendStatus(
        backend=str(data["backend"]),
        routes=tuple(str(route) for route in routes),
        state=str(data["state"]),
        since=_time(data["since"]),
        in_flight=_whole(data["inFlight"]),
        queued=_whole(data["queued"]),
        needs=_units(data["needs"]),
        idle_stop_at=_time(data["idleStopAt"]),
        retry_at=_time(data["retryAt"]),
        failure=_trouble(data["failure"]),
        stop_failure=_trouble(data["stopFailure"]),
        predicted=_predicted(data["predictedWait"]),
        average_start=_seconds(metrics["averageDurationMs"]),
        start_count=_whole(metrics["startCount"]),
    )


def _plan(raw: bytes) -> PlanReport:
    data = json.loads(raw)
    rejection = data["rejection"]
    return PlanReport(
        route=str(data["route"]),
        outcome=str(data["outcome"]),
        backend=str(data["backend"]),
        predicted=_predicted(data["predictedWait"]),
        rejection=_trouble(rejection),
        retry_after=None if rejection is None else _seconds(rejection["retryAfterMs"]),
        decisions=tuple(
            PlannedDecision(str(one["deed"]), str(one["text"]), _seconds(one["afterMs"]) or 0.0)
            for one in data["decisions"]
        ),
        raw=raw,
    )


def _predicted(data: object) -> Predicted | None:
    if not isinstance(data, dict):
        return None
    wait, spread = _seconds(data["waitMs"]), _seconds(data["spreadMs"])
    return Predicted(_whole(data["place"]), wait or 0.0, spread or 0.0)


def _trouble(data: object) -> Trouble | None:
    if not isinstance(data, dict):
        return None
    detail = data.get("detail")
    return Trouble(str(data["code"]), str(data["message"]), None if detail is None else str(detail))


def _units(data: object) -> Mapping[str, int]:
    if not isinstance(data, dict):
        raise TypeError("units")
    return {str(name): _whole(units) for name, units in data.items()}


def _whole(data: object) -> int:
    if not isinstance(data, int):
        raise TypeError(f"{data!r} is not a whole number")
    return data


def _seconds(data: object) -> float | None:
    return data / 1000 if isinstance(data, (int, float)) else None


def _time(data: object) -> datetime | None:
    return datetime.fromisoformat(data) if isinstance(data, str) else None
