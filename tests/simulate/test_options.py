"""Options become a workload, or an error that names the option."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from launcher.core.types import Priority
from launcher.simulate.options import OptionError, Options, assemble, duration_of, units_of


def test_nothing_said_makes_something_up() -> None:
    workload = assemble(Options())
    assert workload.names == ("model-1", "model-2", "model-3", "model-4")
    assert len(list(workload.requests)) > 100
    model = workload.models[0]
    assert (model.start, model.stop, model.max_in_flight, model.max_wait) == (25.0, 2.0, 8, 60.0)
    assert model.needs == workload.capacity == (("gpu", 1),)
    assert workload.horizon == math.inf


def test_values_for_all_and_for_one() -> None:
    workload = assemble(
        Options(
            models=2,
            start=("40s", "model-2:1m30s"),
            needs=("gpu=1", "model-1:gpu=2"),
            max_in_flight=("model-1:0",),
            priority=("batch", "model-2:interactive"),
            capacity="gpu=2",
        )
    )
    first, second = workload.models
    assert (first.start, second.start) == (40.0, 90.0)
    assert (dict(first.needs), dict(second.needs)) == ({"gpu": 2}, {"gpu": 1})
    assert (first.max_in_flight, second.max_in_flight) == (None, 8)
    assert {(model, priority) for _, model, _, priority in workload.requests} == {(0, 2), (1, 0)}


def test_agents_end_with_the_duration() -> None:
    workload = assemble(Options(models=2, agents=3, rate=0.0, duration="2h"))
    assert [loop.model for loop in workload.loops] == [0, 1, 0]
    assert workload.horizon == 7200.0
    assert assemble(Options(agents=1, horizon="30m")).horizon == 1800.0


def test_a_trace_brings_its_models(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,model,service\n0,qwen:7b,1\n1,b,1\n")
    workload = assemble(Options(trace=file, start=("qwen:7b:50s",), priority=("b:batch",)))
    assert workload.names == ("qwen:7b", "b")
    assert [model.start for model in workload.models] == [50.0, 25.0]
    assert [row[3] for row in workload.requests] == [Priority.NORMAL, Priority.BATCH]
    assert workload.loops == ()


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        (Options(start=("soon",)), "--start", "soon: expected a duration"),
        (Options(start=("x:3",)), "--start", "no model 'x'; there are model-1"),
        (Options(capacity="24"), "--capacity", "expected NAME=N"),
        (Options(needs=("model-1:gpu=2",)), "--needs", "model-1 needs 2 gpu, and there are 1"),
        (Options(needs=("vram=2",)), "--needs", "needs 2 vram, and there are 0"),
        (Options(max_in_flight=("-1",)), "--max-in-flight", "whole number"),
        (Options(priority=("urgent",)), "--priority", "interactive, normal, batch"),
        (Options(service="x"), "--service", "duration"),
        (Options(trace=Path("/nonexistent")), "TRACE.csv", "No such file"),
    ],
)
def test_errors_name_the_option(options: Options, option: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        assemble(options)
    assert caught.value.option == option


def test_words() -> None:
    assert dict(units_of("gpu=1, vram=2KiB")) == {"gpu": 1, "vram": 2048}
    assert duration_of("--starved", "10m") == 600.0
