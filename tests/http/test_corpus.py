"""The inputs that the fuzzer found interesting, run again: see `bench.fuzz`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fuzz.__main__ import KEPT
from bench.fuzz.wire import Loop

INPUTS = sorted(path for path in KEPT.glob("*/*"))


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_there_are_inputs_for_both_sides() -> None:
    assert {path.parent.name for path in INPUTS} == {"server", "upstream"}


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name[:8]}")
def test_input_is_read_as_llhttp_and_the_rules_have_it(path: Path, loop: Loop) -> None:
    importlib.import_module(f"bench.fuzz.{path.parent.name}").check(loop, path.read_bytes())
