"""Reading routes.toml for a command."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from launcher.cli.configuration import load
from tests.cli.running import BAD, GOOD


def test_what_is_right_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(GOOD)

    assert [route.name for route in load(tmp_path / "routes.toml").routes] == ["tiny"]


def test_all_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "routes.toml").write_text(BAD)

    with pytest.raises(typer.Exit) as caught:
        load(tmp_path / "routes.toml")

    assert caught.value.exit_code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"{len(lines) - 1} problems"
    assert len(lines) > 2
