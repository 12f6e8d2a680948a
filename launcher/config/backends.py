"""Tables → backends: which driver holds each, and which tables mean the same backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from launcher.config import BackendConfig, schema
from launcher.config.schema import Key
from launcher.config.tables import Table
from launcher.core.types import BackendId, Needs
from launcher.drivers.base import ContainerSpec, DriverSpec, ProcessSpec

#: The port of vLLM and most others.
DEFAULT_PORT = 8000

#: Fields in which two descriptions of one container must agree.
_SHARED = (
    *("health", "needs", "idle_timeout", "start_timeout", "max_queue", "busy"),
    *("max_in_flight", "linger", "start_guess", "stop_guess"),
)

_ONLY_COMMAND: tuple[Key[Any], ...] = (schema.ENV, schema.CWD)


@dataclass(frozen=True, slots=True)
class BackendDraft:
    """A backend and the table that describes it."""

    backend: BackendConfig
    table: Table


def draft(name: str, table: Table) -> BackendDraft | None:
    """Return the backend of one table, whose name is its id; None where the table names nothing
    to start (which is noted)."""
    driver: DriverSpec | None
    if schema.CONTAINER in table and schema.COMMAND in table:
        table.problem("has both container and command: keep one")
        driver = None
    elif schema.CONTAINER in table:
        driver = _container(table)
    elif schema.COMMAND in table:
        driver = _process(table)
    else:
        table.problem('names nothing to start: add container = "…" or command = ["…"]')
        driver = None
    backend = BackendConfig(
        id=BackendId(name),
        driver=driver or ProcessSpec(()),
        health=table.get(schema.HEALTH),
        needs=table.get(schema.NEEDS),
        idle_timeout=table.get(schema.IDLE_TIMEOUT),
        start_timeout=table.get(schema.START_TIMEOUT),
        max_queue=table.get(schema.MAX_QUEUE),
        busy=table.get(schema.BUSY),
        backend_key=table.get(schema.BACKEND_KEY),
        max_in_flight=table.get(schema.MAX_IN_FLIGHT),
        linger=table.get(schema.LINGER),
        start_guess=table.get(schema.START_GUESS),
        stop_guess=table.get(schema.STOP_GUESS),
    )
    return BackendDraft(backend, table) if driver is not None else None


def _container(table: Table) -> ContainerSpec | None:
    for key in _ONLY_COMMAND:
        if key in table:
            table.problem("belongs to command; a container has its own", key)
    container = table.get(schema.CONTAINER)
    spec = ContainerSpec(
        container=container or "",
        port=table.get(schema.PORT) or DEFAULT_PORT,
        scheme=table.get(schema.SCHEME),
        base_path=table.get(schema.BASE_PATH),
        address=table.get(schema.ADDRESS),
        stop_grace=table.get(schema.STOP_GRACE),
    )
    return spec if container else None


def _process(table: Table) -> ProcessSpec | None:
    if schema.ADDRESS in table:
        table.problem("belongs to container; a command is told its {port}", schema.ADDRESS)
    command, env, port = table.get(schema.COMMAND), table.get(schema.ENV), table.get(schema.PORT)
    has_port = any("{port}" in text for text in (*command, *(value for _, value in env)))
    if command and port is None and not has_port and schema.PORT not in table:
        table.problem(
            "nothing tells the program its port: write {port} where it goes, "
            "or set port to the one it always uses",
            schema.COMMAND,
        )
    if table.get(schema.HEALTH).kind == "docker":
        table.problem(
            '"docker" is a container\'s: for a command use a path or "tcp"', schema.HEALTH
        )
    spec = ProcessSpec(
        command=command,
        env=env,
        cwd=table.get(schema.CWD),
        port=port,
        scheme=table.get(schema.SCHEME),
        base_path=table.get(schema.BASE_PATH),
        stop_grace=table.get(schema.STOP_GRACE),
    )
    return spec if command else None


def share_containers(
    described: list[BackendDraft], capacity: Needs
) -> dict[BackendId, BackendConfig]:
    """Return the backend of every table, by the table's name.

    Tables that describe the same container in the same way share one backend; where they
    disagree, that is noted: two backends can't hold one container.
    """
    by_id: dict[BackendId, BackendConfig] = {}
    holder: dict[str, BackendDraft] = {}
    for one in described:
        spec = one.backend.driver
        if isinstance(spec, ContainerSpec):
            first = holder.setdefault(spec.container, one)
            differing = _differing(first.backend, one.backend, capacity)
            if differing:
                one.table.problem(
                    f"container {spec.container} is also in {first.table.label}, with different "
                    f"{', '.join(differing)}: make them agree, or describe it once in "
                    '[backends.NAME] and write backend = "NAME" in both routes'
                )
            by_id[one.backend.id] = first.backend
        else:
            by_id[one.backend.id] = one.backend
    return by_id


def _differing(one: BackendConfig, other: BackendConfig, capacity: Needs) -> list[str]:
    """Return the names of the fields in which two descriptions of one container differ."""
    one, other = (
        replace(each, needs=capacity if each.needs is None else each.needs) for each in (one, other)
    )
    found = [name for name in _SHARED if getattr(one, name) != getattr(other, name)]
    if one.backend_key != other.backend_key:
        found.append("backend_key")
    found += [
        name
        for name in ("port", "scheme", "base_path", "address", "stop_grace")
        if getattr(one.driver, name) != getattr(other.driver, name)
    ]
    return found


def check_needs(described: list[BackendDraft], capacity: Needs) -> None:
    """Note needs that no capacity can ever meet."""
    has = dict(capacity)
    for one in described:
        for resource, units in one.backend.needs or ():
            if resource not in has:
                known = ", ".join(has) or "nothing"
                one.table.problem(
                    f"{resource} is not in [capacity], which has {known}: add it there, "
                    "or it could never start",
                    schema.NEEDS,
                )
            elif units > has[resource]:
                one.table.problem(
                    f"needs {units} of {resource} and [capacity] has {has[resource]}: "
                    "it could never start",
                    schema.NEEDS,
                )
