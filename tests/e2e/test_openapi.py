"""schemathesis reads /openapi.json and tries everything that it says, and what it rules out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.serving import PATIENCE, Launcher, process_route

ROUTES = process_route("coder") + process_route("chat")

#: What one key of a body means for another, and bounds that the configuration sets (`max_lease`,
#: the capacity), are not in a description that is the same everywhere: they are told with a 400.
BOUNDED = """
[[operations]]
include-path-regex = "^/api/(switch|leases|leases/{id}|mode)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, "5xx"]
"""

#: Names that exist, so that what is behind them is tried too; others are tried without it.
NAMED = """
[[operations]]
include-path-regex = "/api/routes/"
parameters = { name = "coder" }
"""


def tried(base: str, folder: Path, *, settings: str, headers: tuple[str, ...] = ()) -> str:
    """schemathesis's findings, the same each time; "" where there are none."""
    file = folder / "schemathesis.toml"
    file.write_text(settings)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(file)),
            *("run", f"{base}/openapi.json", "--generation-deterministic", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25"),
            *("--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"),
            *(part for header in headers for part in ("--header", header)),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert "Test cases:" in done.stdout, done.stdout + done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.mark.slow
def test_the_api_is_as_its_description_says(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES) as launcher:
        assert tried(launcher.base, tmp_path, settings=NAMED + BOUNDED) == ""
        assert tried(launcher.base, tmp_path, settings=BOUNDED) == ""
        assert launcher.json("/api/status")["ready"]


@pytest.mark.slow
def test_with_keys_it_says_which_operations_need_one(tmp_path: Path) -> None:
    keys = 'api_keys = ["some-api-key"]\nadmin_keys = ["some-admin-key"]'
    with Launcher(tmp_path, ROUTES, top=keys) as launcher:
        headers = ("Authorization: Bearer some-admin-key",)
        assert tried(launcher.base, tmp_path, settings=NAMED + BOUNDED, headers=headers) == ""
