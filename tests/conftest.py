"""Shared by all tests: what a test marked `docker` needs, and what happens without it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Generator

import pytest


def _engine_answers() -> bool:
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(address.removeprefix("unix://"))
        except OSError:
            return False
    return True


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C; what tests start must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, those that use the engine stay in one line, and so do the browser's: to it, a
    container that comes or goes is a change of the network. All others keep to their files.

    Without an engine, tests that need one are skipped by name on a laptop; in CI they run,
    and fail loudly."""
    for item in items:
        engine = item.get_closest_marker("docker") or "ui" in item.path.parts
        item.add_marker(pytest.mark.xdist_group("engine" if engine else str(item.path)))
    if os.environ.get("CI") or _engine_answers():
        return
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.skip(reason="no Docker Engine answers here"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged goes to another process, and must be text for that."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which moves of the lifecycle the random runs made."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "transitions":
                terminalreporter.write_line(f"transitions covered: {value}")
