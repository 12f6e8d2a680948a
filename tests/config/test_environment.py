"""What the environment lays over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import environment, schema
from launcher.config.environment import add_environment
from launcher.config.sources import Document, Value, read_file


def written(folder: Path, text: str) -> Document:
    path = folder / "routes.toml"
    path.write_text(text)
    return read_file(str(path))


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
    assert set(environment.FILLS_IN) <= set(schema.names("launcher"))


def test_the_case_of_a_variable_does_not_matter() -> None:
    document = Document()
    add_environment(document, {"launcher_max_wait": "5s", "Idle_Seconds": "7"})
    assert document.launcher == {
        "max_wait": Value("5s", "environment: LAUNCHER_MAX_WAIT", literal=True),
        "idle_timeout": Value("7", "environment: IDLE_SECONDS", literal=True),
    }


def test_values_that_look_like_json_stay_text() -> None:
    document = Document()
    add_environment(document, {"LAUNCHER_API_KEYS": '["a"]', "MAP__a__models": '["x", "y"]'})
    assert document.launcher["api_keys"].raw == '["a"]'
    assert document.routes["a"]["models"].raw == '["x", "y"]'


def test_the_environment_reaches_a_route_with_capital_letters(tmp_path: Path) -> None:
    document = written(tmp_path, '[routes.Coder]\ncontainer = "x"\nport = 1\n')
    add_environment(document, {"MAP__Coder__port": "2", "MAP__": "x", "MAP__x": "y", "MAP": "z"})
    assert {name: list(values) for name, values in document.routes.items()} == {
        "Coder": ["container", "port"]
    }
    assert document.routes["Coder"]["port"].raw == "2"
    assert document.warnings == []


def test_every_key_of_the_launcher_table_has_a_variable() -> None:
    environ = {f"LAUNCHER_{key.upper()}": key for key in schema.names("launcher")}
    document = Document()
    add_environment(document, environ)
    assert {key: value.raw for key, value in document.launcher.items()} == {
        key: key for key in schema.names("launcher")
    }
