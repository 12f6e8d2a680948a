"""Each rule of the core, deliberately broken in a copy, makes some test fail."""

from __future__ import annotations

from random import Random

import pytest

from launcher.core.lifecycle import IllegalTransition
from tests.core.broken import MUTANTS, Mutant, load
from tests.core.chance import Chance
from tests.core.operator_scenarios import SCENARIOS
from tests.core.stage import Make


def survives(make: Make) -> bool:
    """Whether every scenario and a number of random runs pass."""
    try:
        for scenario in SCENARIOS:
            scenario(make)
        for seed in range(60):
            Chance(make, Random(seed), operators=False).run(100)
        for seed in range(30):
            Chance(make, Random(seed)).run(100)
            Chance(make, Random(seed), operators=False, crowded=True).run(100)
    except (AssertionError, KeyError, IndexError, IllegalTransition):
        return False
    return True


def test_an_unbroken_copy_survives() -> None:
    assert survives(load(Mutant("none", "placement", "Who gets a place", "Who gets a place")))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.rule)
def test_broken(mutant: Mutant) -> None:
    assert not survives(load(mutant)), f"no test notices: {mutant.rule}"
