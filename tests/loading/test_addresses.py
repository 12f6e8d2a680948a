"""Paths, prefixes, host names, sockets and networks as people write them."""

from __future__ import annotations

import pytest

from launcher.config import QUIET, Health, Listen
from launcher.loading import addresses


def test_health() -> None:
    assert addresses.health("/ready?full=1") == Health("http", "/ready?full=1")
    assert addresses.health("docker").kind == "docker"
    assert addresses.health("tcp").kind == "tcp"
    for raw in ("health", "", "/a b", "/a\r\nX: y", 3, "/é"):
        with pytest.raises(ValueError, match="expected a path"):
            addresses.health(raw)


def test_quiet_paths() -> None:
    assert addresses.quiet(["/ws", "default"]) == ("/ws", *QUIET)
    assert addresses.quiet([]) == ()


@pytest.mark.parametrize(
    ("raw", "expected"), [("/v2/coder", "/v2/coder"), ("/a/", "/a"), ("/~x.y", "/~x.y")]
)
def test_prefixes(raw: str, expected: str) -> None:
    assert addresses.prefix(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "/", "a", "/a//b", "/a/../b", "/%61", "/a?b", "/a\\b", "/.", 3]
)
def test_what_is_no_prefix(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a path prefix"):
        addresses.prefix(raw)


def test_host_names() -> None:
    assert addresses.host_names("Comfy.LAN, b.lan.") == ("comfy.lan", "b.lan")
    for raw in ("comfy.lan:80", "http://x", "*.lan", "-x", "a..b", "", 3):
        with pytest.raises(ValueError, match="host name"):
            addresses.host_name(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0.0.0.0:8000", Listen("0.0.0.0", 8000)),
        (":8000", Listen("0.0.0.0", 8000)),
        ("*:8000", Listen("0.0.0.0", 8000)),
        ("8000", Listen("0.0.0.0", 8000)),
        (8000, Listen("0.0.0.0", 8000)),
        ("[::1]:8000", Listen("::1", 8000)),
        ("localhost:0", Listen("localhost", 0)),
        ("unix:/run/l.sock", Listen(unix_path="/run/l.sock")),
    ],
)
def test_addresses_to_listen_on(raw: object, expected: Listen) -> None:
    assert addresses.listen_on(raw) == expected


@pytest.mark.parametrize(
    "raw", ["localhost", "", "::1:8000", "unix:x", "a:b", "a:70000", "u@h:1", "h:1/x", True, -1]
)
def test_where_nobody_can_listen(raw: object) -> None:
    with pytest.raises(ValueError, match='expected "host:port"'):
        addresses.listen_on(raw)


def test_several_addresses() -> None:
    both = (Listen("0.0.0.0", 80), Listen(unix_path="/x"))
    assert addresses.listens(":80,unix:/x") == addresses.listens([":80", "unix:/x"]) == both
    for raw in ([], "", 1.5):
        with pytest.raises(ValueError, match="expected"):
            addresses.listens(raw)


def test_where_a_backend_answers() -> None:
    for raw in ("127.0.0.1:8000", "[::1]:80", "gpu-box:80", "unix:/run/x.sock"):
        assert addresses.address(raw) == raw
    for wrong in ("", ":80", "gpu-box", "http://x:80", "unix:x", "a:0", 3):
        with pytest.raises(ValueError, match="expected"):
            addresses.address(wrong)


def test_networks() -> None:
    assert addresses.networks("10.0.0.1/8, ::1") == ("10.0.0.0/8", "::1/128")
    for raw in ("proxy", ["10.0.0.0/33"]):
        with pytest.raises(ValueError, match="expected networks"):
            addresses.networks(raw)


def test_engines() -> None:
    assert addresses.engine("/var/run/docker.sock") == "unix:///var/run/docker.sock"
    assert addresses.engine("tcp://10.0.0.2:2375") == "tcp://10.0.0.2:2375"
    for raw in ("docker.sock", "unix://docker.sock", "ssh://x", "tcp://", 3):
        with pytest.raises(ValueError, match="expected"):
            addresses.engine(raw)


def test_words() -> None:
    assert addresses.host_header("backend") == "backend"
    assert addresses.scheme("https") == "https"
    assert addresses.base_path("/") == ""
    assert addresses.base_path("/x/") == "/x"
    for parse, raw in (
        (addresses.host_header, "route"),
        (addresses.scheme, "ftp"),
        (addresses.base_path, "x"),
    ):
        with pytest.raises(ValueError, match="expected"):
            parse(raw)
