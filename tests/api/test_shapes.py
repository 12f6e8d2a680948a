"""What callers send, against the shapes that endpoints declare."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated

import pytest

from launcher.api.shapes import Flag, Limits, check_media_type, from_json, from_query, learn, shape
from launcher.errors import LauncherError


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease."""

    route: str | None
    """Its route."""
    ttl: Annotated[float, Limits(ge=1)] = 60.0
    pin: bool = False
    needs: dict[str, int] | None = None
    note: Annotated[str, Limits(max_length=5)] | None = None
    share: Annotated[float, Limits(gt=0)] | str | None = None


@shape
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query."""

    wait: Flag = False
    limit: Annotated[int, Limits(ge=1)] = 100
    backend: str | None = None


def test_a_body_becomes_its_shape() -> None:
    body = from_json(Lease, b'{"route": null, "ttl": 5, "needs": {"gpu": 1}}')

    assert body == Lease(route=None, ttl=5.0, needs={"gpu": 1})


def test_an_empty_body_stands_for_an_empty_object() -> None:
    @shape
    @dataclass(frozen=True)
    class Optional:
        route: str | None = None

    assert from_json(Optional, b"") == Optional()


@pytest.mark.parametrize(
    ("body", "code", "param", "said"),
    [
        (b'{"route"', "invalid_json", None, "no JSON"),
        (b"\xff", "invalid_json", None, "no JSON"),
        (b"[]", "invalid_request", None, "has to be a JSON object"),
        (b"{}", "invalid_request", "route", "`route` is missing"),
        (b"", "invalid_request", "route", "`route` is missing"),
        (b'{"route": 1}', "invalid_request", "route", "valid string"),
        (b'{"route": "a", "ttl": "5"}', "invalid_request", "ttl", "valid number"),
        (b'{"route": "a", "ttl": 0}', "invalid_request", "ttl", "greater than or equal to 1"),
        (b'{"route": "a", "ttl": NaN}', "invalid_request", "ttl", "finite"),
        (b'{"route": "a", "note": "123456"}', "invalid_request", "note", "at most 5 characters"),
        (b'{"route": "a", "pin": "yes"}', "invalid_request", "pin", "valid boolean"),
        (b'{"route": "a", "needs": {"gpu": "x"}}', "invalid_request", "needs.gpu", "valid int"),
        (b'{"route": "a", "share": 0}', "invalid_request", "share", "than 0; or .* valid string"),
        (b'{"route": "a", "tll": 5}', "invalid_request", "tll", "Known: `route`, `ttl`"),
    ],
)
def test_a_body_that_is_wrong(body: bytes, code: str, param: str | None, said: str) -> None:
    with pytest.raises(LauncherError, match=said) as caught:
        from_json(Lease, body)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert caught.value.param == param


def test_a_body_may_repeat_the_path() -> None:
    body = b'{"id": 7, "route": "a"}'

    assert from_json(Lease, body, {"id": "7"}) == Lease(route="a")
    for args in ({"id": "8"}, {}):
        with pytest.raises(LauncherError, match="`id` is no key"):
            from_json(Lease, body, args)


async def test_a_shape_is_learned_once() -> None:
    await learn(None, Lease, Asked)

    assert from_json(Lease, b'{"route": "a"}') == Lease(route="a")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (None, Asked()),
        (b"", Asked()),
        (b"wait", Asked(wait=True)),
        (b"wait=1", Asked(wait=True)),
        (b"wait=yes&wait=no", Asked(wait=False)),
        (b"limit=7&backend=a%20b", Asked(limit=7, backend="a b")),
        (b"backend=", Asked(backend="")),
    ],
)
def test_a_query_becomes_its_shape(query: bytes | None, asked: Asked) -> None:
    assert from_query(Asked, query) == asked


@pytest.mark.parametrize(
    ("query", "param", "said"),
    [
        (b"limit=x", "limit", "valid integer"),
        (b"limit=0", "limit", "greater than or equal to 1"),
        (b"wait=perhaps", "wait", "valid boolean"),
        (b"limt=1", "limt", "no query parameter that is known here. Known: `wait`, `limit`"),
    ],
)
def test_a_query_that_is_wrong(query: bytes, param: str, said: str) -> None:
    with pytest.raises(LauncherError, match=said) as caught:
        from_query(Asked, query)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_what_has_no_shape_is_not_looked_at() -> None:
    assert from_json(None, b"{") is None
    assert from_query(None, b"x=%") is None
    check_media_type(None, b"text/plain", has_body=True)


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_json_that_says_so(kind: bytes) -> None:
    check_media_type(Lease, kind, has_body=True)


@pytest.mark.parametrize(
    "kind",
    [b"application/x-www-form-urlencoded", b"multipart/form-data; b=x", b"text/plain", b"", None],
)
def test_what_a_page_can_send_to_another_site_is_no_json(kind: bytes | None) -> None:
    with pytest.raises(LauncherError, match="Content-Type: application/json") as caught:
        check_media_type(Lease, kind, has_body=True)
    assert caught.value.status == 415


def test_nothing_sent_needs_no_type() -> None:
    check_media_type(Lease, None, has_body=False)


def test_declaring_the_endpoints_loads_no_pydantic() -> None:
    code = "import sys, launcher.api.server; sys.exit('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "pydantic is imported before anything is checked" + done.stderr
