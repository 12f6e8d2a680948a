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
#: A load takes at most that much longer than its seconds: opening, closing.
LONGEST = 300.0
Numbers = dict[str, float]


@dataclass(frozen=True)
class LoadSpec:
    """A load on one candidate."""

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
class Measurement:
    """What was measured under a load, in seconds and bytes."""

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
    """Return the median and p99; 0 of nothing."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


class Client(asyncio.Protocol):
    """Sends a request and hands on what comes behind the answer's head."""

    def __init__(self, request: bytes, status: bytes, counts: Counts) -> None:
        self._request = request
        self._status = status
        self._head: bytes | None = b""
        self.counts = counts
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
                self.counts.errors += 1
            elif rest:
                self.received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.counts.ending:
            self.counts.errors += 1
        if not self.open.done():
            self.open.set_result(None)

    def received(self, data: bytes) -> None:
        """Take what comes behind the head."""


class Counts:
    """What all connections of a load have counted."""

    def __init__(self) -> None:
        self.errors = 0
        self.ending = False
        self.refused = 0
        self.delays: array[float] = array("d")


class Chunks:
    """Parses chunks (RFC 9112, 7.1), since proxies cut events as they like."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        """Bytes of this chunk still to come, with the two of its line's end."""

    def feed(self, data: bytes) -> bytes:
        """Return the payload of these bytes; framing that isn't whole is kept for later."""
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


class StreamClient(Client):
    """Reads events, and checks that none is missing."""

    def __init__(self, request: bytes, status: bytes, counts: Counts) -> None:
        super().__init__(request, status, counts)
        self._chunks = Chunks()
        self._rest = b""
        self._next = 0

    @property
    def heard(self) -> bool:
        """Whether at least one event has come."""
        return self._next > 0

    def received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._rest + self._chunks.feed(data)
        end = 0
        for found in EVENT.finditer(data):
            end = found.end()
            self.counts.delays.append(now - float(found[1]))
            if int(found[2]) != self._next:
                self.counts.errors += 1
            self._next = int(found[2]) + 1
        self._rest = data[end:][-EVENT_SIZE:]


class EchoClient(Client):
    """Sends one message at a time, and the next when it has come back."""

    def received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        for message in self._frames.feed(data):
            self.counts.delays.append(time.monotonic() - self._sent)
            if message != MESSAGE:
                self.counts.errors += 1
            self.send_message()

    def begin(self) -> None:
        """Send the first message."""
        self._frames = Frames()
        self.send_message()

    def send_message(self) -> None:
        """Send the next message."""
        self._sent = time.monotonic()
        self.transport.write(frame(MESSAGE, masked=True))


