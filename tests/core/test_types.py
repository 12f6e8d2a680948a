"""The core's nouns: one spelling for each need, and who counts as resident."""

from __future__ import annotations

from launcher.core.types import RESIDENT, BackendState, Priority, needs, patience


def test_needs_have_one_spelling() -> None:
    assert needs(vram=24, gpu=1) == needs(gpu=1, vram=24) == (("gpu", 1), ("vram", 24))


def test_a_need_of_nothing_is_none() -> None:
    assert needs(gpu=0) == needs() == ()


def test_whatever_may_hold_memory_is_resident() -> None:
    assert set(BackendState) - RESIDENT == {BackendState.STOPPED, BackendState.FAILED}


def test_every_class_has_a_bound() -> None:
    assert patience(Priority.INTERACTIVE, 60.0, 1800.0)[0] == 60.0
    assert patience(Priority.NORMAL, 60.0, 1800.0) == (60.0, 600.0)
    assert patience(Priority.BATCH, 60.0, 1800.0) == (1800.0, 1800.0)
