"""Model ids that stand for others, and what can't be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config import AliasConfig
from tests.loading.toml import load, problems

ROUTES = """
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
        + ROUTES
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
def test_what_is_no_alias(tmp_path: Path, alias: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[aliases]\n{alias}\n{ROUTES}")
    name = alias.partition(" = ")[0].strip('"')
    assert found.startswith(f"routes.toml:2: [aliases] {name}: {problem}")


def test_a_table_it_has_to_be(tmp_path: Path) -> None:
    assert problems(tmp_path, f"aliases = 3\n{ROUTES}") == [
        "routes.toml:1: [aliases]: expected a table: [aliases]"
    ]
