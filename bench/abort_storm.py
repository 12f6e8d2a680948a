"""What is left behind by clients that leave: tickets, connections, files, memory.

    python -m bench.abort_storm [--requests 10000] [--mark 1000] [--clients 32] [--json]

Clients abort their requests at random points: in the middle of the head, while queued for a
backend that loads or for one whose place is taken, while uploading, while waiting for the
response's head, while it streams (reading or not), inside a tunnel; with a reset, a plain
close, or a half-close. Afterwards nothing of them may be left, and the launcher's resident
memory must be within 10 MiB of what it was at the mark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.serving import PATIENCE, Launcher, process_route, until

MIB = 1024 * 1024
AIM = 10 * MIB
#: `chat` serves; `other` wants its place and never gets it; `loading` never turns healthy.
ROUTES = (
    process_route("chat", lines='idle_timeout = "1h"')
    + process_route("other", lines='max_wait = "1h"')
    + process_route("loading", HEALTH="never", lines='needs = {}\nstart_timeout = "1h"')
)
ENDINGS = ("reset", "close", "half-close")


@dataclass
class Result:
    """What the storm did and what it left."""

    requests: int
    mark: int
    points: dict[str, int]
    """How many were aborted at each point."""
    endings: dict[str, int]
    surprises: list[str] = field(default_factory=list)
    """Answers that nobody should have had, connections that weren't closed."""
    most_queued: int = 0
    most_in_flight: int = 0
    tickets: int = -1
    connections: int = -1
    """To backends, of the launcher, by the kernel's table."""
    working: int = -1
    """Requests that the backend still works on."""
    files_before: int = 0
    files: int = 0
    memory_at_mark: int = 0
    memory: int = 0

    @property
    def growth(self) -> int:
        """Bytes of resident memory since the mark."""
        return self.memory - self.memory_at_mark


class Visitor:
    """One connection of one client, which is going to leave."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.rng = rng

    def send(self, method: str, target: str, *headers: str, body: bytes = b"") -> None:
        """A request; nothing is waited for."""
        lines = [f"{method} {target} HTTP/1.1", "Host: storm", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode() + body)

    def ask(self, target: str, **payload: object) -> None:
        """A POST of a JSON document."""
        body = json.dumps({"messages": [], **payload}).encode()
        length = f"Content-Length: {len(body)}"
        self.send("POST", target, "Content-Type: application/json", length, body=body)

    async def head(self, status: int) -> None:
        """The response's head, which has to say `status`."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 %d " % status):
            raise Surprise(head.decode(errors="replace"))

    async def pause(self) -> None:
        """A moment of random length: none at all for some, so that every turn is hit."""
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.001, 0.005, 0.02, 0.05)))

    async def leave(self, ending: str) -> None:
        """End the connection. After a half-close the launcher has to end it."""
        transport = self.writer.transport
        if ending == "reset":
            linger = struct.pack("ii", 1, 0)
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        elif ending == "half-close":
            with contextlib.suppress(OSError):
                self.writer.write_eof()
                async with asyncio.timeout(PATIENCE):
                    while await self.reader.read(MIB):
                        pass
        transport.abort()


class Surprise(Exception):
    """Something that the storm doesn't allow for."""


async def in_the_head(visitor: Visitor) -> None:
    """Leaves before the head is whole."""
    head = b"POST /chat/upload HTTP/1.1\r\nHost: storm\r\nContent-Length: 10\r\n\r\n"
    visitor.writer.write(head[: visitor.rng.randrange(len(head) - 1)])
    await visitor.pause()


async def while_loading(visitor: Visitor) -> None:
    """Leaves while its backend loads."""
    if visitor.rng.random() < 0.5:
        visitor.ask("/openai/v1/chat/completions", model="loading")
    else:
        visitor.send("PUT", "/loading/upload", f"Content-Length: {MIB}", body=bytes(200_000))
    await visitor.pause()


async def while_queued(visitor: Visitor) -> None:
    """Leaves while another backend has the place that its own needs."""
    visitor.ask("/v1/chat/completions", model="other", stream=visitor.rng.random() < 0.5)
    await visitor.pause()


