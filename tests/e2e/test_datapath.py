"""`bench.datapath` in its shortest form: it runs, nobody answers wrongly, and it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.datapath import machine

MISSING = [name for name in ("wrk", "nginx") if machine.program(name) is None]
WORKLOADS = ("small", "sse", "big", "websocket")
COMMAND = (
    *(sys.executable, "-m", "bench.datapath", *WORKLOADS, "--quick", "--only", "nginx,launcher"),
    *("--connections", "8", "--streams", "8", "--rate", "400", "--size", "8", "--sockets", "8"),
)


@pytest.mark.slow
@pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"), reason=f"not installed: {', '.join(MISSING)}"
)
def test_the_bench_of_the_data_path_runs(tmp_path: Path) -> None:
    written, picture = tmp_path / "new" / "numbers.json", tmp_path / "new" / "picture.svg"
    done = subprocess.run(
        [*COMMAND, "--json", str(written), "--svg", str(picture)],
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
            assert candidates["launcher"]["runs"] == [0.0], workload
            assert candidates["nginx"]["runs"] == [0.0], workload
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
    met = {one["what"]: one["met"] for one in said["targets"]}
    assert met["start-up, of `import aiohttp`"] is None, "it was left out"
    assert met["upload of a big body, of nginx"] is not None
    assert "launcher" in done.stdout
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
