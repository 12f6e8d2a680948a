"""`launcher simulate`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from launcher.cli import app


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *words])


def test_all_policies_are_compared() -> None:
    result = typed("--duration", "10m", "--seed", "3")
    assert result.exit_code == 0, result.output
    first = [line.split()[0] for line in result.output.splitlines()[1:4]]
    assert sorted(first) == ["arrival", "bounded", "collation"]


def test_json_of_a_trace_with_a_picture(tmp_path: Path) -> None:
    trace, picture = tmp_path / "trace.csv", tmp_path / "out.svg"
    trace.write_text("time,model,service\n0,a,4\n12,b,5\n")
    words = ["--start", "10s", "--start", "b:20s", "--policy", "collation", "--json"]
    result = typed(str(trace), *words, "--plot", str(picture))
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert (report["policy"], report["swaps"], report["seconds"]) == ("collation", 1, 41.0)
    assert report["models"]["b"]["max"] == 24.0
    assert picture.read_text().startswith("<svg")


def test_the_same_seed_gives_the_same() -> None:
    words = ("--duration", "20m", "--agents", "1", "--json")
    assert typed(*words).stdout == typed(*words).stdout
    assert typed(*words).stdout != typed(*words, "--seed", "1").stdout


def test_what_is_wrong_is_said() -> None:
    for words, said in (
        (("--policy", "random"), "--policy"),
        (("--start", "soon"), "--start"),
        (("--starved", "never"), "--starved"),
        (("nowhere.csv",), "TRACE.csv"),
        (("--duration", "5m", "--plot", "/nonexistent/out.svg"), "--plot"),
    ):
        result = typed(*words)
        assert result.exit_code == 2, words
        assert said in result.output
