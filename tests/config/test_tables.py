"""One table: variables, secret files, defaults, and problems that name their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config import BackendConfig, KeyConfig, LauncherConfig, RouteConfig, Secret, schema
from launcher.config.schema import KEYS, SCOPES, Key, Scope
from launcher.config.sources import Unresolved, Value, expand
from launcher.config.tables import Table
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec


def table(
    raw: dict[str, object], environ: dict[str, str] | None = None, defaults: Table | None = None
) -> tuple[Table, list[str]]:
    """A table of these values, and the list that its problems go into."""
    problems: list[str] = []
    values = {key: Value(value, f"f.toml:1: [t] {key}") for key, value in raw.items()}
    made = Table("[t]", "f.toml: [t]", values, environ or {}, problems, defaults=defaults)
    return made, problems


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("${A}", "a"),
        ("x${A}y${A}", "xaya"),
        ("${B:-b}", "b"),
        ("${EMPTY:-b}", "b"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${B:-a:-b $x}", "a:-b $x"),
        ("$A $ $$", "$A $ $$"),
        ("$${A}", "${A}"),
        (["${A}", 3, {"k": "${A}"}], ["a", 3, {"k": "a"}]),
        (True, True),
    ],
)
def test_variables_are_filled_in(raw: object, expected: object) -> None:
    assert expand(raw, {"A": "a", "EMPTY": ""}) == expected


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert expand("${A}", {"A": "${B}"}) == "${B}"


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_a_dollar_stays(text: str) -> None:
    assert expand(text, {}) == text


def test_an_unset_variable_says_what_to_do() -> None:
    with pytest.raises(Unresolved, match=r"\$\{KEY\} is not set: set KEY .*\$\{KEY:-default\}"):
        expand("${KEY}", {})


@pytest.mark.parametrize("raw", ["${", "${}", "${1A}", "${A", "${A:b}", "${A:-${B}}"])
def test_bad_variable_references_are_refused(raw: str) -> None:
    with pytest.raises(Unresolved, match=r"\$\{ begins a variable"):
        expand(raw, {"A": "a", "B": "b"})


def test_a_variable_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    assert expand("${KEY}", {"KEY_FILE": str(tmp_path / "key")}) == "sk-1"
    assert expand("${KEY}", {"KEY": "own", "KEY_FILE": str(tmp_path / "key")}) == "own"
    with pytest.raises(Unresolved, match=r"KEY_FILE: can't read .*: No such file"):
        expand("${KEY:-x}", {"KEY_FILE": str(tmp_path / "none")})


def test_secret_files(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("sk-1\n")
    (tmp_path / "two").write_text("sk-2\nsk-3\n")
    made, problems = table(
        {
            "backend_key": f"file:{tmp_path}/one",
            "api_keys": ["sk-0", f"file:{tmp_path}/two"],
            "admin_keys": f"file:{tmp_path}/two",
        }
    )
    assert made.get(schema.BACKEND_KEY) == Secret("sk-1")
    assert made.get(schema.API_KEYS) == (Secret("sk-0"), Secret("sk-2"), Secret("sk-3"))
    assert made.get(schema.ADMIN_KEYS) == (Secret("sk-2"), Secret("sk-3"))
    assert problems == []


def test_a_secret_file_that_is_not_there(tmp_path: Path) -> None:
    made, problems = table({"backend_key": f"file:{tmp_path}/none"})
    assert made.get(schema.BACKEND_KEY) is None
    (problem,) = problems
    assert problem.startswith("f.toml:1: [t] backend_key: can't read ")


def test_only_secrets_are_read_from_files() -> None:
    made, problems = table({"cwd": "file:/etc/passwd"})
    assert made.get(schema.CWD) == "file:/etc/passwd"
    assert problems == []


def test_a_bad_value_is_shown_as_written_and_a_secret_never() -> None:
    made, problems = table(
        {"port": "${PORT}", "backend_key": "line\nline", "max_queue": True}, {"PORT": "hidden"}
    )
    assert (made.get(schema.PORT), made.get(schema.BACKEND_KEY)) == (None, None)
    assert made.get(schema.MAX_QUEUE) == schema.MAX_QUEUE.default
    assert problems == [
        'f.toml:1: [t] port: expected a port from 1 to 65535, not "${PORT}"',
        "f.toml:1: [t] backend_key: expected one line of printable ASCII",
        "f.toml:1: [t] max_queue: expected a whole number, not true",
    ]


def test_a_problem_is_noted_once_however_often_the_key_is_read() -> None:
    made, problems = table({"port": "x"})
    made.get(schema.PORT)
    made.get(schema.PORT)
    assert len(problems) == 1


def test_defaults_come_from_the_launcher_table() -> None:
    launcher, _ = table({"idle_timeout": "5m"})
    made, _ = table({}, defaults=launcher)
    assert made.get(schema.IDLE_TIMEOUT) == 300
    assert made.get(schema.START_TIMEOUT) == 600
    own, _ = table({"idle_timeout": "1m"}, defaults=launcher)
    assert own.get(schema.IDLE_TIMEOUT) == 60


def test_a_value_of_the_environment_is_taken_as_it_is() -> None:
    values = {"cwd": Value("${A}", "environment: X", literal=True)}
    made = Table("[t]", "t", values, {"A": "a"}, [])
    assert made.get(schema.CWD) == "${A}"


def test_unknown_keys() -> None:
    made, problems = table({"prot": 1, "listen": ":80", "xyzzy": 1})
    made.check_names("backend")
    assert problems[0] == 'f.toml:1: [t] prot: unknown key (did you mean "port"?)'
    assert problems[1] == "f.toml:1: [t] listen: does not belong here, but in [launcher]"
    assert problems[2].startswith("f.toml:1: [t] xyzzy: unknown key; known here are container, ")


def test_reading_all_finds_what_nobody_asks_for() -> None:
    made, problems = table({"port": "x", "heartbeat": "x"})
    made.read_all("backend")
    assert [problem.split(":")[2] for problem in problems] == [" [t] port"]


def test_a_problem_of_the_table_itself() -> None:
    made, problems = table({})
    made.problem("is empty")
    made.problem("is missing", schema.PORT)
    assert problems == ["f.toml: [t]: is empty", "f.toml: [t]: is missing"]


SHAPES: dict[Scope, tuple[object, ...]] = {
    "launcher": (LauncherConfig(),),
    "backend": (
        BackendConfig(BackendId("x"), ContainerSpec("x", 8000)),
        ContainerSpec("x", 8000),
    ),
    "route": (RouteConfig("x", (), ("/x",)),),
    "key": (KeyConfig("x", b""),),
}


#: Their defaults depend on the rest of the table.
_BY_TABLE = (
    schema.PORT,
    schema.MODELS,
    schema.CONTAINER,
    schema.BACKEND_OF,
    schema.MODE_ROUTES,
    schema.KEY_ROUTES,
)


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key not in _BY_TABLE], ids=lambda key: key.name
)
def test_a_key_has_the_default_of_its_shape(key: Key[Any]) -> None:
    for shape in (one for scope in key.scopes for one in SHAPES.get(scope, ())):
        if hasattr(shape, key.name):
            assert getattr(shape, key.name) == key.default


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_is_explained(key: Key[Any]) -> None:
    assert key.help.endswith(".")
    assert "|" not in key.help, "it would break the reference's tables"


def test_names_are_unique_within_a_table() -> None:
    for scope in SCOPES:
        named = [key.name for key in KEYS if scope in key.scopes]
        assert len(set(named)) == len(named)


def test_names_by_scope() -> None:
    assert "container" in schema.names("backend")
    assert "container" not in schema.names("route", "launcher")
    assert "heartbeat" in schema.names("route")
