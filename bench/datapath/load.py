"""Streams, WebSockets and big bodies: load that is made and measured by a process of its own.

    python -m bench.datapath.load '{"kind": "sse", "host": …, "port": …, …}'

That process prints one JSON object: what it counted, and what the kernel counted of the proxy's
processes meanwhile. `machine`'s clocks are read there, so that they cover the measured time alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import socket
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import uvloop

from bench.datapath import machine
from bench.datapath.candidates import DIRECT, Bench, rotated
from bench.datapath.frames import Frames, frame
from bench.datapath.machine import Cores
from bench.datapath.requests import chat_requests, echo_head, head

EVENT = re.compile(rb'"at":(\d{10}\.\d{6}),"n":(\d{9})\}')
#: Of the longest match of it.
EVENT_SIZE = 39
#: Connections that are being opened at a time.
OPENING = 64
SETTLING = 1.0
MESSAGE = bytes(64)
MIB = 1024 * 1024
GIB = 1024 * MIB
#: Refused requests that are sent at a time.
PIPELINED = 3700
REFUSAL = b"HTTP/1.1 401"
#: Seconds between two questions for `/healthz`.
PAUSE = 0.002
#: An order takes at most that much longer than its seconds: opening, closing.
LONGEST = 300.0


@dataclass(frozen=True)
class Order:
    """What to do."""

    kind: Literal["sse", "websocket", "download", "upload", "refused", "probe"]
    host: str
    port: int
    pids: Sequence[int]
    """The proxy's; empty where they aren't known."""
    rest: float = 0.0
    """Bytes of memory that they hold at rest."""
    connections: int = 1
    seconds: float = 5.0
    rate: int = 10_000
    size: int = 0

    @property
    def netloc(self) -> str:
        """Its host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Outcome:
    """What came of it. Seconds and bytes."""

    count: int
    """Events, messages, bytes or refused requests."""
    seconds: float
    errors: int
    cpu: float
    memory: float = 0.0
    """Of the proxy, more than at rest; with big bodies, at the peak, more than just before."""
    p50: float = 0.0
    """From written to received; of a message: there and back."""
    p99: float = 0.0

    @property
    def rate(self) -> float:
        """Events, messages or bytes a second."""
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """Seconds of the proxy's processor time by event, message or byte."""
        return self.cpu / self.count if self.count else math.nan


def percentiles(values: array[float]) -> tuple[float, float]:
    """The median and p99; 0 of nothing."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


class Talker(asyncio.Protocol):
    """A connection that sends a head and hands on what comes behind the answer's."""

    def __init__(self, request: bytes, status: bytes, tally: Tally) -> None:
        self._request = request
        self._status = status
        self._head: bytes | None = b""
        self.tally = tally
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self.received(data)
            return
        self._head += data
        first, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._head = None
            if not self.open.done():
                self.open.set_result(None)
            if first.split(b" ", 2)[1] != self._status:
                self.tally.errors += 1
            elif rest:
                self.received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.tally.ending:
            self.tally.errors += 1
        if not self.open.done():
            self.open.set_result(None)

    def received(self, data: bytes) -> None:
        """What comes behind the head."""


class Tally:
    """What all connections have counted."""

    def __init__(self) -> None:
        self.errors = 0
        self.ending = False
        self.refused = 0
        self.delays: array[float] = array("d")


class Chunks:
    """What is inside the chunks (RFC 9112, 7.1). Proxies cut events as they like."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        """Bytes of this chunk still to come, with the two of its line's end."""

    def feed(self, data: bytes) -> bytes:
        """The payload of these bytes; framing that isn't whole is kept for later."""
        data = self._rest + data
        found = []
        at = 0
        while at < len(data):
            if not self._left:
                end = data.find(b"\r\n", at)
                if end < 0:
                    break
                self._left = int(data[at:end], 16) + 2
                at = end + 2
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            found.append(piece[: self._left - 2] if self._left < 2 else piece)
        self._rest = data[at:]
        return b"".join(found)


