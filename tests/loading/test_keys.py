"""The table of keys: the shapes' defaults and the keys' are the same, and each is explained."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.config import BackendConfig, KeyConfig, LauncherConfig, RouteConfig
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec
from launcher.loading import keys
from launcher.loading.keys import KEYS, SCOPES, Key, Scope
from launcher.settings import Settings

SHAPES: dict[Scope, tuple[object, ...]] = {
    "launcher": (LauncherConfig(),),
    "backend": (
        BackendConfig(BackendId("x"), ContainerSpec("x", 8000)),
        ContainerSpec("x", 8000),
    ),
    "route": (RouteConfig("x", (), ("/x",)),),
    "key": (KeyConfig("x", b""),),
}


#: Their defaults depend on the rest of the table.
_BY_TABLE = (
    keys.PORT,
    keys.MODELS,
    keys.CONTAINER,
    keys.BACKEND_OF,
    keys.MODE_ROUTES,
    keys.KEY_ROUTES,
)


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key not in _BY_TABLE], ids=lambda key: key.name
)
def test_a_key_has_the_default_of_its_shape(key: Key[Any]) -> None:
    for shape in (one for scope in key.scopes for one in SHAPES.get(scope, ())):
        if hasattr(shape, key.name):
            assert getattr(shape, key.name) == key.default


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_is_explained(key: Key[Any]) -> None:
    assert key.help.endswith(".")
    assert "|" not in key.help, "it would break the reference's tables"


def test_names_are_unique_within_a_table() -> None:
    for scope in SCOPES:
        named = [key.name for key in KEYS if scope in key.scopes]
        assert len(set(named)) == len(named)


def test_every_key_of_launcher_has_its_variable() -> None:
    assert set(Settings.model_fields) - {"config"} == set(keys.names("launcher"))


def test_names_by_scope() -> None:
    assert "container" in keys.names("backend")
    assert "container" not in keys.names("route", "launcher")
    assert "heartbeat" in keys.names("route")
