"""What callers name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.api.naming import number_of, route_of
from launcher.config import AliasConfig
from launcher.errors import LauncherError
from tests.api.world import CONFIG


def test_a_route_by_its_name_or_by_what_it_serves() -> None:
    assert route_of(CONFIG, "coder", None) == "coder"
    assert route_of(CONFIG, None, "Qwen/Qwen2.5-Coder") == "coder"
    aliases = (AliasConfig("best", ("chat", "coder-fast")),)
    assert route_of(replace(CONFIG, aliases=aliases), None, "best") == "chat"


@pytest.mark.parametrize(
    ("route", "model", "code"),
    [
        (None, None, "invalid_request"),
        ("coder", "chat", "invalid_request"),
        ("nobody", None, "unknown_route"),
        (None, "nothing", "unknown_model"),
    ],
)
def test_what_names_nothing(route: str | None, model: str | None, code: str) -> None:
    with pytest.raises(LauncherError) as told:
        route_of(CONFIG, route, model)
    assert told.value.code == code


def test_numbers() -> None:
    assert number_of("17", "unknown_lease", "lease") == 17
    for text in ("", "x", "-1", "1.5", "٣", "9" * 19):
        with pytest.raises(LauncherError) as told:
            number_of(text, "unknown_lease", "lease")
        assert told.value.code == "unknown_lease"
