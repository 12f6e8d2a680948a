"""What `POST /api/reload` answers."""

from __future__ import annotations

import pytest

from launcher.api.reload import Reload
from launcher.config.difference import Difference, Names
from launcher.config.reload import Reloaded
from launcher.errors import ConfigError, LauncherError
from tests.api.world import FakeReloads, read, request


async def test_what_changed_is_told_by_name() -> None:
    difference = Difference(
        routes=Names(added=("a",), changed={"b": ("models",)}),
        backends=Names(removed=("c",)),
        replaced=("d",),
        settings=("capacity",),
        needs_restart=("listen",),
    )
    reloads = FakeReloads(Reloaded(difference, ("it may surprise",), 0.0124))
    answer = await Reload(reloads).reload(request("POST"))
    assert answer.status == 200
    assert read(answer) == {
        "changed": True,
        "routes": {"added": ["a"], "removed": [], "changed": {"b": ["models"]}},
        "backends": {"added": [], "removed": ["c"], "changed": {}, "replaced": ["d"]},
        "settings": ["capacity"],
        "needs_restart": ["listen"],
        "warnings": ["it may surprise"],
        "duration_ms": 12,
    }
    assert reloads.asked_by == ["POST /api/reload"]


async def test_nothing_new() -> None:
    assert read(await Reload(FakeReloads()).reload(request("POST")))["changed"] is False


async def test_what_is_wrong_is_told_whole() -> None:
    problems = ["routes.toml:1: one", "routes.toml:2: two"]
    with pytest.raises(LauncherError) as caught:
        await Reload(FakeReloads(ConfigError(problems))).reload(request("POST"))
    error = caught.value
    assert (error.status, error.code) == (422, "bad_configuration")
    assert error.message.startswith("The configuration has 2 problems; nothing was changed.")
    assert error.detail == "routes.toml:1: one\nroutes.toml:2: two"


def test_only_operators_reload() -> None:
    (endpoint,) = Reload(FakeReloads()).endpoints()
    assert (endpoint.method, endpoint.path, endpoint.need) == ("POST", "/api/reload", "admin")
