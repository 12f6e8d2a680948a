"""Clients that leave at any point leave nothing behind. `bench/abort_storm.py` does it longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.abort_storm import AIM, ENDINGS, POINTS, run

REQUESTS, MARK = 2500, 500


@pytest.mark.slow
def test_clients_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    result = run(tmp_path, REQUESTS, MARK)
    assert result.surprises == []
    # It was a storm: each point and each ending many times, with many at once.
    assert sum(result.points.values()) == sum(result.endings.values()) == REQUESTS
    assert len(result.points) == len(POINTS)
    assert len(result.endings) == len(ENDINGS)
    assert min(result.points.values()) > REQUESTS / len(POINTS) / 2
    assert result.most_queued > 1
    assert result.most_in_flight > 1
    assert (result.tickets, result.connections, result.working) == (0, 0, 0)
    assert result.files <= result.files_before
    assert result.growth < AIM
