"""The picture: well-formed, with a bar for each time that a model was up."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from launcher.simulate.plot import plot
from launcher.simulate.workload import Model, Requests, Workload
from tests.simulate.policies import run

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
