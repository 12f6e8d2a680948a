"""Who is held by whom, and what the scheduler is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.core.types import BackendId, Estimates
from launcher.drivers.base import ContainerSpec, ProcessSpec
from launcher.runtime.registry import Registry, same_start
from tests.fake_driver import FakeDriver
from tests.runtime.house import A, B, C, config

GPU = (("gpu", 1),)
R = BackendId("reserved-1")


def registry(*configs: object) -> tuple[Registry, FakeDriver]:
    driver = FakeDriver()
    made = {one.id: one for one in configs or (config(A), config(B))}  # type: ignore[attr-defined]
    built = Registry([driver], made, dict.fromkeys(made, driver), [B], {A: Estimates(3.0)})
    built.first(GPU)
    return built, driver


def again(built: Registry, driver: FakeDriver, *configs: object) -> dict[str, list[BackendId]]:
    """What another configuration comes to."""
    made = {one.id: one for one in configs}  # type: ignore[attr-defined]
    told = built.reconfigure(made, dict.fromkeys(made, driver), [B], GPU)
    ids = {
        "added": [one.id for one in told.added],
        "changed": [one.id for one in told.changed],
        "replaced": [one.id for one in told.replaced],
        "removed": list(told.removed),
    }
    return {what: which for what, which in ids.items() if which}


def test_the_scheduler_is_told_of_each() -> None:
    driver = FakeDriver()
    configs = {B: config(B, needs=()), A: config(A)}
    built = Registry([driver], configs, dict.fromkeys(configs, driver), [B], {A: Estimates(3.0)})
    one, two = built.first((("gpu", 2),)).added
    assert (one.id, one.placements[0].needs, one.prewarm) == (A, (("gpu", 2),), None)
    assert (two.id, two.placements[0].needs, two.prewarm) == (B, (), 0)
    assert (one.estimates, two.estimates) == (Estimates(3.0), Estimates())
    assert repr(built) == "<Registry 2 backends, 1 drivers>"


def test_the_same_again_is_no_news() -> None:
    built, driver = registry()
    assert again(built, driver, config(B), config(A)) == {}


def test_what_is_another_is_told() -> None:
    built, driver = registry()
    told = again(built, driver, config(A, idle_timeout=1.0, stop_grace=1.0), config(C))
    assert told == {"added": [C], "changed": [A], "removed": [B]}
    assert built.handles[A].config.idle_timeout == 1.0
    assert built.handles[B].removed, "what runs of it has to end first"


def test_something_else_under_the_same_id_waits_for_the_end_of_what_runs() -> None:
    built, driver = registry()
    other = replace(config(A), driver=ContainerSpec("other", 9000))
    assert again(built, driver, other, config(B)) == {"replaced": [A]}
    assert built.handles[A].config == config(A)
    handle = built.replaced(A)
    assert (handle.config, handle.next) == (other, None)
    assert again(built, driver, other, config(B)) == {}


def test_a_replacement_taken_back_is_no_replacement() -> None:
    built, driver = registry()
    other = replace(config(A), driver=ContainerSpec("other", 9000))
    again(built, driver, other, config(B))
    assert again(built, driver, config(A), config(B)) == {"changed": [A]}
    assert built.replaced(A).config == config(A)


def test_another_driver_replaces_and_is_ours_from_then_on() -> None:
    built, driver = registry()
    other = FakeDriver("other")
    told = built.reconfigure({A: config(A), B: config(B)}, {A: other, B: driver}, [], (("gpu", 2),))
    assert [one.id for one in told.replaced] == [A]
    assert (told.capacity, built.drivers) == ((("gpu", 2),), [driver, other])
    assert built.replaced(A).driver is other


def test_what_was_removed_and_comes_back_is_added() -> None:
    built, driver = registry()
    assert again(built, driver, config(A)) == {"removed": [B]}
    assert again(built, driver, config(A)) == {}, "told once"
    assert again(built, driver, config(A), config(B)) == {"added": [B]}
    again(built, driver, config(A))
    built.forget(B)
    assert B not in built.handles
    assert again(built, driver, config(A), config(B)) == {"added": [B]}


def test_reservations_outlive_configurations() -> None:
    built, driver = registry()
    (told,) = built.reserve(R, GPU, held=False).added
    assert (told.id, told.placements[0].needs, told.idle_timeout) == (R, GPU, 0.0)
    with pytest.raises(ValueError, match="reserved-1"):
        built.reserve(R, GPU, held=False)
    assert again(built, driver, config(A), config(B)) == {}
    assert built.unreserve(R).removed == (R,)
    built.forget(R)
    for nothing in (R, A):
        with pytest.raises(KeyError):
            built.unreserve(nothing)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (ContainerSpec("x", 80), ContainerSpec("x", 80, stop_grace=1.0), True),
        (ContainerSpec("x", 80), ContainerSpec("x", 81), False),
        (ContainerSpec("x", 80), ContainerSpec("y", 80), False),
        (ProcessSpec(("a",)), ProcessSpec(("a",), env=(("K", "v"),)), False),
        (ProcessSpec(("a",)), ContainerSpec("a", 80), False),
    ],
)
def test_what_counts_as_the_same_start(one: object, other: object, same: bool) -> None:
    assert same_start(one, other) is same  # type: ignore[arg-type]
