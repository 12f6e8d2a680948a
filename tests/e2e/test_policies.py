"""The scheduling policies on a real engine. `bench/policies.py` does it longer, with all three."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.policies import run, workload
from tests.e2e.conftest import Make

REQUESTS, CLIENTS, GAP = 36, 12, 1.0
MODELS = ("coder", "chat")


@pytest.mark.docker
@pytest.mark.slow
def test_the_bounded_policy_starts_no_more_than_arrival_order(
    tmp_path: Path, container: Make
) -> None:
    containers = {model: container(model, START_DELAY="0.3") for model in MODELS}
    clients = workload(REQUESTS, CLIENTS, seed=1, models=MODELS, gap=GAP)
    results = {
        policy: run(tmp_path / policy, policy, clients, containers)
        for policy in ("bounded", "arrival")
    }
    for result in results.values():
        # Every answer whole, never two at once, each start counted.
        assert result.problems == []
        assert result.requests == REQUESTS
        assert result.most_at_once == 1
        assert result.starts >= len(MODELS)
    assert results["bounded"].starts <= results["arrival"].starts, results
