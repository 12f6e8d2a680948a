"""Bodies far larger than what the launcher may hold. `bench/big_bodies.py` does it with 2 GiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.big_bodies import AIM, MIB, run

#: What a proxy that buffers would hold is several times what it may.
SIZE = 256 * MIB


@pytest.mark.slow
def test_big_bodies_arrive_whole_and_leave_memory_flat(tmp_path: Path) -> None:
    done = run(tmp_path, SIZE)
    assert [one.name for one in done if not one.whole] == []
    assert [one.name for one in done if one.growth >= AIM] == []
    # Whoever stands still holds up the other side, instead of filling something between.
    assert {one.name: one.sender_waited for one in done if one.sender_waited is not None} == {
        "upload, slow backend": True,
        "download, slow client": True,
    }
