"""Published ways to smuggle a request past a proxy: whatever is carried has one framing, and that
is ours.

The mutations are those of the usual lists: spellings of the framing headers that one parser reads
and another doesn't, ends of lines, and requests within requests.
"""

from __future__ import annotations

import re

import pytest

from tests.proxy.awkward import Peer, backend
from tests.proxy.house import a_config, get, house

BOTH_LOOPS = True
SMUGGLED = b"GET /coder/admin HTTP/1.1\r\nHost: launcher.test\r\n\r\n"
#: As a chunked body it ends before the smuggled request.
BODY = b"0\r\n\r\n" + SMUGGLED

TRANSFER_ENCODINGS = [
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: x chunked",
    b"Transfer-Encoding: chunked-false",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked;a=b",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: cHuNkeD",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding:\x00chunked",
    b"Transfer-Encoding:\xa0chunked",
    b"Transfer-Encoding: chunked\xa0",
    b"Transfer-Encoding: chunk\xc5\xbfed",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\r\n\tchunked",
    b"Transfer-Encoding:\n chunked",
    b"Transfer-Encoding:\rchunked",
    b"Transfer-Encoding: chunked\r",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\x00Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding\xa0: chunked",
    b"\x00Transfer-Encoding: chunked",
    b":Transfer-Encoding: chunked",
    b"Transfer-Encoding chunked",
    b"TRANSFER-ENCODING: CHUNKED",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: Content-Length",
    b"Connection: Host, Content-Length, Via",
    b"TE: chunked",
    b"Trailer: Content-Length",
    b"Content-Encoding: chunked",
]

LENGTHS = [
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: %d, 0",
    b"Content-Length: 0, %d",
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: 0x%x",
    b"Content-Length: %d.0",
    b"Content-Length: %de0",
    b"Content-Length: %d_0",
    b"Content-Length : %d",
    b"Content-Length\t: %d",
    b" Content-Length: %d",
    b"Content-Length:\r\n %d",
    b"Content-Length: %d\r\n 0",
    b"Content-Length: \x0b%d",
    b"Content-Length: %d\x00",
    b"Content-Length: %d\xa0",
    b"Content_Length: %d",
    b"Content-Length: %d\nX: y",
    b"X: y\nContent-Length: %d",
    b"X: y\rContent-Length: %d",
    b"Content-Length: %d\r\nExpect: x 100-continue",
    b"Content-Length: %d\r\nExpect: 100-continue, 100-continue",
    b"Content-Length: %d\r\nExpect:\r\n 100-continue",
    b"Content-Length: %d\r\nConnection: Expect\r\nExpect: x",
]


class Reading:
    """A backend that keeps what it was sent, and believes Content-Length."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head = await peer.head()
            length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
            self.heads.append(head)
            self.bodies.append(await peer.reader.readexactly(int(length[1]) if length else 0))
            if b"\r\nTransfer-Encoding: chunked\r\n" in head:
                self.bodies[-1] = b"".join(await peer.chunked())
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def framings(head: bytes) -> list[bytes]:
    """Lines that some parser, however lenient, might read as the framing of a body."""
    lines = re.split(rb"[\r\n\x00]+", head)
    found = [one for one in lines if re.search(rb"(?i)length\W*:|transfer.?encoding|expect", one)]
    return found + [one for one in lines if b"chunked" in one.lower() and one not in found]


async def carried(request: bytes) -> tuple[list[int], Reading]:
    """Send it, and an ordinary request behind it; return the statuses, and what arrived."""
    reading = Reading()
    async with backend(reading) as there, house(a_config(), there.endpoint) as here:
        await here.client.send(request + get("/coder/next"))
        statuses = []
        while True:
            answer = await here.client.response()
            statuses.append(answer.status)
            if answer.get(b"connection") == b"close":
                break
            if reading.heads and b"/next" in reading.heads[-1]:
                break
    return statuses, reading


@pytest.mark.parametrize("line", TRANSFER_ENCODINGS, ids=repr)
@pytest.mark.parametrize("order", ["before", "behind"])
async def test_no_spelling_of_transfer_encoding_passes_beside_a_length(
    line: bytes, order: str
) -> None:
    length = b"Content-Length: %d" % len(BODY)
    lines = (line, length) if order == "before" else (length, line)
    request = b"POST /coder/x HTTP/1.1\r\nHost: launcher.test\r\n%b\r\n%b\r\n\r\n%b" % (
        *lines,
        BODY,
    )
    statuses, reading = await carried(request)
    if statuses[0] != 200:
        assert statuses in ([400], [501])
        assert reading.heads == []
        return
    assert [head.split(b" ")[1] for head in reading.heads] == [b"/x", b"/next"]
    assert reading.bodies[0] == BODY
    allowed = [length] + [line] * (line == b"Content-Encoding: chunked")
    assert sorted(framings(reading.heads[0])) == sorted(allowed)


@pytest.mark.parametrize("line", LENGTHS, ids=repr)
@pytest.mark.parametrize("method", [b"POST", b"GET"])
async def test_no_spelling_of_a_length_is_read_in_two_ways(line: bytes, method: bytes) -> None:
    lines = line % len(BODY)
    request = b"%b /coder/x HTTP/1.1\r\nHost: launcher.test\r\n%b\r\n\r\n%b" % (method, lines, BODY)
    statuses, reading = await carried(request)
    if statuses[0] != 200:
        assert statuses == [400]
        assert reading.heads == []
        return
    ours = b"Content-Length: %d" % len(BODY)
    if reading.bodies[0]:
        assert [head.split(b" ")[1] for head in reading.heads] == [b"/x", b"/next"]
        assert reading.bodies[0] == BODY
        assert framings(reading.heads[0]) == [ours]
    else:
        # No length at all: what looks like a body is another request, and no good one.
        assert framings(reading.heads[0]) == []
        assert statuses[1:] == [400]
        assert len(reading.heads) == 1


@pytest.mark.parametrize(
    "target",
    [
        b"/coder/x\tHTTP/1.1",
        b"/coder/x\r",
        b"/coder/x\x00",
        b"/coder/x\x0b",
        b"/coder/x HTTP/1.1 ",
        b"http://launcher.test@evil/coder/x",
        b"http://launcher.test\\@evil/coder/x",
        b"http:///coder/x",
        b"http:/coder/x",
        b"//evil/coder/x",
        b"/coder/../admin",
        b"/coder/%2e%2e/admin",
        b"/coder/..%2fadmin",
        b"/coder\\..\\admin",
    ],
    ids=repr,
)
async def test_no_target_is_read_in_two_ways(target: bytes) -> None:
    statuses, reading = await carried(b"GET %b HTTP/1.1\r\nHost: launcher.test\r\n\r\n" % target)
    assert statuses[0] in (400, 404, 505)
    assert [head for head in reading.heads if b" /next " not in head] == []
