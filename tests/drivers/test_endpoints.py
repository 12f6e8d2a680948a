"""Where a container may answer, from every place the launcher may be in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.drivers.base import ContainerSpec
from launcher.drivers.endpoints import candidates, own_container_ids
from launcher.drivers.inspected import Attachment, Container, Published
from launcher.http.endpoint import Endpoint

SPEC = ContainerSpec("c", 8000)
ID = "ab" * 32


def net(number: int, address: int = 0, **more: str) -> Attachment:
    ipv4 = f"10.0.{number}.{address}" if address else ""
    return Attachment(f"net{number}", f"id{number}", ipv4, gateway=f"10.0.{number}.1", **more)


def container(
    *networks: Attachment,
    published: tuple[Published, ...] = (),
    mode: str = "bridge",
    id: str = "t",
) -> Container:
    return Container(
        id=id,
        name="c",
        status="running",
        running=True,
        started_at="2026-01-01T00:00:00Z",
        exit_code=0,
        oom_killed=False,
        error="",
        health=None,
        tty=False,
        hostname="",
        restart_policy="no",
        network_mode=mode,
        networks=networks,
        published=published,
    )


def places(
    target: Container,
    own: Container | None = None,
    engine_host: str | None = None,
    spec: ContainerSpec = SPEC,
) -> list[str]:
    found = candidates(spec, target, target, own, engine_host)
    assert len(set(found)) == len(found)
    return [one.authority for one in found]


EVERYWHERE = Published(8000, "0.0.0.0", 9000)
LOCAL = Published(8000, "127.0.0.1", 9001)
LAN = Published(8000, "192.168.1.5", 9002)
V6 = Published(8000, "::", 9003)
OTHER = Published(8080, "0.0.0.0", 9004)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (EVERYWHERE, "127.0.0.1:9000"),
        (LOCAL, "127.0.0.1:9001"),
        (LAN, "192.168.1.5:9002"),
        (V6, "[::1]:9003"),
        (replace(EVERYWHERE, host_ip=""), "127.0.0.1:9000"),
    ],
)
def test_on_a_host_the_published_port_then_the_bridge(published: Published, expected: str) -> None:
    target = container(net(1, 7), published=(OTHER, published))
    assert places(target) == [expected, "10.0.1.7:8000"]


def test_on_a_host_without_a_published_port() -> None:
    assert places(container(net(1, 7), net(2, 8))) == ["10.0.1.7:8000", "10.0.2.8:8000"]


def test_host_mode_on_a_host() -> None:
    assert places(container(mode="host")) == ["127.0.0.1:8000"]


def test_in_a_container_shared_networks_come_first() -> None:
    own = container(net(2, 2), net(3, 2), id="own")
    target = container(net(1, 7), net(2, 8), net(3, 9), published=(EVERYWHERE, LOCAL, V6))
    assert places(target, own) == [
        "10.0.2.8:8000",
        "10.0.3.9:8000",
        # Then the published port through the host's side of each own network; the host's
        # loopback is out of reach, and so are networks that aren't shared.
        "10.0.2.1:9000",
        "10.0.3.1:9000",
    ]


def test_in_a_container_a_port_on_the_lan() -> None:
    own = container(net(2, 2), id="own")
    assert places(container(net(1, 7), published=(LAN,)), own) == ["192.168.1.5:9002"]


def test_in_a_container_host_mode_is_behind_the_gateway() -> None:
    own = container(net(2, 2), id="own")
    assert places(container(mode="host"), own) == ["10.0.2.1:8000"]


def test_a_launcher_in_host_mode_sees_what_the_host_sees() -> None:
    own = container(mode="host", id="own")
    target = container(net(1, 7), published=(LOCAL,))
    assert places(target, own) == places(target)


def test_what_uses_the_launchers_own_network_is_local() -> None:
    own = container(net(2, 2), id="own")
    target = container(mode="container:own")
    found = candidates(SPEC, target, own, own, None)
    assert found[0] == Endpoint("127.0.0.1", 8000)


def test_networks_of_the_same_name_are_not_the_same() -> None:
    own = container(replace(net(1, 2), network_id="another"), id="own")
    assert places(container(net(1, 7)), own) == []


def test_a_remote_engine() -> None:
    target = container(net(1, 7), published=(EVERYWHERE,))
    assert places(target, engine_host="gpu-box") == ["gpu-box:9000"]
    assert places(container(mode="host"), engine_host="gpu-box") == ["gpu-box:8000"]


def test_ipv6_only() -> None:
    target = container(net(1, 0, ipv6="fd00::7"))
    assert places(target) == ["[fd00::7]:8000"]
    assert str(candidates(SPEC, target, target, None, None)[0]) == "http://[fd00::7]:8000"


def test_scheme_and_base_path_are_kept() -> None:
    spec = replace(SPEC, scheme="https", base_path="/api")
    target = container(net(1, 7))
    (place,) = candidates(spec, target, target, None, None)
    assert str(place) == "https://10.0.1.7:8000/api"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("box:9", Endpoint("box", 9)),
        ("box", Endpoint("box", 8000)),
        ("[fd00::1]:9", Endpoint("fd00::1", 9)),
        ("[fd00::1]", Endpoint("fd00::1", 8000)),
        ("fd00::1", Endpoint("fd00::1", 8000)),
        ("unix:/run/x.sock", Endpoint(unix_path="/run/x.sock")),
    ],
)
def test_an_address_overrides_everything(address: str, expected: Endpoint) -> None:
    target = container(net(1, 7), published=(EVERYWHERE,))
    spec = replace(SPEC, address=address)
    assert candidates(spec, target, target, None, None) == (expected,)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text("22 27 0:21 / /proc rw - proc proc rw\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    return tmp_path


def test_a_host_is_no_container(proc: Path) -> None:
    # What a host sees of the containers that it runs.
    (proc / "mountinfo").write_text(
        f"90 27 0:50 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n"
        f"91 27 0:51 / /var/lib/docker/overlay2/{ID}/merged rw - overlay overlay rw\n"
    )
    assert own_container_ids(proc, "gpu-box") == ()


def test_the_mount_of_etc_hostname_names_the_container(proc: Path) -> None:
    (proc / "mountinfo").write_text(
        f"99 80 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        f"98 80 8:1 /var/lib/docker/containers/{ID}/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
    )
    assert own_container_ids(proc) == (ID,)


@pytest.mark.parametrize("line", [f"9:memory:/docker/{ID}", f"0::/system.slice/docker-{ID}.scope"])
def test_the_cgroup_names_the_container(proc: Path, line: str) -> None:
    (proc / "cgroup").write_text(line + "\n")
    assert own_container_ids(proc) == (ID,)


def test_the_host_name_may_be_the_short_id(proc: Path) -> None:
    assert own_container_ids(proc, ID[:12]) == (ID[:12],)
    assert own_container_ids(proc, "coder") == ()
    assert own_container_ids(proc / "none", "") == ()
