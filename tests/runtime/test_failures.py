"""Failures in words: what is known is told, secrets are not."""

from __future__ import annotations

import pytest

from launcher.config import Secret
from launcher.config.redact import Redactor
from launcher.core.types import BackendId
from launcher.drivers.base import Observation
from launcher.errors import ERROR_KINDS, LauncherError
from launcher.runtime import starter

ID = BackendId("coder")
REDACT = Redactor([Secret("s3cret")]).text


@pytest.mark.parametrize(
    ("seen", "code", "told"),
    [
        (Observation(exists=False), "backend_missing", "removed"),
        (Observation(exit_code=3), "backend_start_failed", "exit code 3"),
        (Observation(exit_code=137, oom_killed=True), "backend_start_failed", "out of memory"),
        (Observation(error="no s3cret device"), "backend_start_failed", "no *** device"),
        (Observation(), "backend_start_failed", "ended before it was ready;"),
        (Observation(running=True, instance="y"), "backend_start_failed", "restart policy"),
    ],
)
def test_each_way_to_end(seen: Observation, code: str, told: str) -> None:
    failure = starter.died(ID, seen, "x", ["a s3cret line"], REDACT)
    assert failure.code == code
    assert told in failure.message
    assert "s3cret" not in f"{failure.message}{failure.detail}"
    if seen.exists:
        assert (failure.detail or "").endswith("a *** line")


def test_something_without_an_instance() -> None:
    seen = Observation(running=True)
    assert "could not be identified" in starter.died(ID, seen, None, [], REDACT).message


def test_a_drivers_error_keeps_its_code_and_loses_secrets() -> None:
    error = LauncherError("backend_start_failed", "s3cret!", detail="s3cret?")
    failure = starter.from_error(error, REDACT, ["line s3cret"])
    assert (failure.code, failure.message, failure.detail) == (
        "backend_start_failed",
        "***!",
        "***?\nline ***",
    )
    assert starter.from_error(LauncherError("backend_missing", "x"), REDACT).detail is None


def test_timeouts_say_how_long_and_what_was_seen() -> None:
    failure = starter.start_timeout(ID, 600.0, "It answered s3cret.", [], REDACT)
    assert failure.code == "start_timeout"
    assert "600 s" in failure.message
    assert "It answered ***. If it only needs longer, raise `start_timeout`" in failure.message
    assert "25 s" in starter.stop_timeout(ID, 25.0).message


def test_every_code_is_in_the_reference() -> None:
    made = [
        starter.died(ID, Observation(), "x", [], REDACT),
        starter.start_timeout(ID, 1.0, "", [], REDACT),
        starter.stop_timeout(ID, 1.0),
        starter.crashed("backend_stop_failed", ID, "stopping", ValueError("x")),
    ]
    assert all(failure.code in ERROR_KINDS for failure in made)