async def opened(spec: LoadSpec, clients: Sequence[Client]) -> None:
    """Connect all of them, until each has its answer's head or has failed."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(OPENING)

    async def open_one(client: Client) -> None:
        async with turn:
            try:
                await loop.create_connection(lambda: client, spec.host, spec.port)
                async with asyncio.timeout(machine.PATIENCE):
                    await client.open
            except (OSError, TimeoutError):
                client.counts.errors += 1

    await asyncio.gather(*(open_one(client) for client in clients))


async def measured(spec: LoadSpec, counts: Counts) -> Measurement:
    """Measure what happens from now on, for the seconds of the load."""
    await asyncio.sleep(min(SETTLING, spec.seconds / 2))
    counts.delays = array("d")
    began, cpu = time.monotonic(), machine.cpu_seconds(spec.pids)
    await asyncio.sleep(spec.seconds)
    took, spent = time.monotonic() - began, machine.cpu_seconds(spec.pids) - cpu
    delays, counts.delays = counts.delays, array("d")
    p50, p99 = percentiles(delays)
    more = machine.memory(spec.pids) - spec.rest
    return Measurement(len(delays), took, counts.errors, spent, more, p50, p99)


async def ask(spec: LoadSpec, path: str) -> None:
    """Send a GET and wait for the head of its answer."""
    reader, writer = await asyncio.open_connection(spec.host, spec.port)
    writer.write(head(f"GET {path}", spec.netloc, "Connection: close"))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def sse(spec: LoadSpec) -> Measurement:
    """Measure streams that share the rate."""
    request = next(chat_requests("small", spec.netloc, stream=True))
    counts = Counts()
    clients = [StreamClient(request, b"200", counts) for _ in range(spec.connections)]
    await opened(spec, clients)
    await ask(spec, f"/bench/rate/{spec.rate}")
    try:
        measurement = await measured(spec, counts)
    finally:
        await ask(spec, "/bench/rate/0")
    silent = sum(not client.heard for client in clients)
    close(counts, clients)
    if silent and spec.connections <= spec.rate * spec.seconds:
        measurement = Measurement(**{**asdict(measurement), "errors": measurement.errors + silent})
    return measurement


async def websocket(spec: LoadSpec) -> Measurement:
    """Measure messages that are sent back, on each connection as fast as it goes."""
    request = echo_head(spec.netloc)
    counts = Counts()
    clients = [EchoClient(request, b"101", counts) for _ in range(spec.connections)]
    await opened(spec, clients)
    for client in clients:
        client.begin()
    measurement = await measured(spec, counts)
    close(counts, clients)
    return measurement


def close(counts: Counts, clients: Sequence[Client]) -> None:
    """Close all connections; from here on that is no error."""
    counts.ending = True
    for client in clients:
        if hasattr(client, "transport"):
            client.transport.abort()


def big(spec: LoadSpec) -> Measurement:
    """Measure one body of that size, on blocking sockets: no loop is faster."""
    before = resident(spec.pids)
    for pid in spec.pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    buffer = memoryview(bytearray(MIB))
    with socket.create_connection((spec.host, spec.port), timeout=machine.PATIENCE) as link:
        cpu, began = machine.cpu_seconds(spec.pids), time.monotonic()
        count = (download if spec.kind == "download" else upload)(link, spec, buffer)
        took, spent = time.monotonic() - began, machine.cpu_seconds(spec.pids) - cpu
    peak = resident(spec.pids, peak=True)
    return Measurement(count, took, int(count != spec.size), spent, peak - before)


def download(link: socket.socket, spec: LoadSpec, buffer: memoryview) -> int:
    """Return how many bytes arrived."""
    link.sendall(head(f"GET /bench/download/{spec.size}", spec.netloc, "Accept-Encoding: identity"))
    said, rest = answer(link)
    if b" 200 " not in said or b"chunked" in said:
        raise RuntimeError(said.decode(errors="replace"))
    count = len(rest)
    while count < spec.size and (size := link.recv_into(buffer)):
        count += size
    return count


def upload(link: socket.socket, spec: LoadSpec, buffer: memoryview) -> int:
    """Return how many bytes the backend says it got."""
    link.sendall(head("POST /bench/upload", spec.netloc, f"Content-Length: {spec.size}"))
    left = spec.size
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
    """Return a head, and what has come behind it."""
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


class RefusedClient(asyncio.Protocol):
    """A client that sends requests without a key, so many at a time, and again when all of them
    are answered."""

    def __init__(self, spec: LoadSpec, counts: Counts) -> None:
        self._requests = f"GET /bench/health HTTP/1.1\r\nHost: {spec.netloc}\r\n\r\n".encode()
        self._requests *= PIPELINED
        self._counts = counts
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
        self._rest = data[1 - len(REFUSAL) :]
        self._counts.refused += found
        self._left -= found
        if self._left <= 0:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._counts.ending:
            self._counts.errors += 1


async def refused(spec: LoadSpec) -> Measurement:
    """Measure requests that are refused, as many as go."""
    counts = Counts()
    loop = asyncio.get_running_loop()
    links = [
        await loop.create_connection(lambda: RefusedClient(spec, counts), spec.host, spec.port)
        for _ in range(spec.connections)
    ]
    cpu = machine.cpu_seconds(spec.pids)
    await asyncio.sleep(spec.seconds)
    counts.ending = True
    for transport, _ in links:
        transport.abort()
    spent = machine.cpu_seconds(spec.pids) - cpu
    return Measurement(counts.refused, spec.seconds, counts.errors, spent)


def probe(spec: LoadSpec) -> Measurement:
    """Measure `/healthz`, asked again and again on one connection."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {spec.netloc}\r\n\r\n".encode()
    took: array[float] = array("d")
    errors, cpu, until = 0, machine.cpu_seconds(spec.pids), time.monotonic() + spec.seconds
    with socket.create_connection((spec.host, spec.port), timeout=machine.PATIENCE) as link:
        while (began := time.monotonic()) < until:
            link.sendall(request)
            errors += not link.recv(65536).startswith(b"HTTP/1.1 200 ")
            took.append(time.monotonic() - began)
            time.sleep(PAUSE)
    spent = machine.cpu_seconds(spec.pids) - cpu
    return Measurement(len(took), spec.seconds, errors, spent, 0.0, *percentiles(took))


