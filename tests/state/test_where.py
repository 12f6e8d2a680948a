"""Where the state file stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.state import where
from launcher.state.where import path_for


def test_the_file_is_where_it_was_configured() -> None:
    assert path_for("/srv/state.db", {}) == Path("/srv/state.db")
    assert path_for("", {"XDG_STATE_HOME": "/x"}) is None


def test_the_file_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "CONTAINER_DIR", Path("/nonexistent"))
    monkeypatch.setenv("HOME", "/home/u")

    assert path_for(None, {"XDG_STATE_HOME": "/x"}) == Path("/x/launcher/launcher.db")
    expected = Path("/home/u/.local/state/launcher/launcher.db")
    assert path_for(None, {"XDG_STATE_HOME": "relative"}) == expected
    assert path_for(None, {}) == expected
