"""What requests a route matches: nobody else's, and none of the launcher's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import RESERVED, ModelSpec
from launcher.core.types import Priority, Wake
from tests.loading.toml import load, problems


def test_all_of_a_route(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [routes.comfy]
        container = "comfy"
        path = ["/v2/comfy", "/comfy", "/c/"]
        host = "Comfy.lan"
        models = ["a", { id = "gpt-4o", upstream = "Qwen/Q" }]
        auth = "passthrough"
        public = true
        host_header = "backend"
        quiet = ["/ws"]
        priority = "Batch"
        wake = "if-idle"
        max_wait = 5
        queue_timeout = "1m"
        response_timeout = "2m"
        heartbeat = 0
        tunnel_idle = "never"
        """,
    )
    (route,) = config.routes
    assert route.prefixes == ("/comfy", "/v2/comfy", "/c")
    assert route.hosts == ("comfy.lan",)
    assert route.models == (ModelSpec("a"), ModelSpec("gpt-4o", "Qwen/Q"))
    assert (route.auth, route.public, route.host_header) == ("passthrough", True, "backend")
    assert route.quiet == ("/ws",)
    assert (route.priority, route.wake) == (Priority.BATCH, Wake.IF_IDLE)
    assert (route.max_wait, route.queue_timeout, route.response_timeout) == (5, 60, 120)
    assert (route.heartbeat, route.tunnel_idle) == (0, float("inf"))


def test_models_by_default(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [routes.a]
        container = "the-container"
        [routes.b]
        command = ["run", "{port}"]
        [routes.c]
        container = "searx"
        models = []
        [backends.big]
        container = "big-one"
        [routes.d]
        backend = "big"
        [routes.e]
        backend = "big"
        """,
    )
    assert {route.name: [model.id for model in route.models] for route in config.routes} == {
        "a": ["the-container"],
        "b": ["b"],
        "c": [],
        "d": ["big-one"],
        "e": [],
    }


def test_several_backends_in_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[backends.a]\ncontainer = "a"\n[backends.b]\ncontainer = "b"\n'
        '[routes.r]\nbackend = ["b", "a"]\n',
    )
    assert config.routes[0].backends == ("b", "a")


@pytest.mark.parametrize("name", sorted(RESERVED - {"openapi.json"}))
def test_reserved_names(tmp_path: Path, name: str) -> None:
    (found,) = problems(tmp_path, f'[routes.{name}]\ncontainer = "x"\n')
    assert found.startswith(f"routes.toml:1: [routes.{name}]: /{name} is the launcher's own path")


@pytest.mark.parametrize(
    ("name", "better"), [("Coder_Fast", "coder-fast"), ("a.b", "a-b"), ("-a", "a"), ("a--b", "a-b")]
)
def test_names_that_are_no_words(tmp_path: Path, name: str, better: str) -> None:
    (found,) = problems(tmp_path, f'[routes."{name}"]\ncontainer = "x"\n')
    assert found.endswith(f"a route's name is lower-case words joined by dashes, such as {better}")


def test_a_path_that_is_the_launchers(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[routes.a]\ncontainer = "x"\npath = "/v1/a"\n')
    assert found == "routes.toml:3: [routes.a] path: /v1 is the launcher's own path, now or later"


def test_what_two_routes_claim(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
[routes.a]
container = "a"
path = "/b"
host = "x.lan"
models = ["m"]
[routes.b]
container = "b"
path = "/x"
host = ["y.lan", "X.lan"]
models = ["m", "n", "n"]
[routes.c]
container = "n"
path = "/x"
""",
    )
    assert found == [
        'routes.toml:4: [routes.a] path: prefix "/b" is [routes.b]\'s already: '
        "one of the two has to give it up",
        'routes.toml:10: [routes.b] host: host "x.lan" is [routes.a]\'s already: '
        "one of the two has to give it up",
        'routes.toml:11: [routes.b] models: model "m" is [routes.a]\'s already: '
        "one of the two has to give it up",
        'routes.toml:11: [routes.b] models: model "n" is listed twice',
        'routes.toml:12: [routes.c]: model "n" (by default: set models to say otherwise) is '
        "[routes.b]'s already: one of the two has to give it up",
        'routes.toml:14: [routes.c] path: prefix "/x" is [routes.b]\'s already: '
        "one of the two has to give it up",
    ]


def test_backends_that_are_not_there(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        '[backends.big]\ncontainer = "x"\n[backends.bad]\nport = 1\n'
        '[routes.a]\nbackend = "bgi"\n[routes.b]\nbackend = "bad"\n[routes.c]\nbackend = ""\n',
    )
    assert found == [
        'routes.toml:3: [backends.bad]: names nothing to start: add container = "…" or '
        'command = ["…"]',
        'routes.toml:6: [routes.a] backend: there is no [backends.bgi] (did you mean "big"?)',
        "routes.toml:10: [routes.c] backend: names no backend",
    ]
