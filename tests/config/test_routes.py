"""What requests a route matches: nobody else's, and none of the launcher's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import RESERVED, AliasConfig, ModeConfig, ModelSpec
from launcher.core.types import OnLease, Priority, Wake
from tests.config.documents import load, problems


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


ALIASED = """
[routes.chat]
container = "chat"
models = ["chat-general", "chat/small"]
[routes.reasoner]
container = "reasoner"
models = ["general-reasoner"]
[routes.page]
container = "page"
public = true
[routes.nightly]
container = "nightly"
priority = "batch"
wake = "never"
"""


def test_an_alias_names_models_in_order(tmp_path: Path) -> None:
    text = (
        '[aliases]\nany-chat = ["general-reasoner", "${SMALL}"]\n"org/x" = "chat-general"\n'
        + ALIASED
    )
    assert load(tmp_path, text, {"SMALL": "chat/small"}).aliases == (
        AliasConfig("any-chat", ("general-reasoner", "chat/small")),
        AliasConfig("org/x", ("chat-general",)),
    )


@pytest.mark.parametrize(
    ("alias", "problem"),
    [
        (
            'chat-general = ["general-reasoner"]',
            "is a model of [routes.chat] already: give one of the two another id",
        ),
        ("any = []", "names no model: list the ids that may serve it, the preferred one first"),
        ("any = 3", 'expected a list of model ids: ["chat-general", "coder"]'),
        ('any = ["${NO}"]', "${NO} is not set: set NO (or NO_FILE, a file that holds it), or "),
        (
            'any = ["chat-genral"]',
            'no route serves the model "chat-genral" (did you mean "chat-general"?)',
        ),
        ('any = ["any"]', '"any" is an alias itself: name its models instead'),
        ('any = ["nightly", "nightly"]', 'model "nightly" is listed twice'),
        (
            'any = ["chat-general", "page"]',
            "[routes.chat] and [routes.page] differ in public, and a request for the alias may "
            "go to either: make them agree, or leave one out",
        ),
        ('any = ["chat-general", "nightly"]', "[routes.chat] and [routes.nightly] differ in wake"),
        (
            'any = ["chat-general", "chat/small"]',
            '"chat/small" would never serve it, for "chat-general" has the same backend and '
            "comes first: leave one of the two out",
        ),
        ('" any" = ["nightly"]', "an alias is a model id: printable, and no blanks around it"),
    ],
)
def test_bad_aliases_are_refused(tmp_path: Path, alias: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[aliases]\n{alias}\n{ALIASED}")
    name = alias.partition(" = ")[0].strip('"')
    assert found.startswith(f"routes.toml:2: [aliases] {name}: {problem}")


def test_aliases_must_be_a_table(tmp_path: Path) -> None:
    assert problems(tmp_path, f"aliases = 3\n{ALIASED}") == [
        "routes.toml:1: [aliases]: expected a table: [aliases]"
    ]


LEASED = """
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
    config = load(tmp_path, text + LEASED, {"WHICH": "big"})
    assert config.modes == (
        ModeConfig("image", ("big", "search", "also-big"), 2700.0),
        ModeConfig("llm-2", ("either", "big"), 3600.0),
    )
    assert (config.home, config.max_lease) == ("small", 3600.0)
    assert [route.on_lease for route in config.routes[:2]] == [OnLease.REJECT, OnLease.WAIT]


def test_nothing_said(tmp_path: Path) -> None:
    config = load(tmp_path, LEASED)
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
def test_bad_modes_are_refused(tmp_path: Path, mode: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[modes.image]\n{mode}\n{LEASED}")
    assert f"[modes.image]{problem}" in found


def test_names_of_modes_are_spelled_as_those_of_routes(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'[modes."Big Image"]\nroutes = ["big"]\n{LEASED}')
    assert found.endswith("a mode's name is lower-case words joined by dashes, such as big-image")


def test_of_several_backends_those_that_fit_count(tmp_path: Path) -> None:
    text = '[modes.a]\nroutes = ["either", "big"]\n[modes.b]\nroutes = ["either", "small"]\n'
    assert len(load(tmp_path, text + LEASED).modes) == 2


def test_a_home_that_is_no_route(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'[launcher]\nhome = "smal"\n{LEASED}')
    assert found == (
        'routes.toml:2: [launcher] home: there is no route "smal" (did you mean "small"?)'
    )


def test_an_unknown_value_of_on_lease_is_reported(tmp_path: Path) -> None:
    text = '[routes.x]\ncontainer = "x"\non_lease = "leave"\n'
    assert problems(tmp_path, text) == [
        'routes.toml:3: [routes.x] on_lease: expected "wait" or "reject", not "leave"'
    ]
