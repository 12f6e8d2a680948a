"""The checks of a request's head, on bytes alone."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.http.headers import (
    PLAIN,
    Field,
    FieldTable,
    RawHeaders,
    RequestHead,
    RequestLineTable,
)
from launcher.http.server import MOST_FIELDS, ClientConnection, Limits, Request, Shared
from tests.http.recording import Wire

pytestmark = pytest.mark.usefixtures("resting_loop")


HOST = (b"Host", b"a")


class Fed:
    """A connection, and the requests that came out of what it was fed."""

    def __init__(self, **limits: int) -> None:
        self.requests: list[Request] = []
        self.shared = Shared(self.requests.append, Limits(**limits))
        self.wire = Wire()
        self.connection = ClientConnection(self.shared)
        self.connection.connection_made(self.wire)

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    @property
    def code(self) -> str:
        """Of the refusal."""
        head, _, body = b"".join(self.wire.written).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        assert b"\r\nConnection: close" in head
        return str(json.loads(body)["error"]["code"])


def a_head(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/",
    version: tuple[int, int] = (1, 1),
    host: RawHeaders = (HOST,),
) -> bytes:
    lines = [b"%b %b HTTP/%d.%d" % (method, target, *version)]
    lines += [b"%b: %b" % line for line in (*host, *headers)]
    return b"\r\n".join([*lines, b"", b""])


def fed(data: bytes, *, cut: int | None = None, **limits: int) -> Fed:
    """Whole, or in pieces of `cut` bytes."""
    found = Fed(**limits)
    for at in range(0, len(data), cut or len(data)):
        if not found.wire.written:
            found.feed(data[at : at + (cut or len(data))])
    return found


def check(*headers: tuple[bytes, bytes], max_head: int = 4096, **how: object) -> RequestHead:
    """The head as it is read, in one piece or byte by byte."""
    data = a_head(*headers, **how)  # type: ignore[arg-type]
    heads = []
    for cut in (None, 1):
        found = fed(data, cut=cut, max_head=max_head)
        assert found.wire.written == []
        (request,) = found.requests
        heads.append(request.head)
    assert heads[0] == heads[1]
    return heads[0]


def code_of(*headers: tuple[bytes, bytes], max_head: int = 4096, **how: object) -> str:
    data = a_head(*headers, **how)  # type: ignore[arg-type]
    codes = set()
    for cut in (None, 1):
        found = fed(data, cut=cut, max_head=max_head)
        assert found.requests == []
        codes.add(found.code)
        # Nothing behind it is read.
        found.feed(a_head())
        assert found.requests == []
    (code,) = codes
    return code


def test_a_plain_head() -> None:
    head = check((b"Content-Length", b"0012"), method=b"POST", target=b"/a/b?c")
    assert (head.method, head.path, head.query) == ("POST", b"/a/b", b"c")
    assert (head.content_length, head.chunked, head.has_body) == (12, False, True)
    assert (head.host, head.peer, head.scheme) == (b"a", "unix", "http")
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


def test_a_host_is_looked_at_each_time() -> None:
    found = fed(a_head())
    found.requests[0].start(204, b"", ())
    found.requests[0].end()
    found.requests[0].over()
    found.wire.written.clear()
    found.feed(a_head(host=((b"Host", b"a/b"),)))
    assert (found.code, len(found.requests)) == ("bad_request", 1)


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
    assert (head.path, head.query) == (path, query)


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
        b"/a\x7f",
        b"/a\xc3\xa9",
        b"/?\xff",
    ],
)
def test_bad_targets(target: bytes) -> None:
    assert code_of(target=target) == "bad_target"


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\tb", b"/?a\x00", b"/\r", b"/a "])
def test_targets_that_end_the_request_line_early(target: bytes) -> None:
    assert code_of(target=target) in ("bad_target", "bad_request", "http_version")


CHUNKED = (b"transfer-encoding", b"Chunked")


def test_framing() -> None:
    assert check(CHUNKED).chunked
    assert check(CHUNKED).content_length is None
    assert not check().has_body
    assert not check((b"Content-Length", b"0")).has_body
    assert code_of(CHUNKED, (b"Content-Length", b"1")) == "bad_request"
    assert code_of((b"Content-Length", b"1"), CHUNKED) == "bad_request"
    assert code_of(CHUNKED, CHUNKED) == "bad_request"
    assert code_of(CHUNKED, version=(1, 0)) == "bad_request"
    assert code_of((b"Content-Length", b"1"), (b"Content-Length", b"1")) == "bad_request"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"identity", b"xchunked", b"chunked, gzip"])
def test_other_codings(coding: bytes) -> None:
    # llhttp takes some of them for a broken request before we see their name.
    assert code_of((b"Transfer-Encoding", coding)) in ("not_implemented", "bad_request")
    assert code_of((b"Transfer-Encoding", coding), CHUNKED) in ("not_implemented", "bad_request")


@pytest.mark.parametrize("length", [b"+1", b"-1", b"1, 1", b"0x1", b"", b"1_0", b"1 1", b"\xb2"])
def test_bad_lengths(length: bytes) -> None:
    assert code_of((b"Content-Length", length)) == "bad_request"


@pytest.mark.parametrize(
    ("headers", "upgrade"),
    [
        (((b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, UPGRADE")), b"WebSocket"),
        (((b"Connection", b"x"), (b"Connection", b"upgrade"), (b"Upgrade", b"a/1")), b"a/1"),
        (((b"Upgrade", b"a"), (b"Upgrade", b"b"), (b"Connection", b"upgrade")), b"a, b"),
        (((b"Upgrade", b" H2C , websocket"), (b"Connection", b"upgrade")), b"websocket"),
        (((b"Upgrade", b" , "), (b"Connection", b"upgrade")), None),
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
    h2c = ((b"Upgrade", b"h2c"), (b"Connection", b"upgrade"))
    assert check(*h2c, (b"Content-Length", b"3"), method=b"POST").upgrade is None


def test_the_head_as_a_whole_has_a_limit() -> None:
    many = [(b"X", b"y" * 90)] * 40
    assert len(check(*many).headers) == 41
    assert code_of(*many, (b"X", b"y" * 400)) == "headers_too_large"


def test_so_have_its_lines() -> None:
    most = [(b"X", b"%d" % n) for n in range(MOST_FIELDS - 1)]
    assert len(check(*most).headers) == MOST_FIELDS
    assert code_of(*most, (b"X", b"y")) == "headers_too_large"
    # Before the head ends, where it doesn't.
    found = fed(a_head(*most)[:-2] + b"X: y\r\nX: z\r\n", max_head=1 << 20)
    assert found.code == "headers_too_large"


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\x01b",
        b"X: a\x00b",
        b"X: a\x7f",
        b"X: a\rb",
        b"X: a\nY: b",
        b"X: a\r\n folded",
        b"X : a",
        b" X: a",
        b"X",
        b": a",
        b"X\xe9: a",
        b"X(: a",
        b"X: \x01",
    ],
)
def test_lines_that_are_no_header_lines(line: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line
    for cut in (None, 1):
        found = fed(data, cut=cut)
        assert (found.code, found.requests) == ("bad_request", [])


def test_field_lines_arrive_as_they_were_sent() -> None:
    odd = ((b"X-b", b"\xff\xfe"), (b"x-A", b"1"), (b"X-B", b""), (b"x-A", b"a\tb"))
    assert check(*odd).headers == (HOST, *odd)
    assert check(*odd).fields == {
        b"host": (b"a",),
        b"x-b": (b"\xff\xfe", b""),
        b"x-a": (b"1", b"a\tb"),
    }


LONG = b"x" * 500


def test_a_table_of_lines_is_bounded_and_keeps_no_long_or_secret_ones() -> None:
    table = FieldTable(lambda name, value: 256 if name == b"authorization" else 512, secret=256)
    for line in (b"Authorization: Bearer k", b"X: " + LONG, b"no header line"):
        table.read(line)
    assert table.kept == {}
    for number in range(5000):
        field = table.read(b"X: %d" % number)
        assert field is not None
        assert (field.name, field.value, field.flags) == (b"X", b"%d" % number, 512)
        assert len(table.kept) <= 2048
    assert table.kept[b"X: 4999"] is field
    for number in range(5000):
        table.keep(Field(b"Authorization", b"authorization", b"%d" % number, PLAIN, 0))
        assert len(table.kept) <= 2048
    assert repr(field) == "<Field b'X: 4999'>"
    lines = RequestLineTable()
    for number in range(5000):
        found = lines.read(b"GET /%d HTTP/1.1" % number)
        assert len(lines.kept) <= 2048
    assert lines.kept[b"GET /4999 HTTP/1.1"] is found
    lines.read(b"GET /%b HTTP/1.1" % LONG)
    assert max(map(len, lines.kept)) < 100


@given(st.data())
def test_a_head_may_be_cut_anywhere(data: st.DataObject) -> None:
    lengths = st.integers(0, 3).map(lambda n: (b"Content-Length", b"%d" % n))
    plain = st.tuples(
        st.sampled_from([b"X-A", b"accept", b"Cookie"]), st.sampled_from([b"", b"b", b"c\td"])
    )
    headers = data.draw(st.lists(plain, max_size=3)) + data.draw(st.lists(lengths, max_size=1))
    length = int(dict(headers).get(b"Content-Length", b"0"))
    blank = b"\r\n" * data.draw(st.integers(0, 2))
    body = b"\r\nX: y"[:length]
    whole = blank + a_head(*headers, target=b"/?x") + body
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
    found = Fed()
    for start, end in pairwise([0, *cuts, len(whole)]):
        found.feed(whole[start:end])
    (request,) = found.requests
    assert request.head.headers == (HOST, *headers)
    assert request.body_complete
    assert request.take() == body


alike = st.sampled_from(
    [
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Content-Length: 12",
        b"content-length:\t3 ",
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"Content-Length:",
        b"X: 1\r\nContent-Length: 3",
        b"X-Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: upgrade\r\nUpgrade: x",
        b"Expect: 100-continue",
        b"Host: b",
        b"X : 1",
        b"X: 1",
    ]
)
some_heads = st.tuples(
    st.sampled_from([b"POST / HTTP/1.1", b"POST / HTTP/1.0", b"POST /3 HTTP/1.1"]),
    st.lists(alike, max_size=2),
).map(lambda one: b"\r\n".join([one[0], b"Host: a", *one[1], b"", b""]))


@given(st.lists(some_heads, min_size=2, max_size=5))
def test_what_was_read_before_doesnt_matter(heads: list[bytes]) -> None:
    """A head is remembered on its connection: the next one means what it would mean alone."""
    together = Fed()
    for number, head in enumerate(heads):
        alone = fed(head)
        body = b""
        if alone.requests:
            asked = alone.requests[0]
            body = b"abcdefghijkl"[: max(asked.content_length, 0)]
            body = b"3\r\nabc\r\n0\r\n\r\n" if asked.chunked else body
            alone.feed(body)
        together.feed(head + body)
        assert len(together.requests) == number + len(alone.requests)
        if not alone.requests:
            assert together.code == alone.code
            return
        one, other = together.requests[-1], alone.requests[0]
        assert one.head == other.head
        assert one.flags == other.flags
        assert one.expects_continue is False
        assert one.keep_alive == other.keep_alive
        assert (one.take(), one.body_complete) == (other.take(), True)
        if not one.keep_alive:
            return
        one.start(204, b"", ())
        one.end()
        one.over()
        together.wire.written.clear()


def test_a_line_of_blanks_that_ends_badly_is_refused_at_once() -> None:
    """As many steps as bytes: tried again from each blank, it would be their square."""
    table = FieldTable()
    line = b"X:" + b" \t" * 500_000
    assert table.read(line + b"\x7f") is None
    found = table.read(line)
    assert found is not None
    assert found.value == b""
