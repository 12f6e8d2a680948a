"""Modes in words."""

from __future__ import annotations

from launcher.cli.mode_view import mode_words
from launcher.client.reports import ModeReport


def test_without_any() -> None:
    assert mode_words(ModeReport(None, None, {})) == [
        "no mode",
        "routes.toml has no [modes.NAME] table",
    ]


def test_one_that_the_configuration_has_no_more() -> None:
    assert mode_words(ModeReport("old", 60.0, {"new": ("a",)})) == [
        "mode old, for another 60 s",
        "   new: a",
    ]
