"""Leases with a name, and what can't be one; and where the machine goes home to."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import ModeConfig
from launcher.core.types import OnLease
from tests.loading.toml import load, problems

ROUTES = """
[capacity]
vram = "24GiB"
[backends.big]
container = "big"
needs = { vram = "20GiB" }
[backends.small]
container = "small"
needs = { vram = "8GiB" }
[routes.big]
backend = "big"
on_lease = "reject"
[routes.also-big]
backend = "big"
models = []
[routes.small]
backend = "small"
[routes.either]
backend = ["big", "small"]
models = []
[routes.search]
container = "search"
needs = {}
[routes.all]
container = "all"
"""


def test_modes(tmp_path: Path) -> None:
    text = """
[launcher]
max_lease = "1h"
home = "small"
[modes.image]
routes = ["${WHICH}", "search", "also-big"]
ttl = "45m"
[modes.llm-2]
routes = ["either", "big"]
"""
    config = load(tmp_path, text + ROUTES, {"WHICH": "big"})
    assert config.modes == (
        ModeConfig("image", ("big", "search", "also-big"), 2700.0),
        ModeConfig("llm-2", ("either", "big"), 3600.0),
    )
    assert (config.home, config.max_lease) == ("small", 3600.0)
    assert [route.on_lease for route in config.routes[:2]] == [OnLease.REJECT, OnLease.WAIT]


def test_nothing_said(tmp_path: Path) -> None:
    config = load(tmp_path, ROUTES)
    assert (config.modes, config.home, config.max_lease) == ((), None, 5400.0)


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("ttl = 60", ": names no route: list those whose backends it holds"),
        ("routes = []", " routes: names no route: list those whose backends it holds"),
        ('routes = ["bigg"]', ' routes: there is no route "bigg" (did you mean "big"?)'),
        ('routes = ["small", "small"]', ' routes: route "small" is listed twice'),
        (
            'routes = ["big", "search", "small"]',
            " routes: these routes don't fit side by side: leave one out, or see to their needs "
            "and the [capacity]",
        ),
        ('routes = ["small", "all"]', " routes: these routes don't fit side by side"),
        ('routes = ["small"]\nttl = "91m"', " ttl: is longer than max_lease, which is 5400 s"),
        ('routes = ["small"]\nttl = 0', " ttl: expected a duration"),
        ('routes = ["small"]\nlength = 3', " length: unknown key; known here are routes, ttl"),
        ('routes = ["small"]\nport = 3', " port: does not belong here, but in [backends.NAME]"),
    ],
)
def test_what_is_no_mode(tmp_path: Path, mode: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[modes.image]\n{mode}\n{ROUTES}")
    assert f"[modes.image]{problem}" in found


def test_names_of_modes_are_spelled_as_those_of_routes(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'[modes."Big Image"]\nroutes = ["big"]\n{ROUTES}')
    assert found.endswith("a mode's name is lower-case words joined by dashes, such as big-image")


def test_of_several_backends_those_that_fit_count(tmp_path: Path) -> None:
    text = '[modes.a]\nroutes = ["either", "big"]\n[modes.b]\nroutes = ["either", "small"]\n'
    assert len(load(tmp_path, text + ROUTES).modes) == 2


def test_a_home_that_is_no_route(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'[launcher]\nhome = "smal"\n{ROUTES}')
    assert found == (
        'routes.toml:2: [launcher] home: there is no route "smal" (did you mean "small"?)'
    )


def test_a_word_that_on_lease_has_not(tmp_path: Path) -> None:
    text = '[routes.x]\ncontainer = "x"\non_lease = "leave"\n'
    assert problems(tmp_path, text) == [
        'routes.toml:3: [routes.x] on_lease: expected "wait" or "reject", not "leave"'
    ]
