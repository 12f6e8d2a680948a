"""Whether the launcher is up (`/healthz`), whether it can do its work (`/readyz`), and its
metrics for Prometheus (`/metrics`). The first two are always open, cheap and harmless."""

from __future__ import annotations

from typing import Literal, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.endpoint import Context, Control, EndpointTable, Request
from launcher.api.shapes import ErrorFields, shape
from launcher.core.types import Snapshot

ENDPOINTS = EndpointTable()


#: Seconds after which a prober may ask again.
RETRY_AFTER = 5


@shape
class Alive(TypedDict):
    """The launcher is up."""

    status: Literal["ok"]


@shape
class Problem(TypedDict):
    """What keeps the launcher from its work."""

    code: str
    message: str
    driver: NotRequired[str]
    """The driver that has the problem."""
    backend: NotRequired[str]
    """The backend that has the problem."""


@shape
class Ready(TypedDict):
    """It can do its work."""

    status: Literal["ready"]
    problems: list[Problem]


@shape
class Unready(TypedDict):
    """It can't, and why not: also in the envelope that all errors have."""

    status: Literal["not ready"]
    problems: list[Problem]
    error: ErrorFields


@ENDPOINTS.add("GET", "/healthz", need="open", tag="status", everywhere=True, answers={200: Alive})
async def get_health(context: Context, request: Request) -> web.Response:
    """200: the launcher is up."""
    return json_answer(Alive(status="ok"))


@ENDPOINTS.add(
    "GET", "/readyz", need="open", tag="status", everywhere=True,
    answers={200: Ready, 503: Unready},
)  # fmt: skip
async def get_readiness(context: Context, request: Request) -> web.Response:
    """200: it can do its work; 503 with the reasons: an engine is away, a stop doesn't end."""
    found = problems(context.control, context.control.snapshot())
    if not found:
        return json_answer(Ready(status="ready", problems=[]))
    error = ErrorFields(
        message=" ".join(problem["message"] for problem in found),
        type="server_error",
        code=found[0]["code"],
        param=None,
    )
    return json_answer(
        Unready(status="not ready", problems=found, error=error),
        503,
        {"Retry-After": str(RETRY_AFTER)},
    )


@ENDPOINTS.add(
    "GET", "/metrics", need="observe", tag="status", answers={200: str}, produces="text/plain"
)
async def get_metrics(context: Context, request: Request) -> web.Response:
    """Prometheus; the table is below."""
    body = await context.metrics.render()
    return web.Response(body=body, headers={"Content-Type": context.metrics.content_type})


def problems(control: Control, snapshot: Snapshot) -> list[Problem]:
    """Return what keeps the launcher from its work, worst first; each with a stable `code`.

    A backend that fails to start is no problem of the launcher's.
    """
    found: list[Problem] = []
    if snapshot.closed:
        found.append({"code": "draining", "message": "The launcher is shutting down."})
    elif snapshot.backends and all(one.drained for one in snapshot.backends.values()):
        message = "Everything is drained: new requests are refused until it is resumed."
        found.append({"code": "draining", "message": message})
    for driver, reason in sorted(control.driver_health().items()):
        if reason is not None:
            found.append(
                {
                    "code": "docker_unavailable",
                    "driver": driver,
                    "message": f"{driver}: {reason.rstrip('.')}. Backends that run are "
                    "served on; nothing can be started or stopped.",
                }
            )
    for backend in snapshot.backends.values():
        if backend.stop_failure is not None:
            found.append(
                {
                    "code": "backend_stop_failed",
                    "backend": backend.id,
                    "message": f"{backend.id} does not stop and keeps its place: "
                    f"{backend.stop_failure.message}",
                }
            )
    unseen = [one.id for one in snapshot.backends.values() if one.reachable and not one.known]
    if unseen and not found:
        found.append(
            {
                "code": "docker_unavailable",
                "message": f"Not looked at yet: {', '.join(unseen)}. Nothing is started before.",
            }
        )
    return found
