"""Chunked bodies beside llhttp, and the short cut for whole chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.http.chunked import ChunkedReader, ChunkError, whole_chunks
from tests.http.recording import dechunked

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Parsed:
    """A body as llhttp reads it."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.done = False
        parser = HttpRequestParser(self)
        parser.feed_data(HEAD)
        parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


def read(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[bytes, bool, bytes]:
    """The payload, whether the body has ended, and what came behind it."""
    reader = ChunkedReader()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces: list[bytes] = []
    for start, stop in pairwise(edges):
        end = reader.feed(data[start:stop], pieces)
        if reader.done:
            return b"".join(pieces), True, data[start + end :]
        assert end == stop - start
    return b"".join(pieces), False, b""


token = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=4).map(str.encode)
quoted = st.text('ab ;=,\t\\"', max_size=5).map(
    lambda text: b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
)
extension = st.one_of(
    token.map(lambda name: b";" + name),
    st.tuples(token, st.one_of(token, quoted)).map(lambda pair: b";%b=%b" % pair),
)
extensions = st.lists(extension, max_size=2).map(b"".join)
payload = st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"x" * 300])
size = st.sampled_from([b"%x", b"%X", b"0%x", b"000%X"])
chunk = st.tuples(payload, size, extensions).map(
    lambda one: (one[0], one[1] % len(one[0]) + one[2] + b"\r\n" + one[0] + b"\r\n")
)
trailer = st.tuples(token, st.sampled_from([b"", b" ", b" a b", b"\tc", b"\xe9"])).map(
    lambda one: b"%b:%b\r\n" % one
)
last = st.tuples(st.sampled_from([b"0", b"000"]), extensions, st.lists(trailer, max_size=2)).map(
    lambda one: one[0] + one[1] + b"\r\n" + b"".join(one[2]) + b"\r\n"
)
chunks = st.lists(chunk, max_size=5)
cuts = st.lists(st.integers(1, 600), max_size=12).map(tuple)


@given(chunks, last, st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"]), cuts)
def test_any_body_cut_anywhere_ends_where_it_ends(
    chunks: list[tuple[bytes, bytes]], last: bytes, rest: bytes, cuts: tuple[int, ...]
) -> None:
    body = b"".join(raw for _, raw in chunks) + last
    whole = b"".join(data for data, _ in chunks)
    assert read(body + rest, cuts) == (whole, True, rest)
    parsed = Parsed(body)
    assert (parsed.body, parsed.done) == (whole, True)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """The same with a few bytes changed, put in or taken out."""
    odd = st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b";", b"=", b'"', b"0", b"x"])
    places = st.integers(0, len(data))
    return st.lists(st.tuples(places, st.integers(0, 2), odd), min_size=1, max_size=3).map(
        lambda changes: _changed(data, changes)
    )


def _changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, count, instead in changes:
        data = data[:at] + instead + data[at + count :]
    return data


broken = st.tuples(chunks, last).flatmap(
    lambda one: mutations(b"".join(raw for _, raw in one[0]) + one[1])
)


@example(b"0x1\r\na\r\n0\r\n\r\n", ())
@example(b"1 \r\na\r\n0\r\n\r\n", ())
@example(b"1;a b\r\na\r\n0\r\n\r\n", ())
@example(b"1\r\na\n0\r\n\r\n", ())
@example(b"0\r\nContent-Length: 1\r\n\r\n", ())
@example(b"0\r\ntransfer-encoding: chunked\r\n\r\n", ())
@given(broken, cuts)
def test_what_is_read_llhttp_reads_likewise(data: bytes, cuts: tuple[int, ...]) -> None:
    try:
        body, done, rest = read(data, cuts)
    except ChunkError:
        return
    assert (body, done, rest) == read(data)
    try:
        parsed = Parsed(data[: len(data) - len(rest)])
    except HttpParserError:
        # Before a line is whole, neither has to have seen what is wrong with it.
        assert not done
        return
    assert (parsed.body, parsed.done) == (body, done)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"0x1\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"1_0\r\n",
        b"1 \r\n",
        b" 1\r\n",
        b"1;\r\n",
        b"1;a b\r\n",
        b"1;a\x00\r\n",
        b'1;a="b\r\n',
        b"1\n",
        b"1\ra\r\n",
        b"00000000000000001\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : 1\r\n",
        b"0\r\n X: 1\r\n",
        b"0\r\nX: a\x01\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\nContent-Length: 1\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_what_is_no_chunk(data: bytes) -> None:
    for cuts in ((), tuple(range(len(data)))):
        with pytest.raises(ChunkError):
            read(data, cuts)


@pytest.mark.parametrize(
    "endless",
    [b"1;" + b"a" * 2000, b"1;a=" + b"b" * 2000, b"0\r\n" + b"X: y\r\n" * 4000, b"0\r\nX: " * 9000],
)
def test_lines_without_end_are_refused_before_it(endless: bytes) -> None:
    with pytest.raises(ChunkError):
        read(endless, tuple(range(100, len(endless), 100)))


def test_extensions_of_a_body_are_bounded_together() -> None:
    one = b"1;" + b"a" * 500 + b"\r\nx\r\n"
    assert read(one * 8 + b"0\r\n\r\n")[1]
    with pytest.raises(ChunkError, match="extensions"):
        read(one * 9 + b"0\r\n\r\n")


def test_a_fault_leaves_what_came_before_it() -> None:
    pieces: list[bytes] = []
    with pytest.raises(ChunkError):
        ChunkedReader().feed(b"2\r\nok\r\nzz\r\n", pieces)
    assert pieces == [b"ok"]


@given(chunks)
def test_whole_chunks_in_the_plainest_spelling_are_known(chunks: list[tuple[bytes, bytes]]) -> None:
    plain = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data, _ in chunks)
    assert whole_chunks(plain) == sum(len(data) for data, _ in chunks)
    for cut in range(1, min(len(plain), 60)):
        found = whole_chunks(plain[:cut])
        assert not found or found == len(dechunked(plain[:cut]))
    assert whole_chunks(plain + b"0\r\n\r\n") == 0


@example(b"0x1\r\na\r\n")
@given(broken)
def test_what_passes_for_whole_chunks_is_that_to_llhttp(data: bytes) -> None:
    count = whole_chunks(data)
    if count:
        parsed = Parsed(data)
        assert (len(parsed.body), parsed.done) == (count, False)
        body, done, _ = read(data)
        assert (body, done) == (parsed.body, False)
