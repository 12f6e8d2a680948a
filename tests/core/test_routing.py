"""Which route a path, a host or a model belongs to."""

from __future__ import annotations

import pytest

from launcher.config import ModelSpec, RouteConfig
from launcher.core.routing import RouteTable
from launcher.core.types import BackendId


def route(name: str, *prefixes: str, hosts: tuple[str, ...] = (), models: str = "") -> RouteConfig:
    specs = tuple(ModelSpec(id) for id in models.split())
    return RouteConfig(name, (BackendId(name),), prefixes or (f"/{name}",), hosts, specs)


TABLE = RouteTable(
    [
        route("coder", models="coder-fast qwen"),
        route("deep", "/deep", "/v2/deep", "/v2/deep/er"),
        route("comfy", hosts=("Comfy.lan",)),
    ]
)


@pytest.mark.parametrize(
    ("path", "name", "prefix"),
    [
        (b"/coder", "coder", "/coder"),
        (b"/coder/", "coder", "/coder"),
        (b"/coder/v1/x", "coder", "/coder"),
        (b"/coder//x", "coder", "/coder"),
        (b"/v2/deep/x", "deep", "/v2/deep"),
        (b"/v2/deep/er", "deep", "/v2/deep/er"),
        (b"/v2/deep/er/x/y", "deep", "/v2/deep/er"),
        (b"/v2/deep/erx", "deep", "/v2/deep"),
    ],
)
def test_the_longest_prefix_on_a_segment_boundary(path: bytes, name: str, prefix: str) -> None:
    match = TABLE.by_path(path)
    assert match is not None
    assert (match.route.name, match.prefix) == (name, prefix)


@pytest.mark.parametrize(
    "path",
    [b"/", b"/coderx", b"/code", b"//coder", b"/%63oder", b"/Coder", b"/v2", b"/v2/deeper", b""],
)
def test_no_route(path: bytes) -> None:
    assert TABLE.by_path(path) is None


def test_hosts_have_no_case() -> None:
    found = TABLE.by_host("cOmfy.LAN")
    assert found is not None
    assert found.name == "comfy"
    assert TABLE.by_host("other.lan") is None


def test_models_are_found_by_any_of_their_ids() -> None:
    found = TABLE.by_model("qwen")
    assert found is not None
    assert found.name == "coder"
    assert TABLE.by_model("Qwen") is None
    assert TABLE.models == ("coder-fast", "qwen")


def test_an_empty_table_matches_nothing() -> None:
    table: RouteTable[RouteConfig] = RouteTable([])
    assert table.by_path(b"/coder") is None
    assert table.by_host("x") is None
    assert table.by_model("x") is None
