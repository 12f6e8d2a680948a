"""Which driver holds a backend, and which tables mean the same one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, ProcessSpec
from tests.config.documents import load, problems


def test_a_container(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[routes.a]\ncontainer = "a1"\nport = 80\nscheme = "https"\nbase_path = "/x"\n'
        'address = "10.0.0.1:80"\nstop_grace = "3s"\n',
    )
    (backend,) = config.backends
    assert backend.id == "a"
    assert backend.driver == ContainerSpec("a1", 80, "https", "/x", "10.0.0.1:80", 3.0)


def test_what_the_scheduler_is_told(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[routes.a]\ncontainer = "a"\nmax_in_flight = 8\nlinger = "0s"\nstart_guess = "1m30s"\n'
        'stop_guess = 0\n[routes.b]\ncontainer = "b"\n',
    )
    a, b = config.backends
    assert (a.max_in_flight, a.linger, a.start_guess, a.stop_guess) == (8, 0.0, 90.0, 0.0)
    assert (b.max_in_flight, b.linger, b.start_guess, b.stop_guess) == (None, math.inf, 30.0, 3.0)


def test_a_containers_port_is_8000_where_nobody_says(tmp_path: Path) -> None:
    (backend,) = load(tmp_path, '[routes.a]\ncontainer = "a1"\n').backends
    assert backend.driver == ContainerSpec("a1", 8000)


def test_a_command(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[routes.a]\ncommand = ["run", "--port={port}"]\nenv = { X = "${Y}", N = 3 }\n'
        'cwd = "/srv"\n',
        {"Y": "y"},
    )
    (backend,) = config.backends
    assert backend.driver == ProcessSpec(("run", "--port={port}"), (("X", "y"), ("N", "3")), "/srv")


@pytest.mark.parametrize("told", ["port = 9000", 'env = { PORT = "{port}" }'])
def test_a_command_needs_a_port_or_a_placeholder(tmp_path: Path, told: str) -> None:
    (backend,) = load(tmp_path, f'[routes.a]\ncommand = ["run"]\n{told}\n').backends
    assert isinstance(backend.driver, ProcessSpec)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", "routes.toml:1: [routes.a]: names nothing to start: "),
        ('container = "x"\ncommand = ["x"]', "routes.toml:1: [routes.a]: has both "),
        ('command = ["x"]', "routes.toml:2: [routes.a] command: nothing tells the program "),
        ('command = "x"', "routes.toml:2: [routes.a] command: expected a list: "),
        ('container = ""', "routes.toml:2: [routes.a] container: expected the name "),
        ('container = "x"\ncwd = "/"', "routes.toml:3: [routes.a] cwd: belongs to command"),
        (
            'command = ["{port}"]\naddress = "a:1"',
            "routes.toml:3: [routes.a] address: belongs to container",
        ),
        (
            'command = ["{port}"]\nhealth = "docker"',
            'routes.toml:3: [routes.a] health: "docker" is a container\'s',
        ),
        (
            'container = "x"\nmax_in_flight = 0',
            "routes.toml:3: [routes.a] max_in_flight: expected a whole number above zero, not 0",
        ),
        (
            'container = "x"\nlinger = "never"',
            "routes.toml:3: [routes.a] linger: expected a duration such as",
        ),
        (
            'container = "x"\nstart_guess = "0s"',
            "routes.toml:3: [routes.a] start_guess: expected a duration such as",
        ),
    ],
)
def test_what_describes_no_backend(tmp_path: Path, table: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[routes.a]\n{table}\n")
    assert found.startswith(problem)


def test_tables_that_agree_share_a_backend(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[routes.a]\ncontainer = "x"\nport = 80\nmodels = ["a"]\n'
        '[routes.b]\ncontainer = "x"\nport = 80\nmodels = ["b"]\nneeds = { gpu = 1 }\n'
        '[routes.c]\nbackend = "b"\nmodels = ["c"]\n',
    )
    assert [backend.id for backend in config.backends] == ["a"]
    assert {route.name: route.backends for route in config.routes} == {
        "a": ("a",),
        "b": ("a",),
        "c": ("a",),
    }


def test_a_table_of_backends_gives_its_name_to_what_is_shared(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[routes.a]\ncontainer = "x"\n[backends.big]\ncontainer = "x"\n',
    )
    assert config.routes[0].backends == (BackendId("big"),)


def test_tables_that_disagree(tmp_path: Path) -> None:
    (found,) = problems(
        tmp_path,
        '[routes.a]\ncontainer = "x"\n'
        '[routes.b]\ncontainer = "x"\nport = 80\nbackend_key = "sk"\nneeds = {}\nmodels = []\n'
        "linger = 0\nmax_in_flight = 2\n",
    )
    assert found == (
        "routes.toml:3: [routes.b]: container x is also in [routes.a], with different needs, "
        "max_in_flight, linger, backend_key, port: make them agree, or describe it once in "
        "[backends.NAME] and write "
        'backend = "NAME" in both routes'
    )


def test_needs_that_never_fit(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        '[capacity]\nvram = "24GiB"\n'
        '[routes.a]\ncontainer = "a"\nneeds = { vram = "25GiB" }\n'
        '[routes.b]\ncontainer = "b"\nneeds = { gpu = 1 }\n',
    )
    assert found == [
        "routes.toml:5: [routes.a] needs: needs 26843545600 of vram and [capacity] has "
        "25769803776: it could never start",
        "routes.toml:8: [routes.b] needs: gpu is not in [capacity], which has vram: add it there, "
        "or it could never start",
    ]


def test_an_unreadable_capacity_is_reported_once(tmp_path: Path) -> None:
    (found,) = problems(
        tmp_path,
        '[capacity]\nvram = "lots"\n[routes.a]\ncontainer = "a"\nneeds = { vram = 1 }\n',
    )
    assert found.startswith("routes.toml:1: [capacity]: vram: expected a whole number or a size")
