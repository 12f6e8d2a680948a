"""Tables for people."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from launcher.simulate.measure import measure
from launcher.simulate.report import duration, seconds, tables
from launcher.simulate.workload import Model, Requests, Workload
from tests.simulate.policies import run


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4, "0 s"),
        (59.7, "1 min"),
        (725, "12 min 5 s"),
        (12000, "3 h 20 min"),
        (400000, "4 d 15 h"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert duration(value) == shown


def test_seconds() -> None:
    assert [seconds(x) for x in (0.44, 12.5, 1204.4)] == ["0.4", "12.5", "1,204"]


def shown(queue_timeout: float, *priorities: int, ages: Sequence[float] = ()) -> str:
    requests = Requests([(float(n), n % 2, 4.0, p) for n, p in enumerate(priorities)])
    models = (Model("coder"), Model("chat"))
    workload = Workload(models, requests, queue_timeout=queue_timeout)
    console = Console(width=80, record=True, file=io.StringIO())
    found = [measure(run(workload, name, ages), name) for name in ("bounded", "collation")]
    console.print(tables(found))
    return console.export_text()


def test_policies_models_and_classes_are_side_by_side() -> None:
    text = shown(1e9, 0, 2, 1)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:3] == ["policy", "swaps", "makespan"]
    assert next(line[:2] for line in lines if line[:1] == ["bounded"]) == ["bounded", "1"]
    assert any(line[:3] == ["coder", "bounded", "2"] for line in lines)
    assert any(line[:3] == ["batch", "bounded", "1"] for line in lines)
    assert "…" not in text


def test_one_class_needs_no_table_and_the_rejected_are_unserved() -> None:
    text = shown(30.0, 1, 1)
    assert "class" not in text
    bounded = next(line.split() for line in text.splitlines() if line.startswith("bounded"))
    assert bounded[-2] == "1"


def test_forecasts_are_shown_where_there_are_any() -> None:
    assert "forecasts, s" not in shown(1e9, 0, 2, 1)
    lines = shown(1e9, 0, 2, 1, ages=(0.0,)).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("forecasts, s"))
    assert lines[at + 1].split()[:2] == ["bounded", "3"]
    assert lines[at + 1].split()[-1] == "0"
