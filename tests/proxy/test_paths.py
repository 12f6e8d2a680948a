"""What of a path is forwarded, what is refused."""

from __future__ import annotations

import pytest

from launcher.errors import LauncherError
from launcher.proxy.router import behind, check_path, climbs, printable, unified


@pytest.mark.parametrize("path", [b"/", b"/a/b", b"/%41%zz//x", b"/a/../b", b"/\xc3\xa9", b"/%5c"])
def test_odd_but_harmless_paths_pass(path: bytes) -> None:
    check_path(path)


@pytest.mark.parametrize("path", [b"", b"x", b"*", b"/a\\b", b"/%00", b"/a#b", b"/\x01", b"/a b"])
def test_what_backends_read_differently_is_refused(path: bytes) -> None:
    with pytest.raises(LauncherError) as caught:
        check_path(path)
    assert caught.value.code == "bad_target"


@pytest.mark.parametrize(
    "path",
    [
        b"/..",
        b"/../chat",
        b"/%2e%2e/chat",
        b"/%2E./chat",
        b"/.%2e",
        b"/a/../../chat",
        b"/a/%2e%2E/..",
        b"/./../x",
        b"/a//../../x",
        b"//../x",
        b"/..%2fchat",
        b"/..%5Cchat",
        b"/a%2f..%2f../x",
        b"/a%2fb/../../x",
        b"/x/..%2f..%2fy/z",
    ],
)
def test_climbing(path: bytes) -> None:
    assert climbs(path)


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/a/../b", b"/a/b/../../c", b"/...", b"/a..", b"/..a", b"/.", b"/a%2f..", b"/%2e"],
)
def test_not_climbing(path: bytes) -> None:
    assert not climbs(path)


def test_the_rest_is_verbatim() -> None:
    assert behind(b"/coder", b"/coder") == b"/"
    assert behind(b"/coder/", b"/coder") == b"/"
    assert behind(b"/coder//a/../%41%zz", b"/coder") == b"//a/../%41%zz"
    with pytest.raises(LauncherError):
        behind(b"/coder/%2e%2e/chat", b"/coder")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/openai/v1/chat/completions", (b"/openai", b"/v1/chat/completions")),
        (b"/openai/chat/completions", (b"/openai", b"/v1/chat/completions")),
        (b"/v1/messages", (b"", b"/v1/messages")),
        (b"/openai", (b"/openai", b"/v1/")),
        (b"/openai/v1x", (b"/openai", b"/v1/v1x")),
        (b"/v1x/y", None),
        (b"/openaix", None),
        (b"/coder/v1/x", None),
    ],
)
def test_the_unified_endpoint(path: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert unified(path) == expected


def test_the_unified_endpoint_has_an_upper_end_too() -> None:
    with pytest.raises(LauncherError):
        unified(b"/openai/v1/../../coder")


def test_printable_paths_hold_nothing_odd_and_end_somewhere() -> None:
    assert printable(b"/a\x1b[31m\xff") == "/a\\x1b[31m\\xff"
    assert len(printable(b"/" + b"x" * 9999)) < 600