class Listener(Talker):
    """Takes events, and minds that none is missing."""

    def __init__(self, request: bytes, status: bytes, tally: Tally) -> None:
        super().__init__(request, status, tally)
        self._chunks = Chunks()
        self._rest = b""
        self._next = 0

    @property
    def heard(self) -> bool:
        """At least one event has come."""
        return self._next > 0

    def received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._rest + self._chunks.feed(data)
        end = 0
        for found in EVENT.finditer(data):
            end = found.end()
            self.tally.delays.append(now - float(found[1]))
            if int(found[2]) != self._next:
                self.tally.errors += 1
            self._next = int(found[2]) + 1
        self._rest = data[end:][-EVENT_SIZE:]


class Player(Talker):
    """One message at a time, there and back."""

    def received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        for message in self._frames.feed(data):
            self.tally.delays.append(time.monotonic() - self._sent)
            if message != MESSAGE:
                self.tally.errors += 1
            self.play()

    def begin(self) -> None:
        """The first one."""
        self._frames = Frames()
        self.play()

    def play(self) -> None:
        """The next one."""
        self._sent = time.monotonic()
        self.transport.write(frame(MESSAGE, masked=True))


async def opened(order: Order, talkers: Sequence[Talker]) -> None:
    """All of them have their answer's head, or have failed."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(OPENING)

    async def open_one(talker: Talker) -> None:
        async with turn:
            try:
                await loop.create_connection(lambda: talker, order.host, order.port)
                async with asyncio.timeout(machine.PATIENCE):
                    await talker.open
            except (OSError, TimeoutError):
                talker.tally.errors += 1

    await asyncio.gather(*(open_one(talker) for talker in talkers))


async def measured(order: Order, tally: Tally) -> Outcome:
    """What happens from now on, for so long."""
    await asyncio.sleep(min(SETTLING, order.seconds / 2))
    tally.delays = array("d")
    began, cpu = time.monotonic(), machine.cpu_seconds(order.pids)
    await asyncio.sleep(order.seconds)
    took, spent = time.monotonic() - began, machine.cpu_seconds(order.pids) - cpu
    delays, tally.delays = tally.delays, array("d")
    p50, p99 = percentiles(delays)
    more = machine.memory(order.pids) - order.rest
    return Outcome(len(delays), took, tally.errors, spent, more, p50, p99)


async def ask(order: Order, path: str) -> None:
    """A GET whose answer nobody minds."""
    reader, writer = await asyncio.open_connection(order.host, order.port)
    writer.write(head(f"GET {path}", order.netloc, "Connection: close"))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def sse(order: Order) -> Outcome:
    """Streams that share the rate."""
    request = next(chat_requests("small", order.netloc, stream=True))
    tally = Tally()
    talkers = [Listener(request, b"200", tally) for _ in range(order.connections)]
    await opened(order, talkers)
    await ask(order, f"/bench/rate/{order.rate}")
    try:
        outcome = await measured(order, tally)
    finally:
        await ask(order, "/bench/rate/0")
    silent = sum(not talker.heard for talker in talkers)
    close(tally, talkers)
    if silent and order.connections <= order.rate * order.seconds:
        outcome = Outcome(**{**asdict(outcome), "errors": outcome.errors + silent})
    return outcome


async def websocket(order: Order) -> Outcome:
    """An echo on each connection, as fast as it goes."""
    request = echo_head(order.netloc)
    tally = Tally()
    talkers = [Player(request, b"101", tally) for _ in range(order.connections)]
    await opened(order, talkers)
    for talker in talkers:
        talker.begin()
    outcome = await measured(order, tally)
    close(tally, talkers)
    return outcome


def close(tally: Tally, talkers: Sequence[Talker]) -> None:
    """The end, which is no error."""
    tally.ending = True
    for talker in talkers:
        if hasattr(talker, "transport"):
            talker.transport.abort()


def big(order: Order) -> Outcome:
    """One body of that size, on blocking sockets: no loop is faster."""
    before = resident(order.pids)
    for pid in order.pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    buffer = memoryview(bytearray(MIB))
    with socket.create_connection((order.host, order.port), timeout=machine.PATIENCE) as link:
        cpu, began = machine.cpu_seconds(order.pids), time.monotonic()
        count = (download if order.kind == "download" else upload)(link, order, buffer)
        took, spent = time.monotonic() - began, machine.cpu_seconds(order.pids) - cpu
    peak = resident(order.pids, peak=True)
    return Outcome(count, took, int(count != order.size), spent, peak - before)


def download(link: socket.socket, order: Order, buffer: memoryview) -> int:
    """Bytes that arrived."""
    link.sendall(
        head(f"GET /bench/download/{order.size}", order.netloc, "Accept-Encoding: identity")
    )
    said, rest = answer(link)
    if b" 200 " not in said or b"chunked" in said:
        raise RuntimeError(said.decode(errors="replace"))
    count = len(rest)
    while count < order.size and (size := link.recv_into(buffer)):
        count += size
    return count


def upload(link: socket.socket, order: Order, buffer: memoryview) -> int:
    """Bytes that the backend says it got."""
    link.sendall(head("POST /bench/upload", order.netloc, f"Content-Length: {order.size}"))
    left = order.size
    while left:
        size = min(left, len(buffer))
        link.sendall(buffer[:size])
        left -= size
    said, rest = answer(link)
    found = re.search(rb"\d+", rest or link.recv(4096))
    if b" 200 " not in said or found is None:
        raise RuntimeError(said.decode(errors="replace"))
    return int(found[0])


def answer(link: socket.socket) -> tuple[bytes, bytes]:
    """A head, and what has come behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = link.recv(65536)
        if not piece:
            raise RuntimeError(f"no answer: {got!r}")
        got += piece
    first, _, rest = got.partition(b"\r\n\r\n")
    return first + b" ", rest


