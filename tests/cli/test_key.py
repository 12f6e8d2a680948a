"""`launcher key new`: a key that opens, and what it says of it."""

from __future__ import annotations

import re
from pathlib import Path

from launcher.config.api_keys import digest
from tests.cli.running import GOOD, run
from tests.config.documents import load


def test_a_new_key_and_the_table_that_knows_it(tmp_path: Path) -> None:
    made = [
        run("key", "new", "--name", "ops", "--scope", "admin", "--scope", "infer") for _ in "ab"
    ]
    keys = []
    for done in made:
        assert done.returncode == 0
        found = re.search(r"shown this once: (sk-launcher-[\w-]{43})\n", done.stderr)
        assert found is not None
        assert found[1] not in done.stdout
        (key,) = load(tmp_path, GOOD + done.stdout).keys
        assert (key.name, key.scopes) == ("ops", {"admin", "infer"})
        assert key.digest == digest(found[1])
        keys.append(found[1])
    assert keys[0] != keys[1]


def test_what_needs_no_saying(tmp_path: Path) -> None:
    (key,) = load(tmp_path, GOOD + run("key", "new").stdout).keys
    assert (key.name, key.scopes) == ("client", {"infer"})


def test_what_cant_be_one() -> None:
    for args in (["--name", "Al Ice"], ["--scope", "root"]):
        done = run("key", "new", *args)
        assert done.returncode == 2
        assert args[0] in done.stderr
        assert done.stdout == ""


def test_keys_alone_are_explained() -> None:
    assert "new" in run("key").stdout + run("key").stderr
