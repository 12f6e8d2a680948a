"""Where a container may answer, seen from wherever the launcher runs. No I/O but /proc.

The order: networks shared with the launcher's own container, published ports, bridge
addresses, host mode. The first candidate that answers a probe is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher.drivers.base import ContainerSpec
from launcher.drivers.inspected import Container
from launcher.http.endpoint import Endpoint

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{12}")
_MOUNTED_BY_ENGINE = frozenset(["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"])
_ANY_V4 = frozenset(["", "0.0.0.0"])


def own_container_ids(proc: Path = Path("/proc/self"), hostname: str = "") -> tuple[str, ...]:
    """Ids that this process's own container may have; the engine has the last word on them.

    On a host the mount table names other containers (their root file systems), so only what
    the engine mounts into a container counts: /etc/hostname and its like come from
    `…/containers/<id>/`. cgroup v1 and rootful v2 paths end in the id. By default a
    container's host name is its short id.
    """
    found: dict[str, None] = {}
    for line in _lines(proc / "mountinfo"):
        fields = line.split()
        if len(fields) > 4 and fields[4] in _MOUNTED_BY_ENGINE:
            found.update(dict.fromkeys(_CONTAINER_ID.findall(fields[3])))
    for line in _lines(proc / "cgroup"):
        found.update(dict.fromkeys(_CONTAINER_ID.findall(line)))
    if _SHORT_ID.fullmatch(hostname):
        found[hostname] = None
    return tuple(found)


def candidates(
    spec: ContainerSpec,
    target: Container,
    holder: Container,
    own: Container | None,
    engine_host: str | None,
) -> tuple[Endpoint, ...]:
    """Every place where `target` may answer, best first, none twice.

    `holder` is the container whose network `target` uses: itself, but for
    `network_mode: container:…`. `own` is the launcher's container, None on a host.
    `engine_host` is the engine's machine where that isn't this one (`tcp://…`), else None.
    """
    if spec.address is not None:
        return (_override(spec, spec.address),)
    places: dict[tuple[str, int], None] = {}
    if own is not None and own.network_mode == "host":
        own = None  # it shares the host's network, so it sees what the host sees
    for place in _places(spec.port, target, holder, own, engine_host):
        places[place] = None
    return tuple(
        Endpoint(host=host, port=port, scheme=spec.scheme, base_path=spec.base_path)
        for host, port in places
    )


def _places(
    port: int,
    target: Container,
    holder: Container,
    own: Container | None,
    engine_host: str | None,
) -> Iterator[tuple[str, int]]:
    if own is not None and own.id in (holder.id, target.id):
        yield "127.0.0.1", port
    if own is not None:
        mine = {one.network_id or one.network for one in own.networks}
        for there in holder.networks:
            if there.address and (there.network_id or there.network) in mine:
                yield there.address, port
    gateways = tuple(one.gateway for one in own.networks if one.gateway) if own else ()
    for published in holder.published:
        if published.port != port:
            continue
        for host in _published_hosts(published.host_ip, gateways, own is not None, engine_host):
            yield host, published.host_port
    if own is None and engine_host is None:
        for there in holder.networks:
            if there.address:
                yield there.address, port
    if holder.network_mode == "host":
        local = gateways if own is not None else (engine_host or "127.0.0.1",)
        for host in local:
            yield host, port


def _published_hosts(
    host_ip: str, gateways: Iterable[str], contained: bool, engine_host: str | None
) -> Iterable[str]:
    if engine_host is not None:
        return (engine_host,)
    if contained:
        # The host's loopback is out of reach from inside, and gateways are IPv4 here.
        if host_ip in _ANY_V4:
            return gateways
        return () if host_ip.startswith("127.") or host_ip in ("::", "::1") else (host_ip,)
    if host_ip == "::":
        return ("::1",)
    return ("127.0.0.1",) if host_ip in _ANY_V4 else (host_ip,)


def _override(spec: ContainerSpec, address: str) -> Endpoint:
    """`address` is `host:port`, `[v6]:port`, a bare host (then `spec.port`), or `unix:/path`."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return Endpoint(unix_path=path, scheme=spec.scheme, base_path=spec.base_path)
    host, port = address, spec.port
    bare_v6 = address.count(":") > 1 and not address.startswith("[")
    if ":" in address and not bare_v6 and not address.endswith("]"):
        host, _, written = address.rpartition(":")
        port = int(written)
    return Endpoint(host.strip("[]"), port, scheme=spec.scheme, base_path=spec.base_path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
