"""The environment that is read is the one handed in, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import settings
from launcher.settings import Inherited, Settings


def test_only_the_environment_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_LISTEN", ":1")
    monkeypatch.setenv("IDLE_SECONDS", "1")
    found = settings.read(Settings, {"LAUNCHER_LISTEN": ":2", "LAUNCHER_MAX_WAIT": ""})
    assert (found.listen, found.max_wait) == (":2", None)
    assert settings.read(Inherited, {}).idle_seconds is None


def test_lists_stay_text() -> None:
    assert settings.read(Settings, {"LAUNCHER_API_KEYS": '["a"]'}).api_keys == '["a"]'


def test_unknown_variables() -> None:
    environ = dict.fromkeys(
        (
            "LAUNCHER_URL",
            "LAUNCHER_STATE_FILE",
            "LAUNCHER_API_KEYS_FILE",
            "LAUNCHER_X",
            "LAUNCHER_X_FILE",
            "LAUNCH",
        ),
        "",
    )
    assert settings.unknown(environ) == ["LAUNCHER_X", "LAUNCHER_X_FILE"]


def test_every_inherited_name_fills_in_a_key() -> None:
    names = {name for names in settings.FILLS_IN.values() for name in names}
    assert names == {name.upper() for name in Inherited.model_fields}
    assert set(settings.FILLS_IN) <= set(Settings.model_fields)


def test_secret_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"sk-1\r\n")
    assert settings.secret_file(str(path)) == "sk-1"
    for data, problem in ((b"x" * 70_000, "larger than a secret"), (b"\xff", "isn't text")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=problem):
            settings.secret_file(str(path))
    with pytest.raises(ValueError, match="can't read"):
        settings.secret_file(str(tmp_path))
