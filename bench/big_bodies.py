"""Bodies larger than memory should hold: what the launcher keeps of them, and how fast it is.

    python -m bench.big_bodies [--size 2048] [--json]

Uploads and downloads of so many MiB through a path route, with a Content-Length and chunked,
each checked by its hash; then a client and a backend that stop reading for a while in the
middle. `growth` is the launcher's peak of resident memory, as the kernel has recorded it since
its start, above what it held before the transfer. The aim is less than 50 MiB, whatever the
size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from tests.e2e.serving import PATIENCE, Launcher, process_route, until

MIB = 1024 * 1024
AIM = 50 * MIB
ROUTES = process_route("big", lines='idle_timeout = "1h"')
#: Of no length that a buffer has, and unlike itself when shifted.
PIECE = hashlib.shake_128(b"big bodies").digest(256 * 1024 - 7)
#: Seconds without a byte of progress after which a transfer stands still.
STILL = 1.0
T = TypeVar("T")


@dataclass(frozen=True)
class Transfer:
    """One body, carried."""

    name: str
    size: int
    seconds: float
    whole: bool
    """It arrived byte for byte."""
    growth: int
    """Bytes of the launcher's resident memory, at its peak, above what it was before."""
    sender_waited: bool | None = None
    """While the receiver stood still, so did the sender; None where nobody stood still."""


