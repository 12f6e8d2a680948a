"""The layout's one rule, read from the sources: which package may import which."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "launcher").rglob("*.py"))

#: Beneath everything: what any package may import.
BASE = frozenset({"", "errors", "tasks", "printable"})

#: Who imports whom, itself and BASE aside; a package that isn't a key here has to be added.
MAY_IMPORT: dict[str, frozenset[str]] = {
    name: frozenset(allowed.split())
    for name, allowed in {
        "core": "",
        "http": "",
        "drivers": "core http",
        "config": "core drivers http",
        "auth": "config core",
        "telemetry": "config core",
        "runtime": "config core drivers http telemetry",
        "state": "core telemetry",
        "control": "config core runtime state telemetry",
        "jobs": "config core runtime state telemetry",
        "api": "auth config control core http runtime state telemetry drivers",
        "proxy": "auth config core http runtime telemetry",
        "app": "api auth config control core drivers http proxy runtime state telemetry",
        "service": "app config",
        "client": "core config",
        "simulate": "core config",
        "reference": "api auth config core telemetry client",
        "demo": "config service telemetry",
        "cli": "client config core demo drivers service simulate telemetry",
        "__main__": "cli",
    }.items()
}

#: The core decides and does nothing else: time is an argument, chance has no part in it.
NOT_IN_THE_CORE = frozenset(
    "asyncio concurrent contextvars datetime io logging multiprocessing os pathlib queue random "
    "secrets select selectors signal socket ssl subprocess threading time uuid".split()
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package(dotted: str) -> str:
    """`launcher.core.types.Needs` → `core`; a name of launcher/__init__ → ``."""
    first = dotted.split(".")[1] if "." in dotted else ""
    here = ROOT / "launcher" / first
    return first if here.is_dir() or here.with_suffix(".py").is_file() else ""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_keep_to_the_table(path: Path) -> None:
    inside = path.relative_to(ROOT / "launcher").with_suffix("").parts
    own = "" if inside == ("__init__",) else inside[0]
    allowed = BASE if own in BASE else MAY_IMPORT[own] | BASE | {own}
    foreign = [
        dotted
        for dotted in imports(path)
        if dotted.partition(".")[0] == "launcher" and package(dotted) not in allowed
    ]
    assert not foreign, "\n".join(foreign)


def test_the_core_knows_only_itself_and_a_quiet_part_of_the_library() -> None:
    foreign = [
        f"{name_of(path)}: {dotted}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "launcher" / "core")
        for dotted in imports(path)
        if not dotted.startswith(("launcher.core.", "launcher.errors."))
        and (
            (first := dotted.partition(".")[0]) in NOT_IN_THE_CORE
            or first not in sys.stdlib_module_names
        )
    ]
    assert not foreign, "\n".join(foreign)


def test_only_tasks_makes_tasks() -> None:
    makers = {"create_task", "ensure_future", "TaskGroup"}
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        if name_of(path) != "launcher/tasks.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in makers
    ]
    assert not found, "\n".join(found)