async def uploading(visitor: Visitor) -> None:
    """Leaves in the middle of its body: streamed, chunked, or kept for its model."""
    kind = visitor.rng.randrange(3)
    sent = bytes(visitor.rng.randrange(256 * 1024))
    if kind == 0:
        visitor.send("PUT", "/chat/upload", f"Content-Length: {MIB}", body=sent)
    elif kind == 1:
        chunk = b"%x\r\n%b" % (len(sent) + 1, sent)
        visitor.send("POST", "/chat/upload", "Transfer-Encoding: chunked", body=chunk)
    else:
        start = b'{"model": "chat", "x": "' + b"x" * len(sent)
        length = f"Content-Length: {MIB}"
        visitor.send("POST", "/v1/completions", length, body=start)
    await visitor.pause()


async def waiting(visitor: Visitor) -> None:
    """Leaves while the backend thinks."""
    visitor.ask("/v1/chat/completions", model="chat", x_tokens=1, x_delay=3600)
    await visitor.pause()


async def streaming(visitor: Visitor) -> None:
    """Leaves in the middle of the answer, having read some of it."""
    visitor.ask("/chat/v1/chat/completions", stream=True, x_tokens=100_000, x_delay=0.005)
    await visitor.head(200)
    await visitor.reader.read(visitor.rng.randrange(1, 1024))
    await visitor.pause()


async def not_reading(visitor: Visitor) -> None:
    """Leaves behind more than all buffers hold, unread."""
    chunked = visitor.rng.randrange(2)
    visitor.send("GET", f"/chat/download?bytes={64 * MIB}&chunked={chunked}")
    await visitor.head(200)
    await visitor.pause()


async def in_a_tunnel(visitor: Visitor) -> None:
    """Leaves a WebSocket without a word, in the middle of a frame or between two."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    visitor.send("GET", "/chat/ws", *upgrade, "Sec-WebSocket-Key: c3Rvcm1zdG9ybXN0b3JtIQ==")
    await visitor.head(101)
    frame = b"\x82\x8a" + bytes(4) + b"0123456789"
    for _ in range(visitor.rng.randrange(4)):
        visitor.writer.write(frame)
        echo = await visitor.reader.readexactly(12)
        if echo != b"\x82\x0a0123456789":
            raise Surprise(f"an echo of {echo!r}")
    visitor.writer.write(frame[: visitor.rng.randrange(len(frame))])
    await visitor.pause()


Point = Callable[[Visitor], Awaitable[None]]
POINTS: tuple[Point, ...] = (
    in_the_head,
    while_loading,
    while_queued,
    uploading,
    waiting,
    streaming,
    not_reading,
    in_a_tunnel,
)


async def storm(
    launcher: Launcher,
    requests: int,
    clients: int,
    result: Result,
    seed: int,
    points: Sequence[Point] = POINTS,
) -> None:
    """Send and abort so many requests, and count them in `result`."""
    host, _, port = launcher.base.removeprefix("http://").partition(":")
    todo = iter(range(requests))
    reached, endings = Counter(result.points), Counter(result.endings)

    async def client(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        for _ in todo:
            point, ending = rng.choice(points), rng.choice(ENDINGS)
            visitor = Visitor(*await asyncio.open_connection(host, int(port)), rng)
            try:
                async with asyncio.timeout(PATIENCE):
                    await point(visitor)
                await visitor.leave(ending)
            except (Surprise, TimeoutError, EOFError, OSError) as error:
                result.surprises.append(f"{point.__name__}, {ending}: {error!r}")
            finally:
                visitor.writer.transport.abort()
            reached[point.__name__.replace("_", " ")] += 1
            endings[ending] += 1

    async def look() -> None:
        while True:
            backends = await asyncio.to_thread(told, launcher)
            queued = sum(one["queued"] for one in backends)
            running = sum(one["in_flight"] for one in backends)
            result.most_queued = max(result.most_queued, queued)
            result.most_in_flight = max(result.most_in_flight, running)
            await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    try:
        await asyncio.gather(*(client(number) for number in range(clients)))
    finally:
        looking.cancel()
        await asyncio.wait((looking,))
    result.points, result.endings = dict(reached), dict(endings)


def told(launcher: Launcher) -> list[dict[str, Any]]:
    """What /api/status says of each backend."""
    found: list[dict[str, Any]] = launcher.json("/api/status")["backends"]
    return found


def tickets(launcher: Launcher) -> int:
    """Requests that wait or run, as the launcher counts them."""
    return sum(one["queued"] + one["in_flight"] for one in told(launcher))


def connections(launcher: Launcher) -> int:
    """The launcher's open connections to its backends, by the kernel's table."""
    ports = set()
    for one in told(launcher):
        if one["endpoint"] is not None:
            ports.add(int(str(one["endpoint"]).rstrip("/").rpartition(":")[2]))
    own = set()
    for entry in Path(f"/proc/{launcher.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            own.add(os.readlink(entry))
    count = 0
    for line in Path(f"/proc/{launcher.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        remote = int(fields[2].rpartition(":")[2], 16)
        count += remote in ports and f"socket:[{fields[9]}]" in own
    return count


def files(launcher: Launcher) -> int:
    """The launcher's open files and sockets."""
    return len(list(Path(f"/proc/{launcher.pid}/fd").iterdir()))