class Link:
    """One connection to the launcher, blocking, for one exchange."""

    def __init__(self, launcher: Launcher) -> None:
        host, _, port = launcher.base.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")
        self.port: int = self._socket.getsockname()[1]
        self.sent = 0

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def head(self, first: str, *headers: str) -> None:
        """A request's head."""
        lines = [f"{first} HTTP/1.1", "Host: big", "Connection: close", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode())

    def upload(self, size: int, *, chunked: bool) -> str:
        """A whole request with a body of that size; the body's hash."""
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        self.head("POST /big/upload", framing)
        digest = hashlib.sha256()
        for at in range(0, size, len(PIECE)):
            piece = PIECE[: size - at]
            digest.update(piece)
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            self.sent = at + len(piece)
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")
        return digest.hexdigest()

    def answer(self) -> Iterator[bytes]:
        """The body of a 200, in pieces as they come. Raises where it isn't whole."""
        file = self._file
        status = file.readline()
        if not status.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{status!r} {file.read()!r}")
        fields = {}
        while line := file.readline().strip().lower():
            name, _, value = line.partition(b":")
            fields[name] = value.strip()
        if fields.get(b"transfer-encoding") == b"chunked":
            while left := int(file.readline(), 16):
                yield from self._pieces(left)
                file.readline()
            file.readline()
        else:
            yield from self._pieces(int(fields[b"content-length"]))
        if file.read():
            raise RuntimeError("something came behind the answer")

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self._file.read(min(left, MIB // 4))
            if not piece:
                raise RuntimeError(f"cut with {left} bytes still to come")
            left -= len(piece)
            yield piece


@contextmanager
def link_to(launcher: Launcher) -> Iterator[Link]:
    """A connection that is closed whatever becomes of it."""
    link = Link(launcher)
    try:
        yield link
    finally:
        link.close()


def upload(launcher: Launcher, size: int, *, chunked: bool) -> Transfer:
    """A client that sends as fast as it can."""
    before, began = launcher.memory(), time.monotonic()
    with link_to(launcher) as link:
        digest = link.upload(size, chunked=chunked)
        answer = json.loads(b"".join(link.answer()))
    return Transfer(
        f"upload, {framing(chunked)}",
        size,
        time.monotonic() - began,
        answer == {"bytes": size, "sha256": digest},
        peak(launcher) - before,
    )


def download(launcher: Launcher, size: int, *, chunked: bool) -> Transfer:
    """A client that reads as fast as it can."""
    before, began = launcher.memory(), time.monotonic()
    digest = hashlib.sha256()
    with link_to(launcher) as link:
        link.head(f"GET /big/download?bytes={size}&chunked={int(chunked)}")
        for piece in link.answer():
            digest.update(piece)
    return Transfer(
        f"download, {framing(chunked)}",
        size,
        time.monotonic() - began,
        digest.digest() == downloaded(size),
        peak(launcher) - before,
    )


def slow_backend(launcher: Launcher, size: int) -> Transfer:
    """A backend that is stopped in the middle of an upload, and goes on later."""
    before, began = launcher.memory(), time.monotonic()
    start = stats(launcher)
    digests: list[str] = []
    with link_to(launcher) as link:
        sending = threading.Thread(
            target=lambda: digests.append(link.upload(size, chunked=False)), daemon=True
        )
        sending.start()
        until(lambda: stats(launcher)["uploaded"] - start["uploaded"] > size // 16, "it flows")
        os.kill(start["pid"], signal.SIGSTOP)
        try:
            waited = still(lambda: link.sent) < size
        finally:
            os.kill(start["pid"], signal.SIGCONT)
        sending.join(PATIENCE + size / MIB)
        answer = json.loads(b"".join(link.answer()))
    return Transfer(
        "upload, slow backend",
        size,
        time.monotonic() - began,
        digests == [answer["sha256"]] and answer["bytes"] == size,
        peak(launcher) - before,
        waited,
    )


def slow_client(launcher: Launcher, size: int) -> Transfer:
    """A client that stops reading in the middle of a download, and goes on later."""
    before, began = launcher.memory(), time.monotonic()
    digest = hashlib.sha256()
    waited = None
    taken = 0
    with link_to(launcher) as link:
        link.head(f"GET /big/download?bytes={size}")
        for piece in link.answer():
            digest.update(piece)
            taken += len(piece)
            if waited is None and taken > size // 16:
                still(lambda: queues(launcher))
                # The one that asks isn't counted: the backend still has some to send.
                waited = stats(launcher)["active"] == 1
    return Transfer(
        "download, slow client",
        size,
        time.monotonic() - began,
        digest.digest() == downloaded(size),
        peak(launcher) - before,
        waited,
    )


def framing(chunked: bool) -> str:
    """How a body's length is told."""
    return "chunked" if chunked else "Content-Length"


def peak(launcher: Launcher) -> int:
    """The most resident memory it has ever had, in bytes."""
    status = Path(f"/proc/{launcher.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, status
    return int(found.group(1)) * 1024


def stats(launcher: Launcher) -> dict[str, int]:
    """What the backend counts."""
    found: dict[str, int] = launcher.json("/big/stats")
    return found


def queues(launcher: Launcher) -> list[str]:
    """What the kernel holds in each connection of the launcher's port or its backend's."""
    ports = {f"{int(launcher.base.rpartition(':')[2]):04X}"}
    endpoint = str(launcher.backend("big")["endpoint"])
    ports.add(f"{int(endpoint.rpartition(':')[2]):04X}")
    held = []
    for line in Path(f"/proc/{launcher.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        near, far, state, amount = fields[1:5]
        established = state == "01" and amount != "00000000:00000000"
        if established and ports & {near.rpartition(":")[2], far.rpartition(":")[2]}:
            held.append(f"{near} {far} {amount}")
    return sorted(held)


def still(look: Callable[[], T]) -> T:
    """Wait until what is seen hasn't changed for STILL seconds; it."""
    seen, since = look(), time.monotonic()
    end = since + PATIENCE
    while time.monotonic() - since < STILL:
        if time.monotonic() > end:
            raise RuntimeError(f"it doesn't stand still: {seen}")
        time.sleep(0.05)
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


def downloaded(size: int) -> bytes:
    """The hash of what the backend's download sends."""
    digest = hashlib.sha256()
    block = bytes(range(256)) * (MIB // 256)
    for at in range(0, size, MIB):
        digest.update(block[: size - at])
    return digest.digest()


def run(folder: Path, size: int) -> list[Transfer]:
    """All transfers of so many bytes, through a launcher of its own."""
    with Launcher(folder, ROUTES) as launcher:
        # Warm: what a first request needs is not the body's.
        upload(launcher, MIB, chunked=True)
        download(launcher, MIB, chunked=True)
        return [
            *(upload(launcher, size, chunked=chunked) for chunked in (False, True)),
            *(download(launcher, size, chunked=chunked) for chunked in (False, True)),
            slow_backend(launcher, size),
            slow_client(launcher, size),
        ]


def table(transfers: Sequence[Transfer]) -> str:
    """For people."""
    lines = [
        f"{'':24}{'MiB':>8}{'s':>8}{'MiB/s':>8}{'whole':>7}{'growth, MiB':>13}{'sender waited':>15}"
    ]
    for one in transfers:
        size = one.size / MIB
        waited = {True: "yes", False: "no", None: ""}[one.sender_waited]
        lines.append(
            f"{one.name:24}{size:>8.0f}{one.seconds:>8.1f}{size / one.seconds:>8.0f}"
            f"{'yes' if one.whole else 'no':>7}{one.growth / MIB:>13.1f}{waited:>15}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.big_bodies", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", type=int, default=2048, help="of each body, in MiB")
    parser.add_argument("--json", action="store_true", help="all numbers, in bytes and seconds")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as name:
        transfers = run(Path(name), options.size * MIB)
    if options.json:
        print(json.dumps([asdict(one) | {"aim": AIM} for one in transfers], indent=2))
    else:
        print(table(transfers))


if __name__ == "__main__":
    main()
