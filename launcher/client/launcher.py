"""What a running launcher can be asked. Must not know how anything is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from launcher.client import reading
from launcher.client.reports import PastDecision, PlanReport, StatusReport
from launcher.client.transport import DEFAULT_URL, TIMEOUT, Call, ClientError, Stream, Transport

R = TypeVar("R")


class LauncherClient:
    """One launcher. Whatever is read at once raises ClientError; what may take its time is a
    Call."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self.transport = Transport(url, key)

    def status(self) -> StatusReport:
        """GET /api/status"""
        return self._read("/api/status", reading.status_of)

    def plan(self, route: str) -> PlanReport:
        """GET /api/routes/{name}/plan"""
        return self._read(f"/api/routes/{quoted(route)}/plan", reading.plan_of)

    def decisions(self, limit: int) -> tuple[PastDecision, ...]:
        """GET /api/decisions, the newest first."""
        return self._read(f"/api/decisions?limit={limit}", reading.decisions_of)

    def logs(self, backend: str, *, tail: int, follow: bool = False) -> Stream:
        """GET /api/backends/{id}/logs: what it prints, as text."""
        how = f"?tail={tail}&follow=1" if follow else f"?tail={tail}"
        return self.transport.stream(f"/api/backends/{quoted(backend)}/logs{how}")

    def events(self) -> Stream:
        """GET /api/events: server-sent events."""
        return self.transport.stream("/api/events", Accept="text/event-stream")

    def start(self, route: str) -> Call:
        """Ask for a start; the call ends when the backend is ready, or with its error."""
        return self.transport.call("POST", f"/api/routes/{quoted(route)}/start?wait=1")

    def stop(self, route: str, *, force: bool = False) -> Call:
        """Ask for a stop; the call ends when it is confirmed that nothing runs."""
        how = "?wait=1&force=1" if force else "?wait=1"
        return self.transport.call("POST", f"/api/routes/{quoted(route)}/stop{how}")

    def _read(self, path: str, reading: Callable[[bytes], R]) -> R:
        raw = self.transport.call("GET", path, timeout=TIMEOUT).result()
        try:
            return reading(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClientError(
                f"{self.transport.url} answers, but not as a launcher ({error!r})"
            ) from None


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
