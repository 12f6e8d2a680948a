"""Whom a configuration lets in, in sentences."""

from __future__ import annotations

import pytest

from launcher.config import KeyConfig, LauncherConfig, Listen, exposure
from launcher.config.values import listens
from tests.keyring import a_key, admin, api

LOCAL = ["127.0.0.1:8000", "[::1]:8000", "localhost:1", "unix:/x"]
OUTSIDE = ["gpu-box:8000", "127.0.0.1:8001"]
USE, LOOK, OPERATE = "may use every model", "sees status", "are refused to callers"


def at(*where: str) -> tuple[Listen, ...]:
    return listens(list(where))


@pytest.mark.parametrize(
    ("listen", "admin_listen", "keys", "said"),
    [
        (LOCAL, [], (), []),
        (LOCAL, ["127.0.0.1:9000"], (), []),
        ([":8000"], [], (), [USE, LOOK, OPERATE]),
        (OUTSIDE, [], (), [USE, LOOK, OPERATE]),
        (OUTSIDE, [], api("k"), [OPERATE]),
        (OUTSIDE, [], (a_key("k"),), [OPERATE]),
        (OUTSIDE, [], (a_key("k", "observe"),), [USE, OPERATE]),
        (OUTSIDE, [], admin("k"), [USE, LOOK]),
        (OUTSIDE, [], (*api("k"), *admin("l")), []),
        (OUTSIDE, ["127.0.0.1:9000"], (), [USE]),
        (LOCAL, [":9000"], (), [LOOK, OPERATE]),
        (LOCAL, [":9000"], api("k"), [OPERATE]),
    ],
)
def test_exposure_by_keys_and_addresses(
    listen: list[str], admin_listen: list[str], keys: tuple[KeyConfig, ...], said: list[str]
) -> None:
    addresses = at(*admin_listen) if admin_listen else ()
    config = LauncherConfig(listen=at(*listen), admin_listen=addresses, keys=keys)
    warnings = exposure.warnings(config)
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert words in warning
        assert "127.0.0.1" not in warning
