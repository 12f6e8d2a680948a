"""The checks of a request's head, on bytes alone. What the parser refuses before is in
test_front.py."""

from __future__ import annotations

import pytest
from launcher.http.exchange_OLD import RawHeaders, RequestHead
from launcher.proxy.framing import check_head, too_large

from launcher.errors import LauncherError

HOST = (b"Host", b"a")


def check(
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    target: bytes = b"/",
    version: tuple[int, int] = (1, 1),
    host: RawHeaders = (HOST,),
    max_head: int = 4096,
) -> RequestHead:
    return check_head(
        method,
        target,
        version,
        (*host, *headers),
        peer="192.0.2.1",
        scheme="http",
        max_head=max_head,
    )


def code_of(*headers: tuple[bytes, bytes], **how: object) -> str:
    with pytest.raises(LauncherError) as raised:
        check(*headers, **how)  # type: ignore[arg-type]
    return raised.value.code


def test_a_plain_head() -> None:
    head = check((b"Content-Length", b"0012"), method="POST", target=b"/a/b?c")
    assert (head.method, head.path, head.query) == ("POST", b"/a/b", b"c")
    assert (head.content_length, head.chunked, head.has_body) == (12, False, True)
    assert (head.host, head.peer, head.scheme) == (b"a", "192.0.2.1", "http")
    assert head.get(b"content-length") == b"0012"
    assert head.get(b"missing") is None


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_versions(version: tuple[int, int]) -> None:
    assert code_of(version=version) == "http_version"


@pytest.mark.parametrize(
    "host",
    [b"a", b"A.b-c_d:8", b"1.2.3.4:80", b"[::1]", b"[2001:db8::1]:443", b"a:", b"%41"],
)
def test_good_hosts(host: bytes) -> None:
    assert check(host=((b"HOST", host),)).host == host


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"a b",
        b"a,b",
        b"u@a",
        b"a/b",
        b"a:b",
        b"a:123456",
        b"[::1",
        b"::1",
        b"a%",
        b"a?",
    ],
)
def test_bad_hosts(host: bytes) -> None:
    assert code_of(host=((b"Host", host),)) == "bad_request"


def test_one_host() -> None:
    assert code_of(host=()) == "bad_request"
    assert code_of(host=(HOST, HOST)) == "bad_request"
    assert check(host=(), version=(1, 0)).host == b""
    assert code_of(host=(HOST, HOST), version=(1, 0)) == "bad_request"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", None),
        (b"/?", b"/", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"//x/../y", b"//x/../y", None),
        (b"/?\\%00", b"/", b"\\%00"),
    ],
)
def test_targets(target: bytes, path: bytes, query: bytes | None) -> None:
    head = check(target=target)
    assert (head.path, head.query, head.raw_target) == (path, query, target)


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://h", b"h", b"/", None),
        (b"HTTPS://h:1/x", b"h:1", b"/x", None),
        (b"http://[::1]?q", b"[::1]", b"/", b"q"),
    ],
)
def test_absolute_targets(target: bytes, host: bytes, path: bytes, query: bytes | None) -> None:
    head = check(target=target)
    assert (head.host, head.path, head.query) == (host, path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"a",
        b"?a",
        b"a:80",
        b"http:/a",
        b"http:///a",
        b"http://u@h/",
        b"file:///etc",
        b"http://h/a\\b",
        b"/a\\",
        b"/%00",
        b"/a#b",
        b"/a?b#c",
        b"/a b",
        b"/a\tb",
        b"/a\x7f",
        b"/?a\x00",
    ],
)
def test_bad_targets(target: bytes) -> None:
    assert code_of(target=target) == "bad_target"


CHUNKED = (b"transfer-encoding", b"Chunked")


def test_framing() -> None:
    assert check(CHUNKED).chunked
    assert check(CHUNKED).content_length is None
    assert not check().has_body
    assert not check((b"Content-Length", b"0")).has_body
    assert code_of(CHUNKED, (b"Content-Length", b"1")) == "bad_request"
    assert code_of(CHUNKED, CHUNKED) == "bad_request"
    assert code_of(CHUNKED, version=(1, 0)) == "bad_request"
    assert code_of((b"Content-Length", b"1"), (b"Content-Length", b"1")) == "bad_request"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked"])
def test_other_codings(coding: bytes) -> None:
    assert code_of((b"Transfer-Encoding", coding)) == "not_implemented"


@pytest.mark.parametrize("length", [b"+1", b"-1", b"1, 1", b"0x1", b"", b"1_0", b" 1", b"\xb2"])
def test_bad_lengths(length: bytes) -> None:
    assert code_of((b"Content-Length", length)) == "bad_request"


@pytest.mark.parametrize(
    ("headers", "upgrade"),
    [
        (((b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, UPGRADE")), b"WebSocket"),
        (((b"Connection", b"x"), (b"Connection", b"upgrade"), (b"Upgrade", b"a/1")), b"a/1"),
        (((b"Upgrade", b"a"), (b"Upgrade", b"b"), (b"Connection", b"upgrade")), b"a, b"),
        (((b"Upgrade", b"websocket"),), None),
        (((b"Upgrade", b"websocket"), (b"Connection", b"upgrades")), None),
        (((b"Upgrade", b"H2C"), (b"Connection", b"upgrade")), None),
        (((b"Connection", b"upgrade"),), None),
    ],
)
def test_upgrades(headers: RawHeaders, upgrade: bytes | None) -> None:
    assert check(*headers).upgrade == upgrade
    assert check(*headers, version=(1, 0)).upgrade is None


def test_an_upgrade_has_no_body() -> None:
    asks = ((b"Upgrade", b"x"), (b"Connection", b"upgrade"))
    assert code_of(*asks, CHUNKED) == "bad_request"
    assert code_of(*asks, (b"Content-Length", b"1")) == "bad_request"
    assert check(*asks, (b"Content-Length", b"0")).upgrade == b"x"


def test_the_head_as_a_whole_has_a_limit() -> None:
    many = [(b"X", b"y" * 90)] * 40
    assert len(check(*many).headers) == 41
    assert code_of(*many, (b"X", b"y" * 400)) == "headers_too_large"
    assert too_large(1).status == 431
