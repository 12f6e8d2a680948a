"""Traces as people have them; what is wrong is said with its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.types import Priority
from launcher.simulate.trace import Trace, TraceError, read_trace


def read(tmp_path: Path, text: str) -> Trace:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    return read_trace(file, lambda name: Priority.BATCH if name == "b" else Priority.NORMAL)


def test_seconds_count_from_the_first_and_models_are_numbered(tmp_path: Path) -> None:
    trace = read(tmp_path, "time,model,service\n100,a,2.5\n101.5,b,0\n\n102,a,1\n")
    assert trace.names == ("a", "b")
    assert list(trace.requests) == [(0.0, 0, 2.5, 1), (1.5, 1, 0.0, 2), (2.0, 0, 1.0, 1)]


def test_iso_times_other_names_and_columns_that_are_ignored(tmp_path: Path) -> None:
    trace = read(
        tmp_path,
        "Route, Timestamp ,user,Seconds,Class\n"
        "a,2023-11-16 18:17:03.9799600,x,1,interactive\n"
        "b,2023-11-16T18:17:05.479960+00:00,y,2, Normal\n",
    )
    assert [row[1:] for row in trace.requests] == [(0, 1.0, 0), (1, 2.0, 1)]
    assert trace.requests.at[1] == pytest.approx(1.5, abs=1e-3)


def test_rows_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    trace = read(tmp_path, "time,model,service\n10,a,1\n5,b,1\n")
    assert list(trace.requests) == [(0.0, 1, 1.0, 2), (5.0, 0, 1.0, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("time,model,service\n", "no requests"),
        ("time,model\n1,a\n", "line 1: no column 'service'"),
        ("time,model,service\n1,a,1\nsoon,a,1\n", "line 3, column time: .* not 'soon'"),
        ("time,model,service\nnan,a,1\n", "line 2, column time: expected a finite"),
        ("time,model,service\n0,a,1\n2024-01-01,b,1\n", "line 3, column time: dates, where"),
        ("time,model,service\n1,a,-1\n", "line 2, column service: expected seconds >= 0"),
        ("time,model,service\n1,a,long\n", "line 2, column service: .* not 'long'"),
        ("time,model,service\n1, ,1\n", "line 2, column model: expected a model's name"),
        ("time,model,service\n1,a\n", "line 2: 2 columns, the header has 3"),
        ("time,model,service,class\n1,a,1,urgent\n", "line 2, column class: expected one of"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(b"time,model,service\n1,\xff\xfe,1\n")
    with pytest.raises(TraceError, match=r"trace\.csv: it isn't a CSV file in UTF-8"):
        read_trace(file)
