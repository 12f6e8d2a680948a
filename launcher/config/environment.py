"""The environment, read by pydantic-settings and laid over what the file says.

Values stay text here: `tables` reads them by the same rules, and with the same messages, as
those of routes.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from launcher.config import schema
from launcher.config.sources import Document, Value, did_you_mean, lookup

PREFIX = "LAUNCHER_"

#: What names the file, what the client commands and the command line read for themselves, and
#: what the launcher gives its children: no keys of [launcher], and no mistakes.
ELSEWHERE = frozenset(
    "LAUNCHER_CONFIG LAUNCHER_URL LAUNCHER_API_KEY LAUNCHER_ADMIN_KEY LAUNCHER_LOG_FORMAT "
    "LAUNCHER_LOG_LEVEL LAUNCHER_CHILD".split()
)

#: Key of [launcher] → variables of other programs, and what an image sets for whoever sets
#: nothing: the first that is set fills in what neither the file nor `LAUNCHER_*` sets.
FILLS_IN: dict[str, tuple[str, ...]] = {
    "listen": ("LAUNCHER_DEFAULT_LISTEN",),
    "idle_timeout": ("IDLE_SECONDS",),
    "start_timeout": ("START_TIMEOUT_SECONDS",),
    "prewarm": ("PREWARM_ROUTES",),
    "backend_key": ("VLLM_API_KEY",),
    "docker_host": ("DOCKER_HOST", "DOCKER_HOST_SOCKET"),
    "compose_project": ("COMPOSE_PROJECT_NAME",),
}

#: Inherited names that are meant for this program alone: ignoring them is worth a warning.
_CONTESTED = ("IDLE_SECONDS", "START_TIMEOUT_SECONDS", "PREWARM_ROUTES", "DOCKER_HOST_SOCKET")

#: `MAP__<route>__<field>`: the fields, each a key of the route's table.
MAP_FIELDS = ("container", "port", "health", "auth", "models")
_MAP = re.compile(r"MAP__.+?__\w+")


class _Settings(BaseSettings):
    """Settings read from `environ`, the mapping given, instead of the process's environment."""

    model_config = SettingsConfigDict(extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = EnvSettingsSource(settings_cls)
        given.env_vars = {
            name if given.case_sensitive else name.lower(): text
            for name, text in init_settings()["environ"].items()
            if text
        }
        return (given,)


def _settings(name: str, variables: Iterable[str]) -> type[_Settings]:
    """Return settings of these variables: text each, in whatever case their names are written."""
    fields: dict[str, Any] = {one.lower(): (str | None, None) for one in variables}
    return create_model(name, __base__=_Settings, **fields)


#: Each overrides the key of [launcher] that it is named after.
VARIABLES = tuple(PREFIX + key.upper() for key in schema.names("launcher"))
Own = _settings("Own", VARIABLES)

INHERITED = tuple(name for names in FILLS_IN.values() for name in names)
Inherited = _settings("Inherited", INHERITED)


class Mapped(_Settings):
    """`MAP__<route>__<field>`, as written: routes that the file has may have capital letters."""

    model_config = SettingsConfigDict(
        case_sensitive=True, env_nested_delimiter="__", env_nested_max_split=2
    )

    MAP: dict[str, dict[str, str]] = {}


def read(settings: type[_Settings], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set in the environment, by the names of these settings."""
    return settings(**{"environ": environ}).model_dump(exclude_unset=True)


def add_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Lay the environment over the document: `LAUNCHER_*` and `MAP__*` win over the file,
    inherited names fill in what is left. Variables set to nothing count as not set."""
    filled = _with_files(document, environ)
    for variable, text in read(Own, filled).items():
        where = f"environment: {variable.upper()}"
        document.launcher[variable.removeprefix("launcher_")] = Value(text, where, literal=True)
    known = {*VARIABLES, *INHERITED, *ELSEWHERE}
    for name in sorted(environ):
        if name.startswith(PREFIX) and known.isdisjoint((name, name.removesuffix("_FILE"))):
            document.warnings.append(
                f"environment: {name} is unknown and ignored{did_you_mean(name, VARIABLES)}"
            )
    _add_inherited(document, read(Inherited, filled))
    _add_routes(document, environ)


def _with_files(document: Document, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with `NAME` filled in from the file that `NAME_FILE` names."""
    filled = dict(environ)
    for name in (*VARIABLES, *INHERITED):
        try:
            filled[name] = lookup(environ, name) or ""
        except ValueError as error:
            document.problems.append(f"environment: {error}")
    return filled


def _add_inherited(document: Document, inherited: Mapping[str, str]) -> None:
    for key, names in FILLS_IN.items():
        name = next((name for name in names if name.lower() in inherited), None)
        if name is None:
            continue
        if key not in document.launcher:
            where = f"environment: {name}"
            document.launcher[key] = Value(inherited[name.lower()], where, literal=True)
        elif not document.launcher[key].literal and name in _CONTESTED:
            document.warnings.append(
                f"environment: {name} is ignored, for {document.source} says {key}; "
                f"{PREFIX}{key.upper()} would override it"
            )


def _add_routes(document: Document, environ: Mapping[str, str]) -> None:
    variables = {
        name: text for name, text in environ.items() if _MAP.fullmatch(name) and text.strip()
    }
    for route, fields in sorted(read(Mapped, variables).get("MAP", {}).items()):
        for field, text in sorted(fields.items()):
            _add_field(document, route, field, text)


def _add_field(document: Document, route: str, field: str, text: str) -> None:
    where = f"environment: MAP__{route}__{field}"
    key = field.lower()
    if key not in MAP_FIELDS:
        document.warnings.append(
            f"{where} is ignored: MAP__<route>__ is followed by one of "
            f"{', '.join(MAP_FIELDS)}{did_you_mean(key, MAP_FIELDS)}"
        )
        return
    name = route if route in document.routes else route.lower().replace("_", "-")
    document.at.setdefault(f"[routes.{name}]", f"environment: MAP__{route}__*")
    values = document.routes.setdefault(name, {})
    if key == "container":
        # The container replaces whatever the file starts for this route.
        values.pop("backend", None)
        values.pop("command", None)
    values[key] = Value(text, where, literal=True)
