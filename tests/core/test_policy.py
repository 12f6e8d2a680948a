"""The two policies to compare with. What the product's own does stands in the scenarios."""

from __future__ import annotations

import pytest

from launcher.core.policy import POLICIES
from launcher.core.scheduler import Scheduler
from launcher.core.types import Needs
from tests.core.stage import Make, Stage, spec


def made_with(name: str) -> Make:
    def make(capacity: Needs) -> Scheduler:
        return Scheduler(capacity, POLICIES[name]())

    return make


def pair(policy: str, **rest: object) -> Stage:
    return Stage(made_with(policy), [spec("a", **rest), spec("b", **rest)])


def test_each_is_named_as_in_the_configuration() -> None:
    assert {name: make().name for name, make in POLICIES.items()} == {
        name: name for name in ("bounded", "arrival", "collation")
    }


def test_collation_serves_who_is_up_for_as_long_as_it_has_work() -> None:
    s = pair("collation")
    running = s.arrive("a")
    s.started("a")
    s.arrive("b", max_wait=5.0)
    for _ in range(100):
        s.pass_time(10.0)
        following = s.arrive("a")
        s.release(running)
        running = following
    assert s.state("a") == "ready"
    s.release(running)
    assert s.stops == [("a", "evicted")]


def test_arrival_order_lets_nobody_overtake() -> None:
    s = pair("arrival")
    first = s.arrive("a")
    s.started("a")
    s.pass_time(1.0)
    second = s.arrive("b")
    assert s.state("a") == "draining"
    s.pass_time(1.0)
    third = s.arrive("a")
    s.pass_time(1.0)
    fourth = s.arrive("b")
    s.release(first)
    s.stopped("a")
    s.started("b")
    assert [t for t, _, _ in s.granted] == [first, second], "a's came before the other of b"
    s.release(second)
    s.stopped("b")
    s.started("a")
    assert s.granted[-1][0] == third
    s.release(third)
    s.stopped("a")
    s.started("b")
    assert s.granted[-1][0] == fourth


@pytest.mark.parametrize("leaves", [True, False])
def test_arrival_order_goes_on_when_the_one_before_left(leaves: bool) -> None:
    s = pair("arrival")
    s.arrive("a")
    s.started("a")
    s.pass_time(1.0)
    waiting = s.arrive("b")
    s.pass_time(1.0)
    following = s.arrive("a")
    if leaves:
        s.abandon(waiting)
    assert (s.granted[-1][0] == following) is leaves
