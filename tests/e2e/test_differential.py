"""The differential test itself: one checkout doesn't differ from itself, and a change is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.differential.__main__ import compare
from bench.differential.backend import Arrived, Record
from bench.differential.cases import PLAIN, TOKEN, Case, Send, cases, make, smaller
from bench.differential.client import Reading, Seen
from bench.differential.compare import Wanted, differences, facts, unwanted
from tests.e2e.serving import ROOT

TOKEN_OF_RUN = b"0123abcd"
CASE = Case("sequence", "one", (Send(b"GET /r/t%b.0" % TOKEN),), ("GET",), ((PLAIN,),))


def seen(answer: bytes) -> Seen:
    head = b"GET /t0123abcd.0 HTTP/1.1\r\nHost: a\r\n\r\n"
    reading = Reading(["GET"])
    reading.feed(answer)
    record = Record(CASE, lambda: None)
    record.arrived.append(Arrived(0, head, state="whole"))
    return Seen(reading.responses, record, "kept", b"", answer)


OK = (
    b"HTTP/1.1 200 OK\r\nDate: now\r\nVia: 1.1 lazy-launcher-00000000\r\n"
    b"Content-Length: 2\r\n\r\nok"
)


def compared(old: Seen, new: Seen) -> list[str]:
    return differences(facts(CASE, old, TOKEN_OF_RUN), facts(CASE, new, TOKEN_OF_RUN))


def test_dates_and_random_names_are_no_difference() -> None:
    other = OK.replace(b"now", b"later").replace(b"00000000", b"12345678")
    assert compared(seen(OK), seen(other)) == []


def test_differences_are_named() -> None:
    assert compared(seen(OK), seen(OK.replace(b"ok", b"no"))) == ["client.body: other"]
    assert compared(seen(OK), seen(OK.replace(b"200 OK", b"502 Bad Gateway"))) == [
        "client.status: 200 → 502"
    ]
    assert compared(seen(OK), seen(b"")) == ["client: response gone 200"]
    moved = b"HTTP/1.1 200 OK\r\nVia: x\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"
    straight = b"HTTP/1.1 200 OK\r\nDate: now\r\nVia: x\r\nContent-Length: 2\r\n\r\nok"
    assert compared(seen(straight), seen(moved)) == ["order of header lines"]


def test_wanted_differences_are_set_aside_for_the_cases_that_they_name() -> None:
    rule = Wanted(r"client\.status: 200 → \d+", "because", "sequence")
    found = ["client.status: 200 → 502", "client.body: other"]
    assert unwanted(CASE, found, [rule]) == ["client.body: other"]
    assert unwanted(replace(CASE, kind="expect"), found, [rule]) == found


def test_a_case_is_the_same_each_time_and_gets_smaller() -> None:
    assert [make(1, number) for number in range(50)] == [make(1, number) for number in range(50)]
    assert make(1, 7) != make(2, 7)
    raw = b"GET /r/t%b.0 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n" % TOKEN
    case = replace(CASE, sends=(Send(raw, (3, 5)),))
    assert all(one != case for one in smaller(case))
    assert replace(case, sends=(Send(raw.replace(b"X: y\r\n", b"")),)) in smaller(case)


@pytest.mark.slow
async def test_a_checkout_does_not_differ_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [*cases(1, 100)[::5], *(make(1, number) for number in range(60))]
    assert await compare(Path(ROOT), Path(ROOT), chosen, 8) == 0
    assert "80 cases: 0 differ" in capsys.readouterr().out
