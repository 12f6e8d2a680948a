"""The command `launcher simulate`: options to a workload, each policy tried on it, a report.

Options that models differ in may be repeated: `--start 25s --start big:60s`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# What the simulation itself needs is imported when it runs: `--help` doesn't wait for it.
if TYPE_CHECKING:
    from launcher.simulate.engine import Outcome

_SHAPE = "Made-up traffic, without TRACE"
_MODELS = "Models: for all, or NAME:VALUE for one; may be repeated"


def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE.csv",
            help="Requests to play: a CSV file with a header and the columns time (seconds, or "
            "ISO 8601), model, service (seconds) and, if you like, class (interactive, normal, "
            "batch). Without it they are made up.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="NAME",
            help="bounded (the product's), collation, arrival. May be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    capacity: Annotated[
        str, typer.Option(metavar="NAME=N,…", help="What the machine has, as in \\[capacity].")
    ] = "gpu=1",
    horizon: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="End here, whoever still waits. Default: after the last answer; with agents, "
            "after --duration.",
            show_default=False,
        ),
    ] = None,
    starved: Annotated[
        str, typer.Option(metavar="TIME", help="A request that waited longer counts as starved.")
    ] = "10m",
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.svg",
            help="Draw who was up when, and the queue under it, a panel for each policy.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option(metavar="TIME", help="\\[default: 25s]", rich_help_panel=_MODELS),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TIME", help="\\[default: 2s]", rich_help_panel=_MODELS),
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N,…",
            help="What each occupies. Default: all of the capacity, so one at a time.",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    max_in_flight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            help="Served at a time; 0: no bound. \\[default: 8]",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    max_wait: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIME",
            help="After which a busy model makes room. \\[default: 60s]",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    priority: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="interactive, normal, batch.", rich_help_panel=_MODELS),
    ] = None,
    models: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            help="How many; the n-th is asked 1/n as often as the first.",
            rich_help_panel=_SHAPE,
        ),
    ] = 4,
    rate: Annotated[
        float,
        typer.Option(
            min=0.0, max=1000.0, help="Requests a second, of all.", rich_help_panel=_SHAPE
        ),
    ] = 0.1,
    burst: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=100.0,
            help="Coefficient of variation of the gaps: 1 is even chance, 8 comes in bursts.",
            rich_help_panel=_SHAPE,
        ),
    ] = 3.0,
    service: Annotated[
        str, typer.Option(metavar="TIME", help="For one answer.", rich_help_panel=_SHAPE)
    ] = "5s",
    agents: Annotated[
        int,
        typer.Option(
            min=0,
            help="Clients that ask one model in a loop, wait for the answer (4 s), and think "
            "0.3 to 2 s; the n-th asks the n-th model.",
            rich_help_panel=_SHAPE,
        ),
    ] = 0,
    duration: Annotated[
        str, typer.Option(metavar="TIME", help="Requests come for so long.", rich_help_panel=_SHAPE)
    ] = "1h",
) -> None:
    """Try the scheduling policies on a trace, or on traffic that is made up. Starts nothing.

    The product's own scheduler runs on a virtual clock; hours take seconds.
    Shows swaps, waits, who starves, and how good the forecasts were, for each policy.

    \b
      launcher simulate
      launcher simulate --agents 2 --models 2 --rate 0 --start 18s
      launcher simulate yesterday.csv --start 40s --start big:90s --plot out.svg
      launcher simulate yesterday.csv --capacity vram=24 --needs vram=9 --json
    """
    from launcher.core.policy import POLICIES
    from launcher.simulate.measure import AGES, measure
    from launcher.simulate.options import OptionError, Options, assemble, duration_of

    options = Options(
        trace=trace,
        capacity=capacity,
        horizon=horizon,
        seed=seed,
        start=tuple(start or ()),
        stop=tuple(stop or ()),
        needs=tuple(needs or ()),
        max_in_flight=tuple(max_in_flight or ()),
        max_wait=tuple(max_wait or ()),
        priority=tuple(priority or ()),
        models=models,
        rate=rate,
        burst=burst,
        service=service,
        agents=agents,
        duration=duration,
    )
    names = policy or list(POLICIES)
    try:
        for name in names:
            if name not in POLICIES:
                raise OptionError("--policy", f"expected one of {', '.join(POLICIES)}")
        workload = assemble(options)
        limit = duration_of("--starved", starved)
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None
    from launcher.core.scheduler import Scheduler
    from launcher.simulate.engine import simulate as play

    outcomes = [
        (name, play(workload, lambda room, name=name: Scheduler(room, POLICIES[name]()), AGES))  # type: ignore[misc]
        for name in dict.fromkeys(names)
    ]
    reports = [measure(outcome, name, limit) for name, outcome in outcomes]
    if plot is not None:
        _draw(plot, outcomes)
    if json:
        from json import dumps

        typer.echo(dumps([report.plain() for report in reports], indent=2))
        return
    from rich.console import Console

    from launcher.simulate.report import tables

    Console().print(tables(reports))


def _draw(path: Path, outcomes: list[tuple[str, Outcome]]) -> None:
    from launcher.simulate.plot import plot

    try:
        path.write_text(plot(outcomes), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--plot") from None