def main(spec: LoadSpec) -> Measurement:
    """Make the load and measure."""
    machine.raise_limits()
    gc.disable()
    match spec.kind:
        case "sse":
            return uvloop.run(sse(spec))
        case "websocket":
            return uvloop.run(websocket(spec))
        case "refused":
            return uvloop.run(refused(spec))
        case "probe":
            return probe(spec)
        case _:
            return big(spec)


def measure(spec: LoadSpec, cores: Cores) -> Measurement:
    """Measure a load in a process of its own. Raises RuntimeError where that fails."""
    command = [sys.executable, "-m", "bench.datapath.load", json.dumps(asdict(spec))]
    printed = machine.run(command, cores.load, LONGEST + spec.seconds)
    return Measurement(**json.loads(printed))


def streams(bench: Bench, name: str) -> None:
    """Measure streams of events, so many at a time."""
    for count in bench.options.streams:
        spec = partial(LoadSpec, "sse", connections=count, rate=bench.options.rate)
        column = f"{count} stream{'s' if count > 1 else ''}"

        def numbers(result: Measurement, direct: Measurement, count: int = count) -> Numbers:
            each = result.memory / count / 1024 if count >= 100 else math.nan
            return {
                "CPU by event, µs": result.cpu_each * 1e6,
                "p99 delay added, ms": (result.p99 - direct.p99) * 1e3,
                "memory by stream, KiB": each,
            }

        measure_all(bench, name, column, spec, numbers)


def sockets(bench: Bench, name: str) -> None:
    """Measure WebSockets."""
    count = bench.options.sockets

    def numbers(result: Measurement, direct: Measurement) -> Numbers:
        return {
            "messages/s": result.rate,
            "CPU by message, µs": result.cpu_each * 1e6,
            "p99 added, ms": (result.p99 - direct.p99) * 1e3,
        }

    spec = partial(LoadSpec, "websocket", connections=count)
    measure_all(bench, name, f"{count} connections", spec, numbers)


def bodies(bench: Bench, name: str) -> None:
    """Measure one big body each way."""

    def numbers(result: Measurement, direct: Measurement) -> Numbers:
        return {
            "MB/s": result.rate / 1e6,
            "CPU by GiB, s": result.cpu_each * GIB,
            "memory at the peak, MiB": result.memory / MIB,
        }

    for way in ("download", "upload"):
        spec = partial(LoadSpec, way, size=bench.options.size * MIB)
        measure_all(bench, name, way, spec, numbers)


def measure_all(
    bench: Bench,
    workload: str,
    column: str,
    spec: Callable[..., LoadSpec],
    numbers: Callable[[Measurement, Measurement], Numbers],
) -> None:
    """Measure this load on every candidate, in rounds that start with another."""
    seconds = bench.options.seconds
    with bench.everybody() as candidates:
        for turn in bench.turns:
            results: dict[str, Measurement] = {}
            for one in rotated(candidates, turn):
                asked = spec(
                    host=one.host, port=one.port, pids=one.pids, rest=one.rest, seconds=seconds
                )
                results[one.name] = measure(asked, bench.cores)
            for candidate, result in results.items():
                found = numbers(result, results[DIRECT]) | {"errors": float(result.errors)}
                bench.results.add_all(workload, column, candidate, found)
            said = ", ".join(
                f"{name} {one.cpu:.2f} s CPU, {one.errors} errors" for name, one in results.items()
            )
            machine.say(f"{workload}, {column}, {turn + 1}/{len(bench.turns)}: {said}")


if __name__ == "__main__":
    said = asdict(main(LoadSpec(**json.loads(sys.argv[1]))))
    print(json.dumps(said))
