"""`POST /api/reload`: the configuration is read again, and what differs is applied."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape
from launcher.config.difference import Names
from launcher.config.reload import Reloaded
from launcher.errors import ConfigError, LauncherError


class Reloads(Protocol):
    """Who reloads."""

    async def reload(self, asked_by: str) -> Reloaded:
        """Read the configuration and apply what differs. Raises ConfigError."""
        ...


@shape
class NamesChanged(TypedDict):
    """Routes, or backends."""

    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    """Name → keys of routes.toml whose values are others now."""


@shape
class BackendsChanged(NamesChanged):
    """Backends."""

    replaced: list[str]
    """They are something else now (another container, command or port): what runs drains and is
    stopped, and their requests wait for what comes."""


@shape
class ReloadAnswer(TypedDict):
    """What a reload changed."""

    changed: bool
    """Whether anything did."""
    routes: NamesChanged
    backends: BackendsChanged
    settings: list[str]
    """Keys of `[launcher]` and whole tables, such as `capacity`, that are applied."""
    needs_restart: list[str]
    """Keys of `[launcher]` that differ and stay as they were until the launcher is restarted."""
    warnings: list[str]
    duration_ms: int


class Reload:
    """Reloading by hand."""

    def __init__(self, reloader: Reloads) -> None:
        self._reloader = reloader

    def endpoints(self) -> tuple[Endpoint, ...]:
        """POST /api/reload"""
        return (
            Endpoint(
                method="POST", path="/api/reload", need="admin", answer=self.reload,
                tag="control", operation="reload_configuration",
                summary="Read the configuration again and apply what differs; no request fails "
                "of it.",
                description="Backends that are no longer configured drain and are stopped, the "
                "others run on. A configuration with a problem in it changes nothing: "
                "`bad_configuration`, with all that is wrong in `detail`.",
                answers={200: ReloadAnswer},
            ),
        )  # fmt: skip

    async def reload(self, request: ApiRequest) -> ApiResponse:
        """POST /api/reload"""
        try:
            done = await self._reloader.reload("POST /api/reload")
        except ConfigError as error:
            count = len(error.problems)
            some = "1 problem" if count == 1 else f"{count} problems"
            raise LauncherError(
                "bad_configuration",
                f"The configuration has {some}; nothing was changed. `launcher check` tells the "
                "same.",
                detail="\n".join(error.problems),
            ) from None
        difference = done.difference
        return json_answer(
            ReloadAnswer(
                changed=bool(difference),
                routes=_names(difference.routes),
                backends=BackendsChanged(
                    **_names(difference.backends), replaced=list(difference.replaced)
                ),
                settings=list(difference.settings),
                needs_restart=list(difference.needs_restart),
                warnings=list(done.warnings),
                duration_ms=round(done.seconds * 1000),
            )
        )


def _names(names: Names) -> NamesChanged:
    return NamesChanged(
        added=list(names.added),
        removed=list(names.removed),
        changed={name: list(keys) for name, keys in names.changed.items()},
    )
