"""Who may do what, and what of their credentials travels on."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.api.contract import Need
from launcher.config import Secret
from launcher.errors import LauncherError
from launcher.proxy.access import CREDENTIALS, Access
from launcher.proxy.exchange import RequestHead
from tests.proxy.fake_exchange import request

API = (Secret("api-1"), Secret("api-2"))
ADMIN = (Secret("root-1"),)


def head(*headers: tuple[bytes, bytes], **fields: Any) -> RequestHead:
    return request(headers=headers, **fields)


def bearer(key: bytes) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + key)


def refused(access: Access, need: Need | None, who: RequestHead) -> str | None:
    try:
        if need is None:
            access.require_api(who)
        else:
            access.require(who, need)
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
        ([bearer(b"api-3")], "wrong_key"),
        ([bearer(b"root-1")], "wrong_key"),
        ([bearer(b"\xff\xfe")], "wrong_key"),
        ([(b"Authorization", b"Basic YXBpLTE6")], "missing_key"),
        ([bearer(b"")], "missing_key"),
    ],
)
def test_api_keys(headers: list[tuple[bytes, bytes]], code: str | None) -> None:
    assert refused(Access(API, ADMIN), None, head(*headers)) == code


def test_without_api_keys_nothing_is_asked() -> None:
    assert refused(Access((), ADMIN), None, head()) is None


@pytest.mark.parametrize(
    ("key", "need", "code"),
    [
        (None, "open", None),
        (None, "observe", "missing_key"),
        (b"api-1", "observe", None),
        (b"root-1", "observe", None),
        (b"x", "observe", "wrong_key"),
        (None, "admin", "missing_key"),
        (b"api-1", "admin", "wrong_key"),
        (b"root-1", "admin", None),
    ],
)
def test_own_endpoints(key: bytes | None, need: Need, code: str | None) -> None:
    who = head(*([bearer(key)] if key else []), peer="127.0.0.1")
    assert refused(Access(API, ADMIN), need, who) == code


@pytest.mark.parametrize(
    ("headers", "peer", "admin"),
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
        (((b"Origin", b"http://localhost"),), "127.0.0.1", False),
        (((b"Sec-Fetch-Site", b"none"),), "127.0.0.1", False),
    ],
)
def test_without_admin_keys_a_direct_local_caller_is_the_operator(
    headers: tuple[tuple[bytes, bytes], ...], peer: str, admin: bool
) -> None:
    access = Access(API, ())
    who = head(*headers, peer=peer)
    assert refused(access, "admin", who) == (None if admin else "wrong_key")
    assert access.is_admin(who) is admin
    assert access.sees_details(who) is admin


def test_details_are_for_all_where_no_keys_are_set_and_for_admins_elsewhere() -> None:
    assert Access((), ()).sees_details(head())
    assert not Access((), ADMIN).sees_details(head(peer="127.0.0.1"))
    assert not Access(API, ADMIN).sees_details(head(bearer(b"api-1")))
    assert Access(API, ADMIN).sees_details(head((b"x-api-key", b"root-1")))


BACKEND = Secret("backend")
INJECTED = ((b"Authorization", b"Bearer backend"),)


@pytest.mark.parametrize(
    ("api", "backend", "dropped", "added"),
    [
        ((), None, frozenset(), ()),
        ((), BACKEND, CREDENTIALS, INJECTED),
        (API, None, CREDENTIALS, ()),
        (API, BACKEND, CREDENTIALS, INJECTED),
    ],
)
def test_inject(api: Any, backend: Any, dropped: Any, added: Any) -> None:
    who = head(bearer(b"theirs"), (b"x-api-key", b"api-1"))
    access = Access(api, ())
    assert access.drop_and_set(who, inject=True, backend_key=backend) == (dropped, added)


def test_passthrough_leaves_all_but_what_opened_our_door() -> None:
    access = Access(API, ADMIN)
    who = head(bearer(b"theirs"), (b"X-Api-Key", b"api-2"))
    assert access.drop_and_set(who, inject=False, backend_key=BACKEND) == ({b"x-api-key"}, ())
    twice = head(bearer(b"api-1"), (b"api-key", b"api-1"), (b"x-api-key", b"theirs"))
    dropped, _ = access.drop_and_set(twice, inject=False, backend_key=None)
    assert dropped == {b"authorization", b"api-key"}


def test_an_admins_key_never_travels_either() -> None:
    for inject in (True, False):
        dropped, _ = Access((), ADMIN).drop_and_set(
            head(bearer(b"root-1")), inject=inject, backend_key=None
        )
        assert dropped == {b"authorization"}


def test_every_key_is_compared_even_when_the_first_one_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr(
        "launcher.proxy.access.hmac.compare_digest",
        lambda a, b: compared.append(a) or real(a, b),
    )
    assert refused(Access(API, ()), None, head(bearer(b"api-1"))) is None
    assert len(compared) == len(API)
