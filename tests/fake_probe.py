"""Probes of the fake driver's backends: no sockets, the script answers."""

from __future__ import annotations

import asyncio

from launcher.config import BackendConfig
from launcher.core.types import Failure
from launcher.http.endpoint import Endpoint
from launcher.runtime.probe import PROBE_TIMEOUT, Verdict
from tests.fake_driver import FakeDriver


class FakeProber:
    """Asks the fake drivers what a request would meet; `asked` counts the probes."""

    def __init__(self, *drivers: FakeDriver) -> None:
        self._drivers = drivers
        self.asked = 0

    async def probe(self, config: BackendConfig, endpoint: Endpoint) -> Verdict:
        """See `Probe.probe`."""
        self.asked += 1
        answers = [driver.answer(endpoint) for driver in self._drivers]
        answer = next((one for one in answers if one != "refused"), "refused")
        if answer == "silent":
            await asyncio.sleep(PROBE_TIMEOUT)
        fatal = None
        if answer == "forbidden":
            fatal = Failure("backend_start_failed", f"{config.id} refused its `backend_key`.")
        return Verdict(
            ready=answer == "ready",
            seen=f"{endpoint} was {answer}",
            answered=answer in ("ready", "loading", "forbidden"),
            silent=answer == "silent",
            fatal=fatal,
        )
