"""`bench.datapath` in its shortest form, and the counters beside it: they run, and nobody answers
wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.datapath import machine

MISSING = [name for name in ("wrk", "nginx") if machine.program(name) is None]
WORKLOADS = ("small", "openai-head", "sse", "big", "websocket", "healthz")
COMMAND = (
    *(sys.executable, "-m", "bench.datapath", *WORKLOADS, "--quick", "--only", "nginx,launcher"),
    *("--connections", "8", "--streams", "8", "--rate", "400", "--size", "8", "--sockets", "8"),
)


@pytest.mark.slow
@pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"), reason=f"not installed: {', '.join(MISSING)}"
)
def test_all_workloads_run_and_every_answer_is_right(tmp_path: Path) -> None:
    written = tmp_path / "new" / "numbers.json"
    done = subprocess.run(
        [*COMMAND, "--json", str(written)],
        cwd=machine.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1: a target isn't met, which is no wonder in so short a time beside other tests.
    assert done.returncode in (0, 1), done.stderr

    said = json.loads(written.read_text())
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in said["results"]:
        rows.setdefault((row["workload"], row["metric"]), []).append(row["candidates"])
    for workload in WORKLOADS:
        for candidates in rows[workload, "errors"]:
            assert candidates
            for name, numbers in candidates.items():
                assert numbers["runs"] == [0.0], (workload, name)
    for workload, metric in (
        ("small", "requests/s"),
        ("small", "CPU, µs"),
        ("sse", "CPU by event, µs"),
        ("big", "MB/s"),
        ("websocket", "messages/s"),
    ):
        for candidates in rows[workload, metric]:
            assert candidates["launcher"]["median"] > 0, metric
            assert candidates["launcher"]["ratio"] > 0, metric
    targets = {one["what"]: one for one in said["targets"]}
    assert targets["start-up, of `import aiohttp`"]["met"] is None, "it was left out"
    flat = targets["memory more at its peak, MiB (upload)"]
    assert flat["met"] is (flat["value"] <= flat["bound"])
    assert "launcher" in done.stdout


def run(*command: str) -> str:
    """Return what a module of the benchmark prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=machine.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_calls_per_unit_are_counted_by_function() -> None:
    work = "event of 16 streams"
    lines = run("bench.datapath.profile", "--count", "20", "--work", work).splitlines()
    assert lines[0] == f"calls per unit, {work}"
    rows = {line[22:]: (float(line[:10]), float(line[10:20])) for line in lines[3:]}
    python, c = rows["all"]
    assert 0 < python < 10_000
    assert 0 < c < 10_000
    assert any(row.startswith("launcher/") for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(
    machine.program("valgrind") is None and not os.environ.get("CI"),
    reason="valgrind is not installed",
)
def test_instructions_per_request_are_counted() -> None:
    work = "small, 1 connection"
    lines = run("bench.datapath.instructions", "--only", "launcher", "--count", "5", work)
    row = next(line for line in lines.splitlines() if line.startswith(work))
    assert 10_000 < float(row.split()[-1].replace(",", "")) < 10_000_000
