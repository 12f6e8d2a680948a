"""The page of surviving mutants, made from what mutmut says."""

from __future__ import annotations

from bench.mutants import change, function, module, page

METHOD = "launcher.core.queue.xǁQueueǁ_place__mutmut_2"
FUNCTION = "launcher.core.eviction.x_price__mutmut_11"


def test_names_are_read_back() -> None:
    assert [module(METHOD), function(METHOD)] == ["queue", "Queue._place"]
    assert [module(FUNCTION), function(FUNCTION)] == ["eviction", "price"]


def test_a_change_is_its_changed_lines() -> None:
    diff = [
        "# name: survived",
        "--- a.py",
        "+++ a.py",
        "@@ -1 +1 @@",
        " def f():",
        "-    1",
        "+    2",
    ]
    assert change(diff) == "- 1\n+ 2"


def test_the_page_counts_and_lists() -> None:
    states = {METHOD: "survived", FUNCTION: "killed", FUNCTION + "2": "not checked"}
    text = page(states, {METHOD: "- 1\n+ 2"}, "abc of today")
    assert "| eviction | 2 | 1 | 0 | 0 | 1 |" in text
    assert "| queue | 1 | 0 | 1 | 0 | 0 |" in text
    assert "`Queue._place`\n\n```diff\n- 1\n+ 2\n```" in text
    assert "abc of today" in text
