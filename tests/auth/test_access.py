"""Who may do what, and what of their credentials travels on."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from launcher.auth.access import Access, Caller, Need
from launcher.auth.head import Head
from launcher.auth.meters import Meters
from launcher.config import KeyConfig
from launcher.core.types import Wake
from launcher.errors import LauncherError
from tests.auth.heads import Request, a_route
from tests.keyring import a_key, admin, api

API, ADMIN = api("api-1", "api-2"), admin("root-1")
NOBODY: tuple[KeyConfig, ...] = ()


def head(*headers: tuple[bytes, bytes], **fields: Any) -> Head:
    return Request(headers=headers, **fields)


def bearer(key: bytes) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + key)


def caller(keys: tuple[KeyConfig, ...], *headers: tuple[bytes, bytes], **fields: Any) -> Caller:
    return Access(keys, Meters()).caller(head(*headers, **fields))


def refused(who: Caller, need: Need | None) -> str | None:
    """The code; `need` None is the use of a route."""
    try:
        if need is None:
            who.pick(None)
        else:
            who.require(need)
    except LauncherError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "missing_key"),
        ([bearer(b"api-1")], None),
        ([bearer(b"api-2")], None),
        ([(b"authorization", b"bearer  api-2 ")], None),
        ([(b"X-API-Key", b"api-2")], None),
        ([(b"api-key", b"api-1")], None),
        ([bearer(b"theirs"), (b"x-api-key", b"api-1")], None),
        ([bearer(b"root-1"), (b"x-api-key", b"api-1")], None),
        ([bearer(b"api-3")], "wrong_key"),
        ([bearer(b"root-1")], "wrong_key"),
        ([bearer(b"\xff\xfe")], "wrong_key"),
        ([(b"Authorization", b"Basic YXBpLTE6")], "missing_key"),
        ([bearer(b"")], "missing_key"),
    ],
)
def test_for_routes_it_takes_a_key_with_infer(
    headers: list[tuple[bytes, bytes]], code: str | None
) -> None:
    assert refused(caller(API + ADMIN, *headers), None) == code


def test_while_no_key_has_infer_routes_are_open() -> None:
    for keys in (ADMIN, (*ADMIN, a_key("eye", "observe"))):
        assert not Access(keys, Meters()).asks_users
    assert Access(API, Meters()).asks_users


EYE, USER, BOTH = (a_key("eye", "observe"), a_key("user"), a_key("both", "infer", "admin"))


@pytest.mark.parametrize(
    ("key", "need", "code"),
    [
        (None, "open", None),
        (None, "known", "missing_key"),
        (None, "observe", "missing_key"),
        (None, "admin", "missing_key"),
        ("x", "open", None),
        ("x", "known", "wrong_key"),
        ("x", "observe", "wrong_key"),
        ("x", "admin", "wrong_key"),
        ("user", "known", None),
        ("user", "observe", "wrong_key"),
        ("user", "admin", "wrong_key"),
        ("eye", "known", None),
        ("eye", "observe", None),
        ("eye", "admin", "wrong_key"),
        ("eye", None, "wrong_key"),
        ("root-1", "known", None),
        ("root-1", "observe", None),
        ("root-1", "admin", None),
        ("root-1", None, "wrong_key"),
        ("api-1", "observe", None),
        ("api-1", "admin", "wrong_key"),
        ("both", "admin", None),
        ("both", None, None),
    ],
)
def test_what_a_scope_opens(key: str | None, need: Need | None, code: str | None) -> None:
    keys = (*API, *ADMIN, EYE, USER, BOTH)
    who = caller(keys, *([bearer(key.encode())] if key else []), peer="127.0.0.1")
    assert refused(who, need) == code
    opened = code is None and need != "open" and key is not None
    assert (who.key is not None and who.key.name) == (opened and key)


def test_looking_is_open_while_no_key_is_for_users_or_observers() -> None:
    assert refused(caller(ADMIN), "observe") is None
    assert refused(caller(ADMIN), "known") is None
    assert refused(caller((*ADMIN, EYE)), "observe") == "missing_key"
    assert refused(caller((*ADMIN, USER)), "observe") == "missing_key"


@pytest.mark.parametrize(
    ("headers", "peer", "operator"),
    [
        ((), "127.0.0.1", True),
        ((), "127.9.9.9", True),
        ((), "::1", True),
        ((), "::ffff:127.0.0.1", True),
        ((), "unix", True),
        ((), "192.0.2.7", False),
        ((), "nonsense", False),
        (((b"X-Forwarded-For", b"127.0.0.1"),), "127.0.0.1", False),
        (((b"x-forwarded-anything", b"1"),), "127.0.0.1", False),
        (((b"Forwarded", b"for=x"),), "127.0.0.1", False),
        (((b"Via", b"1.1 caddy"),), "127.0.0.1", False),
        (((b"X-Real-IP", b"192.0.2.7"),), "unix", False),
        (((b"CF-Connecting-IP", b"192.0.2.7"),), "127.0.0.1", False),
        (((b"Origin", b"http://localhost"),), "127.0.0.1", False),
        (((b"Origin", b"http://example.test"),), "127.0.0.1", True),
        (((b"Sec-Fetch-Site", b"cross-site"),), "127.0.0.1", False),
        (((b"Sec-Fetch-Site", b"same-origin"),), "127.0.0.1", True),
    ],
)
def test_while_no_key_has_admin_a_direct_local_caller_is_the_operator(
    headers: tuple[tuple[bytes, bytes], ...], peer: str, operator: bool
) -> None:
    who = caller(API, *headers, peer=peer)
    assert refused(who, "admin") == (None if operator else "wrong_key")
    assert refused(who, "observe") == (None if operator else "missing_key")
    assert who.is_admin() is operator
    assert who.sees_details() is operator


def test_details_are_for_all_where_no_keys_are_set_and_for_admins_elsewhere() -> None:
    assert caller(NOBODY).sees_details()
    assert not caller(ADMIN, peer="127.0.0.1").sees_details()
    assert not caller(API + ADMIN, bearer(b"api-1")).sees_details()
    assert caller(API + ADMIN, (b"x-api-key", b"root-1")).sees_details()


ONE, OTHER = a_route(), a_route(name="chat", prefixes=("/chat",), models=())
ALICE = a_key("alice", routes=frozenset({"coder"}))


class TestRoutesOfAKey:
    def test_it_opens_its_own_and_no_other(self) -> None:
        caller((ALICE,), bearer(b"alice")).pick(ONE)
        with pytest.raises(LauncherError, match=r"alice isn't good for the route chat") as caught:
            caller((ALICE,), bearer(b"alice")).pick(OTHER)
        assert caught.value.code == "wrong_key"

    def test_of_several_keys_the_one_that_opens_it_counts(self) -> None:
        keys = (a_key("bob", routes=frozenset({"chat"})), ALICE, EYE)
        sent = (bearer(b"eye"), (b"x-api-key", b"bob"), (b"api-key", b"alice"))
        who = caller(keys, *sent)
        who.pick(ONE)
        assert who.key is ALICE
        assert who.routes == {"coder"}


class TestLimits:
    def test_they_outlive_the_configuration(self) -> None:
        meters = Meters()
        key = a_key("alice", requests_per_minute=1, wake=Wake.NEVER)
        Access((key,), meters).meter(key).enter(key, 0.0)
        with pytest.raises(LauncherError) as caught:
            Access((key,), meters).meter(key).enter(key, 1.0)
        assert caught.value.code == "rate_limited"

    def test_looking_takes_nothing_of_them(self) -> None:
        meters = Meters()
        access = Access((a_key("alice", "infer", "observe", requests_per_minute=1),), meters)
        for _ in range(3):
            assert refused(access.caller(head(bearer(b"alice"))), "observe") is None
        assert meters.of("alice").in_flight == 0


def test_which_headers_hold_keys_of_ours() -> None:
    keys = (*API, *ADMIN, EYE)
    for sent, ours in [
        ((bearer(b"theirs"), (b"X-Api-Key", b"api-2")), {b"x-api-key"}),
        (
            (bearer(b"api-1"), (b"api-key", b"api-1"), (b"x-api-key", b"theirs")),
            {b"authorization", b"api-key"},
        ),
        ((bearer(b"eye"),), {b"authorization"}),
        ((bearer(b"root-1"),), {b"authorization"}),
        ((bearer(b"theirs"),), set()),
    ]:
        assert caller(keys, *sent).own_keys == ours


def test_a_remembered_line_is_forgotten_before_there_are_too_many() -> None:
    access = Access(API, Meters())
    for number in range(5000):
        access.remember(b"%d" % number, API[0])
    assert access.remembered[b"4999"] is API[0]
    assert len(access.remembered) < 2000


def test_every_key_is_compared_even_when_the_first_one_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(
        "launcher.auth.access.hmac.compare_digest",
        lambda a, b: compared.append((a, b)) or real(a, b),
    )
    assert refused(caller(API + ADMIN, bearer(b"api-1")), None) is None
    assert len(compared) == len(API + ADMIN)
    assert all(len(a) == len(b) == 32 for a, b in compared)
