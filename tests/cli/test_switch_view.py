"""The steps of a switch."""

from __future__ import annotations

import io
import json

from rich.console import Console

from launcher.cli.switch_view import finished, steps
from launcher.client.reading import switch_of
from launcher.client.reports import SwitchReport
from tests.cli.test_switch import step, switch


def report(state: str, *given: dict[str, object], **more: object) -> SwitchReport:
    return switch_of(json.dumps(switch(state, *given, **more)).encode())


def printed(shown: SwitchReport, waited: float = 4.0) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100).print(steps(shown, waited))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_goes_on_and_what_is_left() -> None:
    assert printed(report("running", step("stop chat"), step("start comfy", None))) == [
        "✓  stop chat    1.5 s",
        "…  start comfy",
        "switch 7 to comfy is under way, 4.0 s, about 26 s left",
    ]


def test_a_switch_that_waits_for_its_turn() -> None:
    assert printed(report("queued", predicted_ms=None))[-1] == (
        "switch 7 to comfy waits for its turn, 4.0 s"
    )


def test_one_that_is_over() -> None:
    failed = report("rolled_back", step("start comfy", False, "no\x1bGPU"), step("restore chat"))
    assert printed(failed) == [
        r"✕  start comfy   1.5 s  no\x1bGPU",
        "✓  restore chat  1.5 s",
    ]


def test_lines_come_in_order() -> None:
    drained, going = step("drain a"), step("drain b", None)
    assert finished(report("running", drained, going, step("stop c"))) == [
        "drain a: done after 1.5 s"
    ]
    assert finished(report("failed", going)) == ["drain b: cut short"]
