"""What `launcher plan` shows."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from launcher.cli.plan_view import outlook
from launcher.client.reports import PlannedDecision, PlanReport, Predicted, Trouble

SERVED = PlanReport("coder", "served", "coder", None, None, None, (), b"{}")
WAITS = replace(SERVED, outcome="waits", predicted=Predicted(3, 40.2, 12.0))
DRAIN = PlannedDecision("drain", "drains chat: coder waits \x1b[2J", 0.0)
START = PlannedDecision("start", "starts coder: 1 request waiting", 4.0)


def printed(report: PlanReport) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=40).print(outlook(report), soft_wrap=True)
    return out.getvalue().splitlines()


def test_served() -> None:
    assert printed(SERVED) == ["a request for coder would be served by coder at once"]


def test_waits() -> None:
    assert printed(replace(WAITS, decisions=(DRAIN, START))) == [
        "a request for coder would wait for coder, place 3, about 40 s ± 12 s",
        "  now: drains chat: coder waits \\x1b[2J",
        "  in about 4.0 s: starts coder: 1 request waiting",
    ]
    assert printed(replace(WAITS, predicted=None)) == [
        "a request for coder would wait for coder; nobody can tell how long",
        "  nothing would be decided before something else happens",
    ]


def test_rejected() -> None:
    rejected = replace(
        SERVED,
        outcome="rejected",
        rejection=Trouble("not_resident", "coder is stopped."),
        retry_after=40.0,
        decisions=(PlannedDecision("reject", "rejects a request for coder: not_resident", 0.0),),
    )
    assert printed(rejected) == [
        "a request for coder would be rejected (not_resident): coder is stopped. "
        "It may come again in 40 s."
    ]
