"""The house's own rules, read from the sources: who may import whom, where tests stand."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "launcher").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCH = sorted((ROOT / "bench").rglob("*.py"))

#: What has no test file of its own, and why.
NO_TEST_OF_ITS_OWN = {
    "launcher/__main__.py": "hands argv to the cli; the end-to-end tests start it",
    "launcher/config.py": "shapes only; the tests of loading build them",
    "launcher/api/contract.py": "shapes only",
    "launcher/control/gate.py": "shapes only; the dispatcher keeps the promises",
    "launcher/api/endpoint.py": "shapes only",
    "launcher/cli/options.py": "shapes only",
    "launcher/client/reading.py": "the tests of the client read what a launcher says",
    "launcher/client/reports.py": "shapes only",
    "launcher/core/books.py": "core/scenarios.py has its rules, core/broken.py breaks each",
    "launcher/core/effects.py": "shapes only",
    "launcher/core/placing.py": "core/scenarios.py has its rules, core/broken.py breaks each",
    "launcher/core/world.py": "core/scenarios.py has its rules, core/broken.py breaks each",
    "launcher/core/events.py": "shapes only",
    "launcher/drivers/base.py": "shapes only; drivers/contract.py holds the promises",
    "launcher/proxy/exchange.py": "shapes only",
    "launcher/proxy/plan.py": "shapes only",
    "launcher/proxy/record.py": "shapes only",
    "launcher/runtime/admission.py": "shapes only; the dispatcher keeps the promises",
}

#: Lowest first: a file imports from its own floor and from those below it. A new file or
#: package directly under launcher/ has to be given a floor here.
FLOORS = (
    ("", "errors", "tasks", "printable"),
    ("core",),
    ("facts", "decisions", "journal", "timeline", "drivers"),
    ("config", "settings", "loading", "redact"),
    ("runtime", "state", "exposure", "check", "reloading"),
    ("control",),
    ("api", "proxy"),
    ("logs", "log_lines", "log_writer", "metrics", "metrics_table"),
    ("app",),
    ("service",),
    ("demo", "reference", "client", "simulate"),
    ("cli", "__main__"),
)

#: The core decides and does nothing else: time is an argument, chance has no part in it.
NOT_IN_THE_CORE = frozenset(
    "asyncio concurrent contextvars datetime io logging multiprocessing os pathlib queue random "
    "secrets select selectors signal socket ssl subprocess threading time uuid".split()
)

#: The client's side of the proxy, which rests on aiohttp's server; the rest doesn't know it.
CLIENT_SIDE = frozenset({"front", "problem", "connection", "client"})

MOST_LINES = 400


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


def room(dotted: str) -> str:
    """`launcher.core.types.Needs` → `core`; a name of launcher/__init__ → ``."""
    first = dotted.split(".")[1] if "." in dotted else ""
    here = ROOT / "launcher" / first
    return first if here.is_dir() or here.with_suffix(".py").is_file() else ""


def floor(name: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if name in rooms:
            return height
    raise AssertionError(f"launcher/{name} has no floor in FLOORS")


def only_says_something(path: Path) -> bool:
    """Holds no code to test: a docstring, imports, constants of one literal."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.List))
        for node in tree(path).body
    )


def mirror_of(path: Path) -> Path:
    inside = path.relative_to(ROOT / "launcher")
    named = inside.parent if inside.stem == "__init__" else inside
    return ROOT / "tests" / named.parent / f"test_{named.stem}.py"


def test_every_source_file_has_a_test_file_of_its_name() -> None:
    missing = [
        f"{name_of(path)}: no {name_of(mirror_of(path))}"
        for path in SOURCES
        if name_of(path) not in NO_TEST_OF_ITS_OWN
        and not (path.name == "__init__.py" and only_says_something(path))
        and not mirror_of(path).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_no_exception_from_that_rule_is_stale() -> None:
    stale = [
        name
        for name in NO_TEST_OF_ITS_OWN
        if not (ROOT / name).is_file() or mirror_of(ROOT / name).is_file()
    ]
    assert not stale, "\n".join(stale)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    inside = path.relative_to(ROOT / "launcher").with_suffix("").parts
    own = "" if inside == ("__init__",) else inside[0]
    upward = [
        dotted
        for dotted in imports(path)
        if dotted.partition(".")[0] == "launcher" and floor(room(dotted)) > floor(own)
    ]
    assert not upward, "\n".join(upward)


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


def test_drivers_know_types_and_errors_of_the_rest() -> None:
    known = ("launcher.drivers.", "launcher.core.types.", "launcher.errors.", "launcher.tasks")
    foreign = [
        f"{name_of(path)}: {dotted}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "launcher" / "drivers")
        for dotted in imports(path)
        if dotted.startswith("launcher")
        and not dotted.startswith(known)
        and dotted != "launcher.tasks"
    ]
    assert not foreign, "\n".join(foreign)


def test_only_the_clients_side_of_the_proxy_knows_aiohttp() -> None:
    foreign = [
        f"{name_of(path)}: {dotted}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "launcher" / "proxy") and path.stem not in CLIENT_SIDE
        for dotted in imports(path)
        if dotted.partition(".")[0] == "aiohttp"
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


def test_no_file_is_two_rooms() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [name_of(path) for path in SOURCES if not ast.get_docstring(tree(path))]
    assert not silent, "\n".join(silent)


def test_no_file_knows_where_it_is_checked_out() -> None:
    texts = [*SOURCES, *TESTS, *BENCH, ROOT / "Makefile", ROOT / "pyproject.toml"]
    texts += list(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
    texts += sorted((ROOT / "scripts").iterdir()) + sorted((ROOT / ".ci").iterdir())
    here = f"{ROOT}/"
    assert [name_of(path) for path in texts if here in path.read_text("utf-8")] == []
