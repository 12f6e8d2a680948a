from __future__ import annotations

import re

import pytest

from launcher.errors import ERROR_KINDS, ConfigError, LauncherError


@pytest.mark.parametrize("code", ERROR_KINDS)
def test_every_kind_is_a_client_or_server_error_that_says_what_it_means(code: str) -> None:
    kind = ERROR_KINDS[code]
    assert 400 <= kind.status < 600
    assert kind.meaning.endswith(".")
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


@pytest.mark.parametrize("code", ERROR_KINDS)
def test_what_may_pass_by_waiting_says_how_long(code: str) -> None:
    error = LauncherError(code, "no")
    assert error.status == ERROR_KINDS[code].status
    assert (error.retry_after is not None) == (error.status in (429, 503, 504))


def test_a_known_time_to_wait_is_kept() -> None:
    assert LauncherError("queue_full", "no", retry_after=17).retry_after == 17


def test_a_code_outside_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        LauncherError("no_such_code", "no")


def test_its_repr_says_it_all() -> None:
    error = LauncherError("unknown_route", "no route matches /x")
    assert repr(error) == "<LauncherError 404 unknown_route: no route matches /x>"


def test_a_configuration_error_holds_every_problem() -> None:
    error = ConfigError(["one", "two"])
    assert error.problems == ["one", "two"]
    assert str(error) == "one\ntwo"
