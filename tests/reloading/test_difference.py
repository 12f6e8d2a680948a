"""What a new configuration changes, by name; and what has to wait for a restart."""

from __future__ import annotations

from dataclasses import fields, replace

from launcher.config import BackendConfig, LauncherConfig, Listen, ModelSpec, RouteConfig, Secret
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.reloading.difference import FIXED, Difference, Names, applicable, compare


def backend(name: str, container: str | None = None) -> BackendConfig:
    return BackendConfig(BackendId(name), ContainerSpec(container or name, 8000))


def route(name: str, *backends: str) -> RouteConfig:
    return RouteConfig(name, tuple(map(BackendId, backends or (name,))), (f"/{name}",))


BEFORE = LauncherConfig(
    routes=(route("a"), route("b")), backends=(backend("a"), backend("b")), prewarm=()
)


def test_nothing() -> None:
    assert not compare(BEFORE, BEFORE)
    assert compare(BEFORE, replace(BEFORE, warnings=("x",), source="y")) == Difference()


def test_routes_and_backends_by_name() -> None:
    after = replace(
        BEFORE,
        routes=(replace(route("b"), prefixes=("/b", "/x"), models=(ModelSpec("m"),)), route("c")),
        backends=(
            replace(
                backend("b"),
                backend_key=Secret("sk-1"),
                driver=ContainerSpec("b", 8000, stop_grace=1.0),
            ),
            backend("c"),
        ),
    )
    found = compare(BEFORE, after)
    assert found == Difference(
        routes=Names(added=("c",), removed=("a",), changed={"b": ("path", "models")}),
        backends=Names(added=("c",), removed=("a",), changed={"b": ("backend_key", "stop_grace")}),
    )
    assert found
    assert "sk-1" not in repr(found)


def test_another_container_is_a_replacement_and_no_change() -> None:
    after = replace(
        BEFORE, backends=(backend("a"), replace(backend("b", "other"), idle_timeout=1.0))
    )
    assert compare(BEFORE, after) == Difference(replaced=("b",))
    assert compare(BEFORE, after)


def test_settings_apart_from_what_needs_a_restart() -> None:
    after = replace(
        BEFORE,
        listen=(Listen("127.0.0.1", 1),),
        policy="arrival",
        capacity=(("gpu", 2),),
        max_body=1,
    )
    found = compare(BEFORE, after)
    assert found == Difference(
        settings=("capacity", "max_body"), needs_restart=("listen", "policy")
    )
    only = compare(BEFORE, replace(BEFORE, listen=(Listen("127.0.0.1", 1),)))
    assert only.needs_restart == ("listen",)
    assert not only, "nothing changes now"


def test_what_can_be_applied() -> None:
    after = replace(BEFORE, listen=(Listen("127.0.0.1", 1),), max_body=1)
    applied = applicable(BEFORE, after)
    assert (applied.listen, applied.max_body) == (BEFORE.listen, 1)
    assert compare(applied, after).needs_restart == ("listen",), "it is told of each time"


def test_what_is_fixed_is_there() -> None:
    assert set(FIXED) <= {one.name for one in fields(LauncherConfig)}


def test_a_certificate_may_move_and_not_come_or_go() -> None:
    tls = replace(BEFORE, tls_cert="a.pem", tls_key="a.key")
    moved = replace(tls, tls_cert="b.pem")
    assert compare(tls, moved) == Difference(settings=("tls_cert",))
    assert applicable(tls, moved).tls_cert == "b.pem"
    for one, other in ((BEFORE, tls), (tls, BEFORE)):
        assert compare(one, other) == Difference(needs_restart=("tls_cert", "tls_key"))
        assert applicable(one, other).tls_cert == one.tls_cert