def resident(pids: Sequence[int], *, peak: bool = False) -> float:
    """Return bytes of memory these processes hold, or held at most; nan of none."""
    name = "VmHWM:" if peak else "VmRSS:"
    total = 0 if pids else math.nan
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                total += int(line.split()[1]) * 1024
    return total


class Refused(asyncio.Protocol):
    """A client that sends requests without a key, so many at a time, and again when all of them
    are answered."""

    def __init__(self, order: Order, tally: Tally) -> None:
        self._requests = f"GET /bench/health HTTP/1.1\r\nHost: {order.netloc}\r\n\r\n".encode()
        self._requests *= PIPELINED
        self._tally = tally
        self._left = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._left = PIPELINED
        self._transport.write(self._requests)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        found = data.count(REFUSAL)
        self._rest = data[data.rfind(REFUSAL) + 1 :][1 - len(REFUSAL) :] if found else data[-11:]
        self._tally.refused += found
        self._left -= found
        if self._left <= 0:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._tally.ending:
            self._tally.errors += 1


async def refused(order: Order) -> Outcome:
    """Requests that are refused, as many as go."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    links = [
        await loop.create_connection(lambda: Refused(order, tally), order.host, order.port)
        for _ in range(order.connections)
    ]
    cpu = machine.cpu_seconds(order.pids)
    await asyncio.sleep(order.seconds)
    tally.ending = True
    for transport, _ in links:
        transport.abort()
    spent = machine.cpu_seconds(order.pids) - cpu
    return Outcome(tally.refused, order.seconds, tally.errors, spent)


def probe(order: Order) -> Outcome:
    """`/healthz`, asked again and again on one connection."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {order.netloc}\r\n\r\n".encode()
    took: array[float] = array("d")
    errors, cpu, until = 0, machine.cpu_seconds(order.pids), time.monotonic() + order.seconds
    with socket.create_connection((order.host, order.port), timeout=machine.PATIENCE) as link:
        while (began := time.monotonic()) < until:
            link.sendall(request)
            errors += not link.recv(65536).startswith(b"HTTP/1.1 200 ")
            took.append(time.monotonic() - began)
            time.sleep(PAUSE)
    spent = machine.cpu_seconds(order.pids) - cpu
    return Outcome(len(took), order.seconds, errors, spent, 0.0, *percentiles(took))


