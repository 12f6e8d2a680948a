"""Change the core in small ways, one at a time, and see whether a test notices.

    python -m bench.mutants [MODULE …] [--children N] [--report]

MODULE is one of `launcher/core`, such as `queue`; without one, all of them. mutmut makes and runs
the mutants (`[tool.mutmut]` in pyproject.toml) and remembers what it has run in `mutants/`, so an
interrupted run goes on where it was. docs/mutants.md gets what survived; `--report` writes it
without running anything.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mutants.md"
NOTICED = frozenset({"killed", "timeout", "segfault", "caught by type check"})
PREFIX = "launcher.core."

HEAD = """\
# Mutants of the core

`make mutants` changes `launcher/core` in small ways, one at a time (another comparison, another
constant, an argument left out), and runs the tests of the core against each
([mutmut](https://mutmut.readthedocs.io)). A mutant that no test notices has survived: either a
test is missing, or the change makes no difference that anybody could see. This page is written by
`python -m bench.mutants`; nobody has to bring the list to zero, but a rule of the core should not
be on it.

"""


def mutmut(*arguments: str) -> list[str]:
    """What a command of mutmut's prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def results() -> dict[str, str]:
    """The state of each mutant, by its name."""
    found: dict[str, str] = {}
    for line in mutmut("results", "--all", "true"):
        name, mark, state = line.strip().rpartition(": ")
        if mark and name.startswith(PREFIX):
            found[name] = state
    return found


def module(name: str) -> str:
    """The module of a mutant."""
    return name.removeprefix(PREFIX).partition(".")[0]


def function(name: str) -> str:
    """The function of a mutant, as people write it."""
    text = name.rpartition(".")[2].partition("__mutmut_")[0]
    return re.sub("^xǁ", "", text).replace("ǁ", ".").removeprefix("x_")


def change(lines: Iterable[str]) -> str:
    """The changed lines of a diff."""
    kept = [
        line
        for line in lines
        if line.startswith(("-", "+")) and not line.startswith(("---", "+++"))
    ]
    return "\n".join(line[0] + " " + line[1:].strip() for line in kept)


def page(states: dict[str, str], shown: dict[str, str], commit: str) -> str:
    """The page. `shown` is the change that each surviving mutant makes."""
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for name, state in states.items():
        by_module[module(name)][state] += 1
    run = sum(state != "not checked" for state in states.values())
    lines = [f"The last run was over {commit}; {run} of {len(states)} mutants have been run.", ""]
    lines += ["| module | mutants | noticed | survived | not reached by a test | not run |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name, counts in sorted(by_module.items()):
        noticed = sum(count for state, count in counts.items() if state in NOTICED)
        rest = counts.total() - noticed - counts["survived"] - counts["no tests"]
        cells = (counts.total(), noticed, counts["survived"], counts["no tests"], rest)
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    last = ""
    for name, text in shown.items():
        where = f"{module(name)}.{function(name)}"
        if module(name) != module(last):
            lines += ["", f"## {module(name)}"]
        if where != last:
            lines += ["", f"`{function(name)}`", ""]
        last = where
        lines += ["```diff", text, "```"]
    return HEAD + "\n".join(lines) + "\n"


def report() -> None:
    """Write the page from what mutmut remembers."""
    states = results()
    survived = sorted(name for name, state in states.items() if state == "survived")
    shown = {name: change(mutmut("show", name)) for name in survived}
    described = subprocess.run(
        ["git", "log", "-1", "--format=%h of %cs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    PAGE.write_text(page(states, shown, described.stdout.strip() or "a tree without a history"))
    run = sum(state != "not checked" for state in states.values())
    print(f"{len(survived)} of {run} mutants survived; see {PAGE.relative_to(ROOT)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--children", type=int, default=2, help="mutants at the same time")
    parser.add_argument("--report", action="store_true", help="write the page and run nothing")
    options = parser.parse_args(argv)
    if not options.report:
        wanted = [f"{PREFIX}{one}.*" for one in options.modules]
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(options.children)]
        subprocess.run([*command, *wanted], cwd=ROOT, check=True)
    report()


if __name__ == "__main__":
    main()
