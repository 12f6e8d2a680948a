"""What a running launcher can be asked. Must not know how anything is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote

from launcher.client import reading
from launcher.client.reports import (
    LeaseReport,
    ModeReport,
    PastDecision,
    PlanReport,
    StatusReport,
    SwitchReport,
)
from launcher.client.transport import DEFAULT_URL, TIMEOUT, Call, ClientError, Stream, Transport

R = TypeVar("R")


class LauncherClient:
    """One launcher. Whatever is answered at once raises ClientError; what may take its time is
    a Call, what goes on a Stream. A `ttl` is written as people write it (`45m`)."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self.transport = Transport(url, key)

    # -- looking

    def status(self) -> StatusReport:
        """GET /api/status"""
        return self._ask(reading.status_of, "GET", "/api/status")

    def plan(self, route: str) -> PlanReport:
        """GET /api/routes/{name}/plan"""
        return self._ask(reading.plan_of, "GET", f"/api/routes/{quoted(route)}/plan")

    def decisions(self, limit: int) -> tuple[PastDecision, ...]:
        """GET /api/decisions, the newest first."""
        return self._ask(reading.decisions_of, "GET", f"/api/decisions?limit={limit}")

    def logs(self, backend: str, *, tail: int, follow: bool = False) -> Stream:
        """GET /api/backends/{id}/logs: what it prints, as text."""
        how = f"?tail={tail}&follow=1" if follow else f"?tail={tail}"
        return self.transport.stream(f"/api/backends/{quoted(backend)}/logs{how}")

    def events(self) -> Stream:
        """GET /api/events: server-sent events."""
        return self.transport.stream("/api/events", Accept="text/event-stream")

    # -- starting and stopping

    def start(self, route: str) -> Call:
        """Ask for a start; the call ends when the backend is ready, or with its error."""
        return self.transport.call("POST", f"/api/routes/{quoted(route)}/start?wait=1")

    def stop(self, route: str, *, force: bool = False) -> Call:
        """Ask for a stop; the call ends when it is confirmed that nothing runs."""
        how = "?wait=1&force=1" if force else "?wait=1"
        return self.transport.call("POST", f"/api/routes/{quoted(route)}/stop{how}")

    # -- switching

    def begin_switch(self, name: str, *, model: bool = False, force: bool = False) -> bytes:
        """POST /api/switch to a route, or to whatever serves a model; the answer as it is sent,
        with a `switch_id` in it."""
        body = {"model" if model else "route": name, "wait": False, "force": force}
        return self._ask(_identified, "POST", "/api/switch", body)

    def switch(self, id: str) -> SwitchReport:
        """GET /api/switches/{id}"""
        return self._ask(reading.switch_of, "GET", f"/api/switches/{quoted(id)}")

    # -- leases and modes

    def leases(self) -> tuple[LeaseReport, ...]:
        """GET /api/leases: those that are held or asked for."""
        return self._ask(reading.leases_of, "GET", "/api/leases")

    def take_lease(
        self,
        route: str | None,
        needs: Mapping[str, int | str] | None,
        *,
        ttl: str | None,
        pin: bool,
        note: str,
    ) -> Call:
        """POST /api/leases; the call ends when it is granted, or with its error. It holds a
        route, or reserves what it `needs`."""
        body: dict[str, object] = {"route": route, "note": note}
        body |= {"needs": dict(needs)} if needs else {}
        body |= {"pin": True} if pin else {}
        body |= {"ttl": ttl} if ttl is not None else {}
        return self.transport.call("POST", "/api/leases", body)

    def renew_lease(self, id: str, ttl: str | None) -> LeaseReport:
        """PUT /api/leases/{id}"""
        body = {} if ttl is None else {"ttl": ttl}
        return self._ask(reading.lease_of, "PUT", f"/api/leases/{quoted(id)}", body)

    def release_lease(self, id: str) -> None:
        """DELETE /api/leases/{id}"""
        self._ask(_anything, "DELETE", f"/api/leases/{quoted(id)}")

    def mode(self) -> ModeReport:
        """GET /api/mode"""
        return self._ask(reading.mode_of, "GET", "/api/mode")

    def set_mode(self, mode: str, ttl: str | None) -> Call:
        """POST /api/mode; the call ends when its routes are up, or with its error."""
        body = {"mode": mode} if ttl is None else {"mode": mode, "ttl": ttl}
        return self.transport.call("POST", "/api/mode", body)

    def leave_mode(self) -> None:
        """DELETE /api/mode"""
        self._ask(_anything, "DELETE", "/api/mode")

    # -- the launcher itself

    def drain(self, route: str | None) -> None:
        """POST /api/drain: new requests of a route, or all, are refused."""
        self._ask(_anything, "POST", "/api/drain", {"route": route})

    def resume(self, route: str | None) -> None:
        """POST /api/resume: they are taken again."""
        self._ask(_anything, "POST", "/api/resume", {"route": route})

    def reload(self) -> Call:
        """POST /api/reload; the call ends when what differs is applied, or with its error."""
        return self.transport.call("POST", "/api/reload")

    def _ask(self, reading: Callable[[bytes], R], method: str, path: str, body: object = None) -> R:
        raw = self.transport.call(method, path, body, timeout=TIMEOUT).result()
        return self.read(reading, raw)

    def read(self, reading: Callable[[bytes], R], raw: bytes) -> R:
        """An answer as a report. Raises ClientError where it is no launcher's."""
        try:
            return reading(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClientError(
                f"{self.transport.url} answers, but not as a launcher ({error!r})"
            ) from None


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _identified(raw: bytes) -> bytes:
    json.loads(raw)["switch_id"]
    return raw


def _anything(raw: bytes) -> None:
    """Whatever it answers, it was done."""
