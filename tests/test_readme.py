"""What README.md shows is so: its examples load, its commands, targets and links exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from launcher.cli import app
from launcher.config.load import load_config
from launcher.errors import ERROR_KINDS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Every command line of the shell examples and of the text, without its comment."""
    quoted = re.findall(r"`((?:launcher|make|docker compose) [^`]+)`", README)
    for line in [*"\n".join(blocks("sh")).splitlines(), *quoted]:
        words = line.partition(" #")[0].split()
        if words:
            yield words


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_every_example_of_routes_toml_loads(number: int, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(blocks("toml")[number], encoding="utf-8")
    assert load_config(str(file), {}).routes


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line names, and what is given to it."""
    found: Any = typer.main.get_command(app)
    rest = words[1:]
    while isinstance(found, TyperGroup):
        assert rest, f"{' '.join(words)}: no command"
        inner = found.commands.get(rest[0])
        assert inner is not None, f"{' '.join(words)}: {rest[0]} is no command"
        found, rest = inner, rest[1:]
    return found, rest


def test_every_command_of_the_launcher_is_one_with_the_options_that_it_has() -> None:
    shown = set()
    for words in commands():
        if words[0] != "launcher" or words[1] == "…":
            continue
        command, given = resolved(words)
        shown.add(command.name)
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        options = {word.partition("=")[0] for word in given if word.startswith("-")}
        assert options <= known, words
    assert shown >= {"check", "serve", "status", "start", "stop", "demo", "switch", "take", "new"}


def test_every_target_of_make_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    shown = {words[1] for words in commands() if words[0] == "make"}
    assert shown
    assert shown <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_every_profile_of_compose_is_one() -> None:
    stack = (ROOT / "docker-compose.yml").read_text("utf-8")
    profiles = re.findall(r"--profile (\w+)", README)
    assert profiles
    assert all(f"profiles: [{profile}]" in stack for profile in profiles)


def test_every_error_in_the_table_has_its_status() -> None:
    shown = re.findall(r"`(\d{3}) ([a-z_]+)`", README)
    assert shown
    assert [(int(status), code) for status, code in shown] == [
        (ERROR_KINDS[code].status, code) for _, code in shown
    ]


def test_every_link_leads_to_a_file_of_the_project() -> None:
    links = [one for one in re.findall(r"\]\(([^)#]+)", README) if "://" not in one]
    assert links
    assert [one for one in links if not (ROOT / one).is_file()] == []