def working(launcher: Launcher) -> int:
    """Requests that the backend works on."""
    return int(launcher.json("/chat/stats")["active"])


def settle(launcher: Launcher) -> None:
    """Wait for the end of whatever the storm left, as long as that takes within reason."""
    with contextlib.suppress(AssertionError):
        until(lambda: tickets(launcher) == 0 and working(launcher) == 0, patience=PATIENCE)
    with contextlib.suppress(AssertionError):
        # Idle connections are kept for a few seconds.
        until(lambda: connections(launcher) == 0, patience=PATIENCE)


def run(folder: Path, requests: int, mark: int, clients: int = 32, seed: int = 1) -> Result:
    """The whole storm against a launcher of its own, in two parts: before the mark and after.

    A long answer holds the place that one route's requests queue for, and is aborted itself
    before each count.
    """
    result = Result(requests, mark, {}, {})
    with Launcher(folder, ROUTES) as launcher:
        assert launcher.get("/chat/v1/models")[0] == 200
        # What a backend that loads holds is not the storm's.
        asyncio.run(storm(launcher, 20, 1, Result(0, 0, {}, {}), seed, (while_loading,)))
        until(lambda: launcher.state("loading") == "starting", "it loads")
        settle(launcher)
        result.files_before = files(launcher)
        for part in (mark, requests - mark):
            asyncio.run(held(launcher, part, clients, result, seed + part))
            settle(launcher)
            if part == mark and not result.memory_at_mark:
                result.memory_at_mark = launcher.memory()
        result.memory = launcher.memory()
        result.files = files(launcher)
        result.tickets = tickets(launcher)
        result.connections = connections(launcher)
        result.working = working(launcher)
    return result


async def held(launcher: Launcher, requests: int, clients: int, result: Result, seed: int) -> None:
    """The storm, while an answer that doesn't end keeps `chat` where it is."""
    host, _, port = launcher.base.removeprefix("http://").partition(":")
    holder = Visitor(*await asyncio.open_connection(host, int(port)), random.Random(seed))
    holder.ask("/chat/v1/chat/completions", stream=True, x_tokens=10_000, x_delay=10.0)
    await holder.head(200)
    try:
        await storm(launcher, requests, clients, result, seed)
    finally:
        await holder.leave("reset")


def table(result: Result) -> str:
    """For people."""
    rows = [(f"aborted, {name}", str(count)) for name, count in sorted(result.points.items())]
    rows += [(f"with a {name}", str(count)) for name, count in sorted(result.endings.items())]
    rows += [
        ("surprises", str(len(result.surprises))),
        ("most queued, most in flight", f"{result.most_queued}, {result.most_in_flight}"),
        ("tickets left", str(result.tickets)),
        ("connections to backends left", str(result.connections)),
        ("requests the backend works on", str(result.working)),
        ("open files before and after", f"{result.files_before}, {result.files}"),
        (f"memory after {result.mark}, MiB", f"{result.memory_at_mark / MIB:.1f}"),
        (f"memory after {result.requests}, MiB", f"{result.memory / MIB:.1f}"),
        ("growth, MiB (aim: 10 at most)", f"{result.growth / MIB:.1f}"),
    ]
    return "\n".join(f"{name:36}{value:>12}" for name, value in rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.abort_storm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--mark", type=int, default=1000, help="where memory is first taken")
    parser.add_argument("--clients", type=int, default=32, help="at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as name:
        folder = Path(name)
        result = run(folder, options.requests, options.mark, options.clients, options.seed)
    if options.json:
        print(json.dumps(asdict(result) | {"growth": result.growth, "aim": AIM}, indent=2))
    else:
        print(table(result))
    for line in result.surprises[:20]:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
