"""Secrets leave text and bytes in each form they may take there."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config import BackendConfig, LauncherConfig, Secret
from launcher.config.redact import MASK, REMEMBERED, Redactor, secrets_of
from launcher.core.types import BackendId
from launcher.drivers.base import ContainerSpec, ProcessSpec
from tests.keyring import a_key, admin, api


def test_every_occurrence_is_masked() -> None:
    redactor = Redactor([Secret("sk-1234"), Secret("other")])
    assert redactor.text("sk-1234 and other, sk-1234") == "*** and ***, ***"


def test_a_secret_that_begins_another_leaves_nothing_of_the_longer() -> None:
    assert Redactor([Secret("abc"), Secret("abcdef")]).text("abcdef") == MASK


@pytest.mark.parametrize("secret", ['pa"ss\\word', "with space/and+plus", "grüße-ключ"])
def test_escaped_forms_go_too(secret: str) -> None:
    redactor = Redactor([Secret(secret)])
    for form in (secret, quote(secret, safe=""), json.dumps({"key": secret})):
        cleaned = redactor.text(form)
        assert MASK in cleaned
        assert secret not in cleaned


def test_without_secrets_nothing_changes() -> None:
    assert Redactor().text("as it was") == "as it was"
    assert Redactor([Secret("")]).text("as it was") == "as it was"


@given(st.text(min_size=1).filter(lambda s: s not in MASK), st.text(), st.text())
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    cleaned = Redactor([Secret(secret)]).text(before + secret + after)
    # The mask itself may form the secret anew only where the secret holds asterisks.
    assert secret not in cleaned or "*" in secret


def test_a_redactor_does_not_show_its_secrets() -> None:
    assert "sk-1234" not in repr(Redactor([Secret("sk-1234")]))


def test_the_secrets_of_a_configuration() -> None:
    config = LauncherConfig(
        keys=(*api("api"), *admin("admin"), a_key("hashed", secret=None)),
        backends=(
            BackendConfig(BackendId("a"), ContainerSpec("a", 8000), backend_key=Secret("backend")),
            BackendConfig(
                BackendId("b"),
                ProcessSpec(("x",), env=(("HF_TOKEN", "hf"), ("HOME", "/root"))),
                backend_key=Secret("backend"),
            ),
        ),
    )
    assert [secret.value for secret in secrets_of(config)] == ["api", "admin", "backend", "hf"]


def test_what_was_a_secret_stays_one() -> None:
    """What was started with an old key may still print it."""
    redactor = Redactor([Secret("old-1")])
    text = redactor.text
    redactor.learn([Secret("new-1")])
    assert text("old-1 new-1") == "*** ***"
    redactor.learn([])
    assert text("old-1 new-1") == "*** ***"


def test_only_the_last_secrets_are_remembered() -> None:
    redactor = Redactor()
    for n in range(2 * REMEMBERED):
        redactor.learn([Secret("now"), Secret(f"key-{n:03}")])
    assert redactor.text("now") == "***"
    assert redactor.text("key-000") == "key-000"
    assert redactor.text(f"key-{REMEMBERED:03} key-{2 * REMEMBERED - 1:03}") == "*** ***"
