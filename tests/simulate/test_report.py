"""Tables for people."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from rich.console import Console

from launcher.simulate.measure import measure
from launcher.simulate.plot import plot
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


SVG = "{http://www.w3.org/2000/svg}"


def drawn(names: tuple[str, ...] = ("a", "b")) -> ElementTree.Element:
    models = tuple(Model(name, start=10.0) for name in names)
    requests = Requests([(0.0, 0, 4.0, 1), (12.0, 1, 5.0, 1), (12.0, 1, 5.0, 1)])
    workload = Workload(models, requests)
    return ElementTree.fromstring(
        plot([(name, run(workload, name)) for name in ("collation", "bounded")])
    )


def bars(panel: ElementTree.Element, look: str) -> list[list[float]]:
    """Of each bar its left and right end."""
    return [
        [float(x) for x in re.findall(r"[MH](-?[\d.]+)", bar)][:2]
        for path in panel.iter(f"{SVG}path")
        if path.get("class") == look
        for bar in (path.get("d") or "").split("Z")
        if bar
    ]


def test_a_panel_for_each_policy_with_a_bar_for_each_span() -> None:
    panels = {panel.get("id"): panel for panel in drawn().findall(f"{SVG}g")}
    assert list(panels) == ["collation", "bounded"]
    for panel in panels.values():
        assert len(bars(panel, "ready")) == len(bars(panel, "loading")) == 2
        assert len(bars(panel, "stopping")) == 1
        assert len(bars(panel, "queue")) == 1


def test_bars_stand_at_their_times() -> None:
    panel = drawn().find(f"{SVG}g[@id='collation']")
    assert panel is not None
    (loads, again), (ready, _) = bars(panel, "loading"), bars(panel, "ready")
    # 10 s of start and 4 s of service; from 14 to 16 it stops, and the other starts to 26.
    second = (loads[1] - loads[0]) / 10
    assert abs(ready[0] - loads[1]) < 0.05
    assert abs((ready[1] - ready[0]) / second - 4) < 0.05
    assert abs((again[0] - loads[0]) / second - 16) < 0.05


def test_all_queues_are_on_one_scale_of_the_longest() -> None:
    words = ["".join(text.itertext()) for text in drawn().iter(f"{SVG}text")]
    assert words.count("2") == 2
    assert {"a", "b", "ready", "starting or stopping", "requests waiting", "time"} <= set(words)
    assert any(word.startswith("collation1 swaps, mean wait") for word in words)


def test_names_are_escaped_and_cut() -> None:
    words = [text.text for text in drawn(("<a&b>", "x" * 40)).iter(f"{SVG}text")]
    assert "<a&b>" in words
    assert f"{'x' * 19}…" in words


def test_it_follows_light_and_dark() -> None:
    style = drawn().find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
