"""Why a start or a stop failed, in words for clients and operators, secrets taken out.

Knows neither tasks nor the scheduler: text in, `Failure` out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from launcher.core.types import BackendId, Failure
from launcher.drivers.base import Observation
from launcher.errors import LauncherError

#: Lines of a backend's output that go with a failed start.
LOG_LINES = 20

Redact = Callable[[str], str]
"""Takes the configured secrets out of a text."""


def from_error(error: LauncherError, redact: Redact, lines: Iterable[str] = ()) -> Failure:
    """A driver's error as the failure that its waiters are told."""
    parts = [error.detail] if error.detail else []
    parts.extend(lines)
    return Failure(error.code, redact(error.message), redact("\n".join(parts)) or None)


def died(
    backend: BackendId,
    seen: Observation,
    instance: str | None,
    lines: Iterable[str],
    redact: Redact,
) -> Failure:
    """It ended (or was replaced) before it became ready."""
    if not seen.exists:
        return Failure(
            "backend_missing", f"{backend} was removed while it started; create it again."
        )
    if seen.running:
        what = f"{backend} was restarted by somebody else while it started"
        if instance is None:
            what = f"{backend} could not be identified"
        return Failure(
            "backend_start_failed",
            f"{what}; a restart policy does that after a crash: set it to `no`.",
            redact("\n".join(lines)) or None,
        )
    facts = []
    if seen.exit_code is not None:
        facts.append(f"exit code {seen.exit_code}")
    if seen.oom_killed:
        facts.append("killed because it was out of memory")
    if seen.error:
        facts.append(redact(seen.error))
    told = f" ({', '.join(facts)})" if facts else ""
    advice = "give it more memory or a smaller model" if seen.oom_killed else "its log says more"
    detail = [f"exit code: {seen.exit_code}, OOMKilled: {str(seen.oom_killed).lower()}", *lines]
    return Failure(
        "backend_start_failed",
        f"{backend} ended before it was ready{told}; {advice}.",
        redact("\n".join(detail)),
    )


def start_timeout(
    backend: BackendId, timeout: float, seen: str, lines: Iterable[str], redact: Redact
) -> Failure:
    """It was not ready by its deadline; `seen` is what the last probe met."""
    return Failure(
        "start_timeout",
        f"{backend} did not become ready within its start_timeout of {timeout:g} s; "
        f"last seen: {redact(seen).rstrip('.')}. If it only needs longer, raise "
        f"`start_timeout`; else look at its log, and at `health` and `port`.",
        redact("\n".join(lines)) or None,
    )


def stop_timeout(backend: BackendId, seconds: float) -> Failure:
    """The driver did not confirm the stop in time."""
    return Failure(
        "backend_stop_failed",
        f"{backend} did not stop within {seconds:g} s; it is tried again. "
        f"Look at what holds it, and stop it by hand if need be.",
    )


def crashed(code: str, backend: BackendId, what: str, error: Exception) -> Failure:
    """A driver broke its promise to raise only LauncherError."""
    return Failure(
        code,
        f"{what} {backend} failed inside the launcher ({type(error).__name__}); see its log.",
    )
