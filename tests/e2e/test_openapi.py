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

JSON = {"Content-Type": "application/json"}

#: Names that exist, so that what is behind them is tried too; others are tried without it.
NAMED = """
[[operations]]
include-path-regex = "/api/routes/"
parameters = { name = "coder" }

[[operations]]
include-path-regex = "/api/backends/"
parameters = { id = "coder", follow = "false" }

[[operations]]
include-path-regex = "^/api/switches/"
parameters = { id = "1" }

[[operations]]
include-path-regex = "^/api/leases/"
parameters = { id = "1" }
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, "5xx"]
"""


def tried(
    base: str,
    folder: Path,
    *,
    settings: str,
    headers: tuple[str, ...] = (),
    phases: str = "examples,coverage,fuzzing",
) -> None:
    """Fails with whatever schemathesis finds, which is the same each time."""
    file = folder / "schemathesis.toml"
    file.write_text(settings)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(file)),
            *("run", f"{base}/openapi.json", "--generation-deterministic", "--no-color"),
            *("--phases", phases, "--max-examples", "20"),
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
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_api_is_as_its_description_says(tmp_path: Path) -> None:
    with Launcher(tmp_path, ROUTES) as launcher:
        # There is a switch and a lease of the number 1; it has ended, for nobody is to wait.
        assert launcher.request("POST", "/api/switch", b'{"route": "coder"}', **JSON)[0] == 200
        held = b'{"route": "coder", "ttl": 600}'
        assert launcher.request("POST", "/api/leases", held, **JSON)[0] == 201
        assert launcher.request("DELETE", "/api/leases/1")[0] == 200
        tried(launcher.base, tmp_path, settings=NAMED + BOUNDED)
        tried(launcher.base, tmp_path, settings=BOUNDED, phases="coverage")
        assert launcher.json("/api/status")["ready"]


@pytest.mark.slow
def test_with_keys_it_says_which_operations_need_one(tmp_path: Path) -> None:
    keys = 'api_keys = ["some-api-key"]\nadmin_keys = ["some-admin-key"]'
    with Launcher(tmp_path, ROUTES, top=keys) as launcher:
        headers = ("Authorization: Bearer some-admin-key",)
        tried(launcher.base, tmp_path, settings=NAMED + BOUNDED, headers=headers)
