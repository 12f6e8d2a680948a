"""From a backend's configuration to what the scheduler knows of it. Pure."""

from __future__ import annotations

from launcher.config import BackendConfig
from launcher.core.types import BackendSpec, Estimates, Needs, Placement


def spec_of(
    config: BackendConfig, capacity: Needs, prewarm: int | None, estimates: Estimates
) -> BackendSpec:
    """`needs = None` is all of the capacity; `prewarm` is the rank among those prewarmed."""
    needs = capacity if config.needs is None else config.needs
    return BackendSpec(
        id=config.id,
        placements=(Placement(needs),),
        idle_timeout=config.idle_timeout,
        start_timeout=config.start_timeout,
        max_queue=config.max_queue,
        prewarm=prewarm,
        asks_busy=config.busy is not None,
        max_in_flight=config.max_in_flight,
        linger=config.linger,
        estimates=estimates,
        start_guess=config.start_guess,
        stop_guess=config.stop_guess,
    )
