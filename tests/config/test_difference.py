"""What a new configuration changes, by name; and what has to wait for a restart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config import BackendConfig, LauncherConfig, Listen, ModelSpec, RouteConfig, Secret
from launcher.config.difference import FIXED, Difference, Names, applicable, compare, keep_ids
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, DriverSpec, ProcessSpec
from launcher.errors import ConfigError


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


Held = dict[BackendId, DriverSpec]


def held(**containers: str) -> Held:
    return {BackendId(id): ContainerSpec(name, 8000) for id, name in containers.items()}


def config(specs: Held) -> LauncherConfig:
    """A route of the same name for each."""
    return LauncherConfig(
        routes=tuple(RouteConfig(id, (id,), (f"/{id}",)) for id in specs),
        backends=tuple(BackendConfig(id, spec) for id, spec in specs.items()),
        prewarm=tuple(specs),
    )


def ids(running: Held, new: Held, leaving: Held | None = None) -> dict[str, str]:
    """Route → id of its backend."""
    found = keep_ids(running, leaving or {}, config(new))
    assert tuple(one.id for one in found.backends) == found.prewarm
    return {one.name: one.backends[0] for one in found.routes}


@pytest.mark.parametrize(
    ("running", "new", "expected"),
    [
        pytest.param({"a": "x"}, {"a": "x", "b": "y"}, {"a": "a", "b": "b"}, id="nothing-moves"),
        pytest.param({"a": "x"}, {"b": "x"}, {"b": "a"}, id="renamed"),
        pytest.param({"a": "x"}, {"a": "y"}, {"a": "a"}, id="replaced"),
        pytest.param({"a": "x"}, {"b": "x", "a": "y"}, {"b": "a", "a": "a-2"}, id="name-taken"),
        pytest.param(
            {"a": "x", "b": "y"}, {"a": "y", "b": "x"}, {"a": "b", "b": "a"}, id="swapped"
        ),
        pytest.param(
            {"a": "x", "a-2": "y"},
            {"b": "x", "a": "z", "a-2": "y"},
            {"b": "a", "a": "a-3", "a-2": "a-2"},
            id="the-next-name-is-taken-too",
        ),
    ],
)
def test_ids(running: dict[str, str], new: dict[str, str], expected: dict[str, str]) -> None:
    assert ids(held(**running), held(**new)) == expected


def test_a_program_is_known_by_its_command() -> None:
    spec = ProcessSpec(("serve", "--port", "{port}"))
    other = ProcessSpec(("serve", "--fast"))
    assert ids({BackendId("a"): spec}, {BackendId("b"): spec}) == {"b": "a"}
    assert ids({BackendId("a"): spec}, {BackendId("b"): other}) == {"b": "b"}


def test_a_leaving_backend_keeps_its_id() -> None:
    assert ids({}, held(b="x"), leaving=held(a="x")) == {"b": "a"}
    assert ids({}, held(a="x"), leaving=held(a="x")) == {"a": "a"}
    assert ids({}, held(a="y"), leaving=held(a="x")) == {"a": "a"}


def test_a_container_that_is_not_free_yet() -> None:
    # `a` is to be y, and still is x.
    with pytest.raises(ConfigError) as caught:
        ids(held(a="y"), held(a="y", b="x"), leaving=held(a="x"))
    assert caught.value.problems == [
        "routes.toml: container x is still being stopped as a: reload again when that is done"
    ]
    assert ids(held(a="y"), held(a="x"), leaving=held(a="x")) == {"a": "a"}


def test_a_configuration_that_moves_nothing_is_the_same_object() -> None:
    one = config(held(a="x"))
    assert keep_ids(held(a="y"), {}, one) is one


NAMES = st.sampled_from(["a", "b", "c", "a-2"])
MAPS = st.dictionaries(NAMES, st.sampled_from("vwxyz"), max_size=4).filter(
    lambda one: len(set(one.values())) == len(one)
)


@given(MAPS, MAPS)
def test_no_two_have_one_id_and_no_container_has_two(
    running: dict[str, str], new: dict[str, str]
) -> None:
    found = ids(held(**running), held(**new))
    assert len(set(found.values())) == len(found)
    for name, id in found.items():
        if new[name] in running.values():
            assert running[id] == new[name]
