"""The file's shape, and where things stand in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import sources
from launcher.config.sources import (
    Document,
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


def test_did_you_mean() -> None:
    assert did_you_mean("containr", ["container", "port"]) == ' (did you mean "container"?)'
    assert did_you_mean("xyzzy", ["container", "port"]) == ""


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
