"""What a key's limits allow, to the second."""

from __future__ import annotations

import pytest

from launcher.auth.meters import MINUTE, Meter, Meters
from launcher.errors import LauncherError
from tests.keyring import a_key


def refusal(meter: Meter, now: float, **limits: int) -> tuple[str, float] | None:
    """The code and Retry-After, None where it is let in."""
    try:
        meter.enter(a_key("alice", **limits), now)
    except LauncherError as error:
        return error.code, error.retry_after or 0.0
    return None


class TestAMinute:
    def test_so_many_and_then_no_more_until_the_first_is_a_minute_old(self) -> None:
        meter = Meter()
        for now in (100.0, 110.0, 130.0):
            assert refusal(meter, now, requests_per_minute=3) is None
        assert refusal(meter, 140.0, requests_per_minute=3) == ("rate_limited", 20.0)
        assert refusal(meter, 159.5, requests_per_minute=3) == ("rate_limited", 0.5)
        assert refusal(meter, 160.0, requests_per_minute=3) is None
        assert refusal(meter, 160.0, requests_per_minute=3) == ("rate_limited", 10.0)

    def test_never_more_than_so_many_in_any_minute(self) -> None:
        meter, came = Meter(), []
        for tick in range(3000):
            now = tick * 0.1
            if refusal(meter, now, requests_per_minute=7) is None:
                came.append(now)
        for start in came:
            assert len([at for at in came if start <= at < start + MINUTE]) <= 7
        assert len(came) == 7 * 5

    def test_what_was_refused_does_not_count(self) -> None:
        meter = Meter()
        assert refusal(meter, 0.0, requests_per_minute=1) is None
        for second in range(1, 60):
            assert refusal(meter, float(second), requests_per_minute=1) is not None
        assert refusal(meter, 60.0, requests_per_minute=1) is None

    def test_a_lowered_limit_holds_at_once_and_tells_when_its_turn_comes(self) -> None:
        meter = Meter()
        for now in (0.0, 10.0, 20.0, 30.0):
            assert refusal(meter, now, requests_per_minute=10) is None
        assert refusal(meter, 40.0, requests_per_minute=2) == ("rate_limited", 40.0)
        assert refusal(meter, 80.0, requests_per_minute=2) is None

    def test_without_a_limit_nothing_is_kept(self) -> None:
        meter = Meter()
        for now in range(1000):
            assert refusal(meter, float(now) / 100) is None
        assert repr(meter) == "<Meter 1000 in flight, 0 in the last minute>"


class TestInFlight:
    def test_so_many_at_a_time(self) -> None:
        meter = Meter()
        assert refusal(meter, 0.0, max_in_flight=2) is None
        assert refusal(meter, 0.0, max_in_flight=2) is None
        assert refusal(meter, 0.0, max_in_flight=2) == ("too_many_in_flight", 0.5)
        meter.leave(5.0)
        assert refusal(meter, 5.0, max_in_flight=2) is None

    def test_retry_after_learns_how_long_they_take(self) -> None:
        meter = Meter()
        for _ in range(50):
            assert refusal(meter, 0.0, max_in_flight=1) is None
            meter.leave(30.0)
        assert refusal(meter, 0.0, max_in_flight=1) is None
        told = refusal(meter, 0.0, max_in_flight=1)
        assert told is not None
        assert told[1] == pytest.approx(30.0, abs=0.1)

    def test_who_is_too_many_has_not_used_up_a_turn_of_the_minute(self) -> None:
        meter = Meter()
        limits = {"max_in_flight": 1, "requests_per_minute": 2}
        assert refusal(meter, 0.0, **limits) is None
        for _ in range(5):
            assert refusal(meter, 0.0, **limits) == ("too_many_in_flight", 1.0)
        meter.leave(1.0)
        assert refusal(meter, 1.0, **limits) is None


def test_those_of_keys_that_are_gone_go() -> None:
    meters = Meters()
    stays, used = meters.of("stays"), meters.of("used")
    meters.of("unused")
    used.in_flight = 1
    meters.keep({"stays"})
    assert meters._meters == {"stays": stays, "used": used}
