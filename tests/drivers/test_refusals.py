"""The engine's own words, and what to do about them."""

from __future__ import annotations

import pytest

from launcher.drivers.container import start_failed
from launcher.drivers.engine import EngineRefused


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "Stop what holds that port"),
        ("could not select device driver", "Install the NVIDIA Container Toolkit"),
        ("network models not found", "Recreate the container"),
    ],
)
def test_known_refusals_come_with_advice(said: str, advice: str) -> None:
    error = start_failed("coder", EngineRefused(500, said))
    assert error.code == "backend_start_failed"
    assert error.message.startswith(f"Docker could not start container 'coder': {said} {advice}")


def test_unknown_ones_come_as_they_are() -> None:
    error = start_failed("coder", EngineRefused(500, "it rains "))
    assert error.message == "Docker could not start container 'coder': it rains"


def test_a_container_that_vanished() -> None:
    error = start_failed("coder", EngineRefused(404, "No such container: coder"))
    assert error.code == "backend_missing"
