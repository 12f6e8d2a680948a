"""The part of Docker's ContainerInspect answer that the launcher reads, as typed data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from launcher.drivers.base import Observation

COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_ONEOFF = "com.docker.compose.oneoff"
"""`True` on what `docker compose run` made: never a service's own container."""

Json = Mapping[str, object]
HealthStatus = Literal["starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place on one network; addresses are empty while it doesn't run."""

    network: str
    network_id: str
    ipv4: str = ""
    ipv6: str = ""
    gateway: str = ""

    @property
    def address(self) -> str:
        """IPv4 where there is one, else IPv6, else empty."""
        return self.ipv4 or self.ipv6


@dataclass(frozen=True, slots=True)
class Published:
    """A container's TCP port on its host."""

    port: int
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Container:
    """One container at one moment."""

    id: str
    name: str
    """Without the slash that the engine puts before it."""
    status: str
    """created, running, paused, restarting, removing, exited or dead."""
    running: bool
    """The engine's word: true also while paused, and while waiting for a policy's restart."""
    started_at: str | None
    """As the engine writes it; None before the first start."""
    exit_code: int
    oom_killed: bool
    error: str
    health: HealthStatus | None
    tty: bool
    hostname: str
    restart_policy: str
    network_mode: str
    networks: tuple[Attachment, ...]
    published: tuple[Published, ...]
    exposed: tuple[int, ...] = ()
    """TCP ports that its image or its making declares."""
    healthcheck: bool = False
    """It has a HEALTHCHECK of its own, and it isn't turned off."""

    @property
    def restarting(self) -> bool:
        """Died, and its restart policy waits to start it again."""
        return self.status == "restarting"

    @property
    def occupies(self) -> bool:
        """A process of it exists, so that it holds what it needs."""
        return self.running and not self.restarting

    @property
    def instance(self) -> str | None:
        """Differs between any two starts."""
        return None if self.started_at is None else f"{self.id[:12]}@{self.started_at}"

    @property
    def started_epoch(self) -> float | None:
        """Unix time of the start, on the engine's clock."""
        return None if self.started_at is None else epoch(self.started_at)

    def observation(self, engine_now: float) -> Observation:
        """As the launcher's core sees it. `engine_now` is Unix time on the engine's clock."""
        started = self.started_epoch
        ended = not self.occupies and started is not None
        return Observation(
            running=self.occupies,
            instance=self.instance,
            running_for=max(0.0, engine_now - started) if self.occupies and started else 0.0,
            health=self.health if self.occupies else None,
            exit_code=self.exit_code if ended else None,
            oom_killed=self.oom_killed if ended else False,
            error=self.error or None,
        )


def container(data: Json) -> Container:
    """From the JSON of `GET /containers/{id}/json`. Unknown and absent fields are fine."""
    state = _dict(data, "State")
    config = _dict(data, "Config")
    host = _dict(data, "HostConfig")
    network = _dict(data, "NetworkSettings")
    started = _str(state, "StartedAt")
    health = _str(_dict(state, "Health"), "Status")
    return Container(
        id=_str(data, "Id"),
        name=_str(data, "Name").removeprefix("/"),
        status=_str(state, "Status"),
        running=state.get("Running") is True,
        started_at=None if not started or started.startswith("0001-") else started,
        exit_code=_int(state, "ExitCode"),
        oom_killed=state.get("OOMKilled") is True,
        error=_str(state, "Error"),
        health=(
            cast(HealthStatus, health) if health in ("starting", "healthy", "unhealthy") else None
        ),
        tty=config.get("Tty") is True,
        hostname=_str(config, "Hostname"),
        restart_policy=_str(_dict(host, "RestartPolicy"), "Name") or "no",
        network_mode=_str(host, "NetworkMode"),
        networks=_networks(_dict(network, "Networks")),
        published=_published(_dict(network, "Ports")),
        exposed=_exposed(_dict(config, "ExposedPorts")),
        healthcheck=_dict(config, "Healthcheck").get("Test") not in (None, [], ["NONE"]),
    )


def _networks(data: Json) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            network=name,
            network_id=_str(one, "NetworkID"),
            ipv4=_str(one, "IPAddress"),
            ipv6=_str(one, "GlobalIPv6Address"),
            gateway=_str(one, "Gateway"),
        )
        for name in sorted(data)
        if (one := _dict(data, name))
    )


def _published(data: Json) -> tuple[Published, ...]:
    found: list[Published] = []
    for inner in sorted(data):
        port, _, protocol = inner.partition("/")
        bindings = data[inner]
        if protocol not in ("", "tcp") or not isinstance(bindings, list):
            continue
        for binding in bindings:
            outer = _str(binding, "HostPort")
            if outer:
                found.append(Published(int(port), _str(binding, "HostIp"), int(outer)))
    return tuple(found)


def _exposed(data: Json) -> tuple[int, ...]:
    ports = (declared.partition("/") for declared in data)
    return tuple(sorted(int(port) for port, _, protocol in ports if protocol in ("", "tcp")))


def epoch(written: str) -> float | None:
    """Unix time of an RFC 3339 time as the engine writes it; None where it is none."""
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return None


def _dict(data: Json, key: str) -> Json:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _str(data: Json, key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _int(data: Json, key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) else 0
