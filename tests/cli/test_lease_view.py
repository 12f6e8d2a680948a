"""Leases in words."""

from __future__ import annotations

from launcher.cli.lease_view import ending, leases_table, left
from launcher.client.reports import LeaseReport

LEASE = LeaseReport("7", "comfy", "active", "anna", "the video", 2700.0, None)
PIN = LeaseReport("8", "reserved: gpu 1", "active", "", "", None, None)


def test_what_is_left() -> None:
    assert (left(LEASE), ending(LEASE)) == ("45 min", "for 45 min")
    assert (left(PIN), ending(PIN)) == ("no end", "without an end")


def test_a_row_for_each() -> None:
    assert leases_table([LEASE, PIN]).row_count == 2
