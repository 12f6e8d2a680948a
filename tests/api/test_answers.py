"""Answers as bytes."""

from __future__ import annotations

from launcher.api.answers import json_answer, milliseconds, timestamp


def test_an_answer_is_json_that_nobody_keeps() -> None:
    answer = json_answer({"a": 1}, 202, (("Retry-After", "5"),))

    assert answer.body == b'{"a":1}\n'
    assert answer.status == 202
    assert answer.headers == (("Cache-Control", "no-store"), ("Retry-After", "5"))


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
    assert timestamp(None) is None


def test_durations_are_whole_milliseconds() -> None:
    assert milliseconds(1.2346) == 1235
    assert milliseconds(None) is None
