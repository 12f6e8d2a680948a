"""The table of moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.lifecycle import TRANSITIONS, Cause, IllegalTransition, diagram, move
from launcher.core.types import BackendState


def test_a_move_of_the_table_is_made() -> None:
    assert move(BackendState.STOPPED, Cause.START) is BackendState.STARTING


def test_every_other_move_is_loud() -> None:
    illegal = [(s, c) for s in BackendState for c in Cause if (s, c) not in TRANSITIONS]
    assert illegal
    for state, cause in illegal:
        with pytest.raises(IllegalTransition, match=cause.name):
            move(state, cause)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(BackendState)
    assert {before for before, _ in TRANSITIONS} == set(BackendState)


def test_the_diagram_has_every_move() -> None:
    assert diagram().count("-->") == len(TRANSITIONS) + 1


@pytest.mark.parametrize("page", ["how-it-decides.md", "architecture.md"])
def test_the_docs_have_this_diagram(page: str) -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / page
    assert diagram() in path.read_text(encoding="utf-8")
