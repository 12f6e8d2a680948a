"""The process's environment: which variables the launcher knows, and their raw values.

Values stay strings here: `launcher.loading` reads them by the same rules, and with the same
messages, as routes.toml. Nothing here knows what a key means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "LAUNCHER_"

#: What the client commands and the command line read for themselves, and what the launcher
#: gives its children: none of it is a key of [launcher], and none of it is a mistake.
ELSEWHERE = frozenset(
    "LAUNCHER_URL LAUNCHER_API_KEY LAUNCHER_ADMIN_KEY LAUNCHER_LOG_FORMAT LAUNCHER_LOG_LEVEL "
    "LAUNCHER_CHILD".split()
)

#: A secret file is a line or a few; whatever is larger is the wrong file.
SECRET_FILE_LIMIT = 64 * 1024


class Settings(BaseSettings):
    """`LAUNCHER_*`: each overrides the key of `[launcher]` that it is named after, except
    `LAUNCHER_CONFIG`, which names the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    config: str | None = None
    listen: str | None = None
    admin_listen: str | None = None
    allowed_hosts: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    prewarm: str | None = None
    api_keys: str | None = None
    admin_keys: str | None = None
    trusted_proxies: str | None = None
    max_body: str | None = None
    max_buffered: str | None = None
    drain_timeout: str | None = None
    stop_on_exit: str | None = None
    docker_host: str | None = None
    compose_project: str | None = None
    state_file: str | None = None
    policy: str | None = None
    batch_max_wait: str | None = None
    home: str | None = None
    max_lease: str | None = None
    backend_key: str | None = None
    idle_timeout: str | None = None
    start_timeout: str | None = None
    stop_grace: str | None = None
    max_queue: str | None = None
    queue_timeout: str | None = None
    max_wait: str | None = None
    response_timeout: str | None = None
    heartbeat: str | None = None
    tunnel_idle: str | None = None


class Inherited(BaseSettings):
    """Names that fill in what neither routes.toml nor a `LAUNCHER_*` variable says: those of
    other programs, and what an image sets for whoever sets nothing."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    launcher_default_listen: str | None = None
    idle_seconds: str | None = None
    start_timeout_seconds: str | None = None
    prewarm_routes: str | None = None
    vllm_api_key: str | None = None
    docker_host: str | None = None
    docker_host_socket: str | None = None
    compose_project_name: str | None = None


#: Key of [launcher] → the inherited variables that fill it in, the first that is set.
FILLS_IN: dict[str, tuple[str, ...]] = {
    "listen": ("LAUNCHER_DEFAULT_LISTEN",),
    "idle_timeout": ("IDLE_SECONDS",),
    "start_timeout": ("START_TIMEOUT_SECONDS",),
    "prewarm": ("PREWARM_ROUTES",),
    "backend_key": ("VLLM_API_KEY",),
    "docker_host": ("DOCKER_HOST", "DOCKER_HOST_SOCKET"),
    "compose_project": ("COMPOSE_PROJECT_NAME",),
}


class _Given(EnvSettingsSource):
    """The environment that was handed in, rather than the process's own."""

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.env_vars = {name.lower(): value for name, value in environ.items() if value}


S = TypeVar("S", bound=BaseSettings)


def read(settings: type[S], environ: Mapping[str, str]) -> S:
    """Settings of the environment given. Variables set to nothing count as not set."""

    class Read(settings):  # type: ignore[valid-type,misc]  # mypy can't follow a TypeVar base
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: object, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (_Given(settings_cls, environ),)

    found: S = Read()
    return found


def unknown(environ: Mapping[str, str]) -> list[str]:
    """`LAUNCHER_*` variables that nothing reads, sorted. `…_FILE` counts as its own name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= ELSEWHERE | {name.upper() for name in Inherited.model_fields}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known and name not in known
    )


def with_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The environment with `NAME` filled in from the file that `NAME_FILE` names, where only
    the latter is set (the habit of container secrets), for the variables that are read here;
    and what went wrong."""
    names = [PREFIX + name.upper() for name in Settings.model_fields]
    names += [name.upper() for name in Inherited.model_fields]
    filled, problems = dict(environ), []
    for name in names:
        try:
            value = lookup(environ, name)
        except ValueError as error:
            problems.append(f"environment: {error}")
        else:
            if value is not None:
                filled[name] = value
    return filled, problems


def lookup(environ: Mapping[str, str], name: str) -> str | None:
    """A variable, or the contents of the file that `<name>_FILE` names. None: neither is set.

    Raises ValueError where the file can't be read.
    """
    if name in environ:
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return secret_file(path)
    except ValueError as error:
        raise ValueError(f"{name}_FILE: {error}") from None


def secret_file(path: str) -> str:
    """What a secret file holds, without the line end that editors leave.

    Raises ValueError where it can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_FILE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None
    if len(data) > SECRET_FILE_LIMIT:
        raise ValueError(f"{path} is larger than a secret can be (64 KiB)")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} isn't text (UTF-8)") from None