def main(order: Order) -> Outcome:
    """Carry it out."""
    machine.raise_limits()
    gc.disable()
    match order.kind:
        case "sse":
            return uvloop.run(sse(order))
        case "websocket":
            return uvloop.run(websocket(order))
        case "refused":
            return uvloop.run(refused(order))
        case "probe":
            return probe(order)
        case _:
            return big(order)


def carried_out(order: Order, cores: Cores) -> Outcome:
    """Have it carried out by a process of its own. Raises RuntimeError where that fails."""
    command = [sys.executable, "-m", "bench.datapath.load", json.dumps(asdict(order))]
    printed = machine.run(command, cores.load, LONGEST + order.seconds)
    return Outcome(**json.loads(printed))


def streams(bench: Bench, name: str) -> None:
    """Streams of events, of so many at a time."""
    for count in bench.options.streams:
        order = partial(Order, "sse", connections=count, rate=bench.options.rate)
        column = f"{count} stream{'s' if count > 1 else ''}"

        def numbers(outcome: Outcome, direct: Outcome, count: int = count) -> dict[str, float]:
            each = outcome.memory / count / 1024 if count >= 100 else math.nan
            return {
                "CPU by event, µs": outcome.cpu_each * 1e6,
                "p99 delay added, ms": (outcome.p99 - direct.p99) * 1e3,
                "memory by stream, KiB": each,
            }

        measured_by_turns(bench, name, column, order, numbers)


def sockets(bench: Bench, name: str) -> None:
    """WebSockets."""
    count = bench.options.sockets

    def numbers(outcome: Outcome, direct: Outcome) -> dict[str, float]:
        return {
            "messages/s": outcome.rate,
            "CPU by message, µs": outcome.cpu_each * 1e6,
            "p99 added, ms": (outcome.p99 - direct.p99) * 1e3,
        }

    order = partial(Order, "websocket", connections=count)
    measured_by_turns(bench, name, f"{count} connections", order, numbers)


def bodies(bench: Bench, name: str) -> None:
    """One big body each way."""

    def numbers(outcome: Outcome, direct: Outcome) -> dict[str, float]:
        return {
            "MB/s": outcome.rate / 1e6,
            "CPU by GiB, s": outcome.cpu_each * GIB,
            "memory at the peak, MiB": outcome.memory / MIB,
        }

    for way in ("download", "upload"):
        order = partial(Order, way, size=bench.options.size * MIB)
        measured_by_turns(bench, name, way, order, numbers)


def measured_by_turns(
    bench: Bench,
    workload: str,
    column: str,
    order: Callable[..., Order],
    numbers: Callable[[Outcome, Outcome], dict[str, float]],
) -> None:
    """Measure this load on every candidate, in rounds that start with another."""
    seconds = bench.options.seconds
    with bench.everybody() as candidates:
        for turn in bench.turns:
            outcomes: dict[str, Outcome] = {}
            for one in rotated(candidates, turn):
                asked = order(
                    host=one.host, port=one.port, pids=one.pids, rest=one.rest, seconds=seconds
                )
                outcomes[one.name] = carried_out(asked, bench.cores)
            for candidate, outcome in outcomes.items():
                found = numbers(outcome, outcomes[DIRECT]) | {"errors": float(outcome.errors)}
                bench.results.add_all(workload, column, candidate, found)
            said = ", ".join(
                f"{name} {one.cpu:.2f} s CPU, {one.errors} errors" for name, one in outcomes.items()
            )
            machine.say(f"{workload}, {column}, {turn + 1}/{len(bench.turns)}: {said}")


if __name__ == "__main__":
    said = asdict(main(Order(**json.loads(sys.argv[1]))))
    print(json.dumps(said))
