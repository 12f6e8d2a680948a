"""Paths and patterns."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.router import Router
from launcher.errors import LauncherError


async def answer(request: ApiRequest) -> ApiResponse:
    raise AssertionError("not asked")


def endpoint(method: Any, path: str) -> Endpoint:
    return Endpoint(
        method=method, path=path, need="open", answer=answer, operation="x", summary="", tag="page"
    )


ROUTER = Router(
    [
        endpoint("GET", "/plain"),
        endpoint("POST", "/plain"),
        endpoint("GET", "/api/things"),
        endpoint("GET", "/api/things/{id}"),
        endpoint("DELETE", "/api/things/{id}"),
        endpoint("GET", "/api/things/{id}/parts/{part}"),
        endpoint("GET", "/v1/models/{id...}"),
        endpoint("GET", "/dots.json"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "pattern", "args"),
    [
        ("GET", "/plain", "/plain", {}),
        ("HEAD", "/plain", "/plain", {}),
        ("DELETE", "/api/things/7", "/api/things/{id}", {"id": "7"}),
        ("GET", "/api/things/a%2Fb", "/api/things/{id}", {"id": "a/b"}),
        (
            "GET",
            "/api/things/a/parts/b%20c",
            "/api/things/{id}/parts/{part}",
            {"id": "a", "part": "b c"},
        ),
        ("GET", "/v1/models/org/name", "/v1/models/{id...}", {"id": "org/name"}),
        ("GET", "/v1/models/a\nb", "/v1/models/{id...}", {"id": "a\nb"}),
    ],
)
def test_what_is_found(method: str, path: str, pattern: str, args: dict[str, str]) -> None:
    found = ROUTER.find(method, path)

    assert found is not None
    assert found.endpoint.path == pattern
    assert found.endpoint.method == ("GET" if method == "HEAD" else method)
    assert found.args == args


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/plain/",
        "/plai",
        "/api",
        "/api/",
        "/api/things/",
        "/api/things/a/b",
        "/api/things//parts/x",
        "/v1/models/",
        "/v1/chat",
        "/dotsxjson",
        "/coder/api/things/7",
    ],
)
def test_what_is_not_ours(path: str) -> None:
    assert ROUTER.find("GET", path) is None


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/plain", ("GET", "POST", "HEAD")),
        ("POST", "/api/things/7", ("GET", "DELETE", "HEAD")),
        ("get", "/plain", ("GET", "POST", "HEAD")),
    ],
)
def test_another_method_is_told_which_would_do(
    method: str, path: str, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(LauncherError) as caught:
        ROUTER.find(method, path)
    assert (caught.value.code, caught.value.allow) == ("method_not_allowed", allowed)


def test_two_endpoints_at_one_place_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"GET /api/things/\{id\}"):
        Router([endpoint("GET", "/api/things/{id}"), endpoint("GET", "/api/things/{id}")])
