"""What `launcher check` finds in a configuration that reads well: what can't work (files,
programs, containers), and what may surprise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from launcher.config import BackendConfig, LauncherConfig, exposure
from launcher.core.types import Needs
from launcher.drivers.base import ContainerSpec, ProcessSpec
from launcher.drivers.container import ContainerDriver
from launcher.drivers.inspected import Container
from launcher.drivers.process import ProcessDriver
from launcher.errors import LauncherError


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` will fail; `warnings` may surprise."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(self.problems + other.problems, self.warnings + other.warnings)


async def check(config: LauncherConfig) -> Report:
    """Look at everything that the configuration names. An engine that doesn't answer is a
    warning."""
    report = Report(warnings=config.warnings) + await asyncio.to_thread(_check_files, config)
    report += Report(warnings=(*_timeouts(config), *_prewarm(config), *exposure.warnings(config)))
    report += await _check_programs(config)
    return report + await _check_containers(config)


def _check_files(config: LauncherConfig) -> Report:
    problems = [
        f"{config.source}: [launcher] {key}: there is no file {path}"
        for key, path in (("tls_cert", config.tls_cert), ("tls_key", config.tls_key))
        if path is not None and not Path(path).is_file()
    ]
    for backend in config.backends:
        spec = backend.driver
        if isinstance(spec, ProcessSpec) and spec.cwd and not Path(spec.cwd).is_dir():
            problems.append(f"{backend.id}: cwd: there is no directory {spec.cwd}")
    return Report(problems=tuple(problems))


def _timeouts(config: LauncherConfig) -> list[str]:
    return [
        f"{route.name}: max_wait ({route.max_wait:g} s) is not below queue_timeout "
        f"({route.queue_timeout:g} s): a request gives up before a busy backend makes room for it"
        for route in config.routes
        if route.max_wait >= route.queue_timeout
    ]


def _prewarm(config: LauncherConfig) -> list[str]:
    left = config.capacity_of
    found: list[str] = []
    for name in config.prewarm:
        needs = _needs(config.backend(name), config.capacity)
        lacking = [resource for resource, units in needs if units > left.get(resource, 0)]
        if lacking:
            found.append(
                f"{name}: prewarm: not enough {', '.join(lacking)} beside those before it: "
                "it waits for its first request"
            )
        else:
            left |= {resource: left[resource] - units for resource, units in needs}
    return found


def _needs(backend: BackendConfig, capacity: Needs) -> Needs:
    return capacity if backend.needs is None else backend.needs


async def _check_programs(config: LauncherConfig) -> Report:
    driver = ProcessDriver()
    driver.configure({one.id: one.driver for one in config.backends})
    return Report(problems=await driver.warnings())


async def _check_containers(config: LauncherConfig) -> Report:
    held = [one for one in config.backends if isinstance(one.driver, ContainerSpec)]
    if not held:
        return Report()
    driver = ContainerDriver(docker_host=config.docker_host, compose_project=config.compose_project)
    driver.configure({one.id: one.driver for one in held})
    await driver.open()
    try:
        report = Report(warnings=await driver.warnings())
        for backend in held:
            report += await _check_container(driver, backend)
    except LauncherError as error:
        return Report(warnings=(f"{error.message} The containers were not looked at.",))
    finally:
        await driver.close()
    return report


async def _check_container(driver: ContainerDriver, backend: BackendConfig) -> Report:
    try:
        found = await driver.find_container(backend.id)
    except LauncherError as error:
        if error.code != "backend_missing":
            raise
        # It is among the driver's own warnings.
        return Report()
    spec = backend.driver
    if found is None or not isinstance(spec, ContainerSpec):
        return Report()
    problems: list[str] = []
    if backend.health.kind == "docker" and not found.healthcheck:
        problems.append(
            f"{backend.id}: health: container {found.name!r} has no HEALTHCHECK, so that it would "
            'never be ready: give it one, or set health to a path or "tcp"'
        )
    return Report(tuple(problems), tuple(_port(backend, spec, found)))


def _port(backend: BackendConfig, spec: ContainerSpec, found: Container) -> list[str]:
    # In the host's network nothing has to be declared; with `address`, the port isn't used.
    if spec.address or found.network_mode == "host" or not found.exposed:
        return []
    if spec.port in found.exposed:
        return []
    known = ", ".join(map(str, found.exposed))
    return [
        f"{backend.id}: port: container {found.name!r} declares {known} and not {spec.port}: "
        "is that the port it listens on?"
    ]
