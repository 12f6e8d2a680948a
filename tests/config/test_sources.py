"""The file's shape, where things stand in it, and what the environment lays over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import schema, sources
from launcher.config.sources import (
    Document,
    Value,
    add_environment,
    did_you_mean,
    find_file,
    read_file,
)


def written(folder: Path, text: str) -> Document:
    path = folder / "routes.toml"
    path.write_text(text)
    return read_file(str(path))


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None, {}) in (None, "/etc/launcher/routes.toml")
    (tmp_path / "routes.toml").write_text("")
    assert find_file(None, {}) == "routes.toml"
    assert find_file(None, {"LAUNCHER_CONFIG": "b.toml"}) == "b.toml"
    assert find_file("a.toml", {"LAUNCHER_CONFIG": "b.toml"}) == "a.toml"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a = = 1", "isn't valid TOML: Invalid value (at line 1, column 5)"),
        (b"a = " + b"[" * 100_000, "is nested too deeply to be read"),
        (b"\xff", "isn't UTF-8 text, as TOML has to be"),
        (b"[routes]\n[routes]", "isn't valid TOML: Cannot declare"),
    ],
)
def test_a_file_that_can_not_be_read(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    (found,) = read_file(str(path)).problems
    assert found.startswith(f"{path}: {problem}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (found,) = read_file(f"{tmp_path}/x.toml").problems
    assert found == f"{tmp_path}/x.toml: can't be read: No such file or directory"


def test_values_know_where_they_stand(tmp_path: Path) -> None:
    document = written(
        tmp_path,
        '# first\n[launcher]\nlisten = ":80"\n\n[routes.a]\n  "port" = 1\n'
        "[routes.a.needs]\ngpu = 1\n[backends.b] # b\nport = 1\n",
    )
    at = f"{tmp_path}/routes.toml"
    assert document.launcher["listen"].where == f"{at}:3: [launcher] listen"
    assert document.routes["a"]["port"].where == f"{at}:6: [routes.a] port"
    assert document.routes["a"]["needs"].where == f"{at}:7: [routes.a] needs"
    assert document.at["[backends.b]"] == f"{at}:9: [backends.b]"
    assert document.problems == []


def test_what_has_no_line_of_its_own_is_placed_by_its_table(tmp_path: Path) -> None:
    document = written(tmp_path, "routes = { a = { port = 1 } }\n")
    assert document.routes["a"]["port"].where == f"{tmp_path}/routes.toml: [routes.a] port"


def test_tables_that_are_none_and_tables_nobody_knows(tmp_path: Path) -> None:
    document = written(
        tmp_path, "launcher = 1\ncapacity = { gpu = 2 }\n[routes]\na = 3\n[route.b]\nport = 1\n"
    )
    assert [problem.removeprefix(f"{tmp_path}/") for problem in document.problems] == [
        "routes.toml:1: [launcher]: expected a table: [launcher]",
        "routes.toml:4: [routes.a]: expected a table: [routes.a]",
        'routes.toml: [route]: unknown (did you mean "routes"?): a file holds [launcher], '
        "[capacity], [aliases], [routes.NAME], [backends.NAME], [modes.NAME] and [keys.NAME]",
    ]
    assert document.capacity is not None
    assert document.capacity.raw == {"gpu": 2}


def test_the_environment_overrides_the_launcher_table(tmp_path: Path) -> None:
    document = written(tmp_path, '[launcher]\nidle_timeout = "10m"\n')
    add_environment(document, {"LAUNCHER_IDLE_TIMEOUT": "5m", "LAUNCHER_MAX_WAIT": ""})
    value = document.launcher["idle_timeout"]
    assert (value.raw, value.where) == ("5m", "environment: LAUNCHER_IDLE_TIMEOUT")
    assert "max_wait" not in document.launcher
    assert document.warnings == []


def test_unknown_variables_warn() -> None:
    document = Document()
    add_environment(
        document,
        {"LAUNCHER_LISTN": "x", "LAUNCHER_URL": "x", "LAUNCHER_CONFIG": "x", "OTHER": "x"},
    )
    assert document.warnings == [
        'environment: LAUNCHER_LISTN is unknown and ignored (did you mean "LAUNCHER_LISTEN"?)'
    ]


def test_inherited_names_fill_in() -> None:
    document = Document()
    add_environment(
        document,
        {
            "IDLE_SECONDS": "600",
            "START_TIMEOUT_SECONDS": "900",
            "PREWARM_ROUTES": "a,b",
            "VLLM_API_KEY": "sk",
            "DOCKER_HOST_SOCKET": "/run/docker.sock",
            "COMPOSE_PROJECT_NAME": "ai",
        },
    )
    assert {key: value.raw for key, value in document.launcher.items()} == {
        "idle_timeout": "600",
        "start_timeout": "900",
        "prewarm": "a,b",
        "backend_key": "sk",
        "docker_host": "/run/docker.sock",
        "compose_project": "ai",
    }


def test_the_file_and_our_own_names_win_over_inherited_ones(tmp_path: Path) -> None:
    document = written(tmp_path, '[launcher]\nidle_timeout = "10m"\nbackend_key = "x"\n')
    add_environment(
        document,
        {
            "IDLE_SECONDS": "5",
            "VLLM_API_KEY": "sk",
            "START_TIMEOUT_SECONDS": "5",
            "LAUNCHER_START_TIMEOUT": "6",
        },
    )
    raw = {key: value.raw for key, value in document.launcher.items()}
    assert raw == {"idle_timeout": "10m", "backend_key": "x", "start_timeout": "6"}
    (warning,) = document.warnings
    assert warning == (
        f"environment: IDLE_SECONDS is ignored, for {tmp_path}/routes.toml says idle_timeout; "
        "LAUNCHER_IDLE_TIMEOUT would override it"
    )


def test_routes_from_the_environment(tmp_path: Path) -> None:
    document = written(tmp_path, '[routes.coder]\ncommand = ["x"]\nport = 1\n')
    add_environment(
        document,
        {
            "MAP__coder__container": "fast",
            "MAP__CODER_SLOW__container": "slow",
            "MAP__coder_slow__PORT": "8001",
            "MAP__coder_slow__auth": "",
            "MAP__coder__helth": "/x",
        },
    )
    coder, slow = document.routes["coder"], document.routes["coder-slow"]
    assert {key: value.raw for key, value in coder.items()} == {"port": 1, "container": "fast"}
    assert {key: value.raw for key, value in slow.items()} == {"container": "slow", "port": "8001"}
    assert slow["port"].where == "environment: MAP__coder_slow__PORT"
    (warning,) = document.warnings
    assert warning.startswith("environment: MAP__coder__helth is ignored: ")
    assert warning.endswith('(did you mean "health"?)')


def test_variables_from_secret_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    document = Document()
    add_environment(
        document, {"VLLM_API_KEY_FILE": f"{tmp_path}/key", "LAUNCHER_LISTEN_FILE": "/x"}
    )
    assert document.launcher["backend_key"].raw == "sk-1"
    assert document.problems == [
        "environment: LAUNCHER_LISTEN_FILE: can't read /x: No such file or directory"
    ]


def test_did_you_mean() -> None:
    assert did_you_mean("containr", ["container", "port"]) == ' (did you mean "container"?)'
    assert did_you_mean("xyzzy", ["container", "port"]) == ""


def test_only_the_environment_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_LISTEN", ":1")
    monkeypatch.setenv("IDLE_SECONDS", "1")
    document = Document()
    add_environment(document, {"LAUNCHER_PREWARM": "a", "LAUNCHER_MAX_WAIT": ""})
    assert document.launcher == {
        "prewarm": Value("a", "environment: LAUNCHER_PREWARM", literal=True)
    }


def test_unknown_variables_are_warned_of() -> None:
    document = Document()
    known = ("LAUNCHER_URL", "LAUNCHER_STATE_FILE", "LAUNCHER_API_KEYS_FILE", "LAUNCHER_CONFIG")
    add_environment(
        document, dict.fromkeys((*known, "LAUNCHER_X", "LAUNCHER_X_FILE", "LAUNCH"), "")
    )
    assert [warning.split()[1] for warning in document.warnings] == [
        "LAUNCHER_X",
        "LAUNCHER_X_FILE",
    ]


def test_every_inherited_name_fills_in_a_key() -> None:
    assert set(sources.FILLS_IN) <= set(schema.names("launcher"))


def test_secret_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"sk-1\r\n")
    assert sources.secret_file(str(path)) == "sk-1"
    for data, problem in ((b"x" * 70_000, "larger than a secret"), (b"\xff", "isn't text")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=problem):
            sources.secret_file(str(path))
    with pytest.raises(ValueError, match="can't read"):
        sources.secret_file(str(tmp_path))
