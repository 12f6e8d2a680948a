"""The fake prober says what the script says."""

from __future__ import annotations

import asyncio
import math

import pytest

from launcher.drivers.base import ContainerSpec
from launcher.runtime.probe import PROBE_TIMEOUT
from tests.fake_driver import FakeDriver
from tests.fake_probe import FakeProber
from tests.runtime.house import A, config
from tests.runtime.virtual_clock import virtual


@virtual
async def test_each_answer() -> None:
    other, driver = FakeDriver("other"), FakeDriver()
    driver.configure({A: ContainerSpec("a", 1)})
    prober = FakeProber(other, driver)
    driver.run(A)
    (admission,) = await driver.endpoints(A)

    assert (await prober.probe(config(A), admission)).ready
    script = driver.script(A)
    script.forbidden = True
    assert (await prober.probe(config(A), admission)).fatal is not None
    script.ready_after = math.inf
    loading = await prober.probe(config(A), admission)
    assert (loading.ready, loading.answered) == (False, True)
    script.hangs = True
    before = asyncio.get_running_loop().time()
    silent = await prober.probe(config(A), admission)
    assert (silent.silent, silent.answered) == (True, False)
    assert asyncio.get_running_loop().time() - before == pytest.approx(PROBE_TIMEOUT)
    driver.kill(A)
    refused = await prober.probe(config(A), admission)
    assert (refused.ready, refused.answered, refused.silent) == (False, False, False)
    assert prober.asked == 5
