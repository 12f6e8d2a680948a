"""Tables → backends: which driver holds each, and which tables mean the same backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from launcher.config import BackendConfig
from launcher.core.types import BackendId, Needs
from launcher.drivers.base import ContainerSpec, DriverSpec, ProcessSpec
from launcher.loading import keys
from launcher.loading.keys import Key
from launcher.loading.tables import Table

#: vLLM's and most others'.
DEFAULT_PORT = 8000

#: Of the backend's own fields, those in which two descriptions of one container must agree.
_SHARED = (
    *("health", "needs", "idle_timeout", "start_timeout", "max_queue", "busy"),
    *("max_in_flight", "linger", "start_guess", "stop_guess"),
)

_ONLY_COMMAND: tuple[Key[Any], ...] = (keys.ENV, keys.CWD)


@dataclass(frozen=True, slots=True)
class Described:
    """A backend and the table that describes it."""

    backend: BackendConfig
    table: Table


def describe(name: str, table: Table) -> Described | None:
    """The backend of one table; None (noted in the table's problems) where it names nothing
    to start. The table's name is the backend's id."""
    driver: DriverSpec | None
    if keys.CONTAINER in table and keys.COMMAND in table:
        table.problem("has both container and command: keep one")
        driver = None
    elif keys.CONTAINER in table:
        driver = _container(table)
    elif keys.COMMAND in table:
        driver = _process(table)
    else:
        table.problem('names nothing to start: add container = "…" or command = ["…"]')
        driver = None
    backend = BackendConfig(
        id=BackendId(name),
        driver=driver or ProcessSpec(()),
        health=table.get(keys.HEALTH),
        needs=table.get(keys.NEEDS),
        idle_timeout=table.get(keys.IDLE_TIMEOUT),
        start_timeout=table.get(keys.START_TIMEOUT),
        max_queue=table.get(keys.MAX_QUEUE),
        busy=table.get(keys.BUSY),
        backend_key=table.get(keys.BACKEND_KEY),
        max_in_flight=table.get(keys.MAX_IN_FLIGHT),
        linger=table.get(keys.LINGER),
        start_guess=table.get(keys.START_GUESS),
        stop_guess=table.get(keys.STOP_GUESS),
    )
    return Described(backend, table) if driver is not None else None


def _container(table: Table) -> ContainerSpec | None:
    for key in _ONLY_COMMAND:
        if key in table:
            table.problem("belongs to command; a container has its own", key)
    container = table.get(keys.CONTAINER)
    spec = ContainerSpec(
        container=container or "",
        port=table.get(keys.PORT) or DEFAULT_PORT,
        scheme=table.get(keys.SCHEME),
        base_path=table.get(keys.BASE_PATH),
        address=table.get(keys.ADDRESS),
        stop_grace=table.get(keys.STOP_GRACE),
    )
    return spec if container else None


def _process(table: Table) -> ProcessSpec | None:
    if keys.ADDRESS in table:
        table.problem("belongs to container; a command is told its {port}", keys.ADDRESS)
    command, env, port = table.get(keys.COMMAND), table.get(keys.ENV), table.get(keys.PORT)
    told = any("{port}" in text for text in (*command, *(value for _, value in env)))
    if command and port is None and not told and keys.PORT not in table:
        table.problem(
            "nothing tells the program its port: write {port} where it goes, "
            "or set port to the one it always uses",
            keys.COMMAND,
        )
    if table.get(keys.HEALTH).kind == "docker":
        table.problem('"docker" is a container\'s: for a command use a path or "tcp"', keys.HEALTH)
    spec = ProcessSpec(
        command=command,
        env=env,
        cwd=table.get(keys.CWD),
        port=port,
        scheme=table.get(keys.SCHEME),
        base_path=table.get(keys.BASE_PATH),
        stop_grace=table.get(keys.STOP_GRACE),
    )
    return spec if command else None


def share(described: list[Described], capacity: Needs) -> dict[BackendId, BackendConfig]:
    """Id of every table → its backend. Tables that describe the same container in the same way
    share one backend; where they disagree, that is a problem: two backends can't hold one
    container."""
    by_id: dict[BackendId, BackendConfig] = {}
    holder: dict[str, Described] = {}
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
    """The names of what two descriptions of one container don't agree on."""
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


def check_needs(described: list[Described], capacity: Needs) -> None:
    """Note needs that no capacity can ever meet."""
    has = dict(capacity)
    for one in described:
        for resource, units in one.backend.needs or ():
            if resource not in has:
                known = ", ".join(has) or "nothing"
                one.table.problem(
                    f"{resource} is not in [capacity], which has {known}: add it there, "
                    "or it could never start",
                    keys.NEEDS,
                )
            elif units > has[resource]:
                one.table.problem(
                    f"needs {units} of {resource} and [capacity] has {has[resource]}: "
                    "it could never start",
                    keys.NEEDS,
                )
