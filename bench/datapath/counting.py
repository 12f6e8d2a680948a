"""What one unit of work costs in something that is counted, not timed: instructions, calls.

A unit is a request, an event of a stream or a message of a WebSocket. Each kind of work is done
N times and then 2N times, with the counter read around both; the difference of the two, by unit,
is what is reported, so that whatever comes once cancels out. What the process does at rest in the
same time is subtracted.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bench.datapath import machine
from bench.datapath.backend import EVENT
from bench.datapath.candidates import Running
from bench.datapath.frames import frame
from bench.datapath.load import MESSAGE, Chunks
from bench.datapath.requests import HEADS, chat_requests, echo_head, head

#: Does so many units (or a few more, where it can't be helped); how many it did.
Work = Callable[[int], int]
Kind = Callable[[Running], AbstractContextManager[Work]]
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: Events a second, over all streams: a proxy that is counted is slow.
RATE = 200
STREAMS = 16
#: Seconds in which a stopped stream's last events arrive.
QUIET = 0.5
#: Seconds for which the counter is watched while nothing is asked.
RESTING = 3.0
#: How often each kind of work is done before it counts.
WARM = 2


def works() -> dict[str, Kind]:
    """Return the kinds of work by name, each as a context manager in front of a candidate."""
    found = {
        f"{name}, {count} connection{'s' if count > 1 else ''}": _requests(name, count)
        for name in HEADS
        for count in (1, 64)
    }
    return found | {f"event of {STREAMS} streams": _events, "WebSocket message": _messages}


def _connect(one: Running) -> socket.socket:
    return socket.create_connection((one.host, one.port), timeout=machine.PATIENCE)


def _answer(link: socket.socket) -> bytes:
    """Read one answer that has a length or none, whole; return what stands behind its head."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _some(link)
    head, _, body = got.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] not in (b"200", b"101"):
        raise RuntimeError(got.decode(errors="replace"))
    length = LENGTH.search(head)
    while length is not None and len(body) < int(length[1]):
        body += _some(link)
    return body


def _some(link: socket.socket) -> bytes:
    data = link.recv(65536)
    if not data:
        raise RuntimeError("the connection was closed")
    return data


def _requests(name: str, connections: int) -> Kind:
    """Return work on kept connections: a request on each, then the answers of all."""

    @contextmanager
    def work(one: Running) -> Iterator[Work]:
        requests = chat_requests(name, one.netloc)
        with ExitStack() as stack:
            links = [stack.enter_context(_connect(one)) for _ in range(connections)]

            def ask(count: int) -> int:
                turns = -(-count // connections)
                for _ in range(turns):
                    for link in links:
                        link.sendall(next(requests))
                    for link in links:
                        _answer(link)
                return turns * connections

            yield ask

    return work


@contextmanager
def _events(one: Running) -> Iterator[Work]:
    """Yield work whose unit is an event of streams that are open already."""
    size = len(EVENT % (0.0, 0))
    with ExitStack() as stack:
        control = stack.enter_context(_connect(one))
        requests = chat_requests("small", one.netloc, stream=True)
        streams = {}
        for _ in range(STREAMS):
            link = stack.enter_context(_connect(one))
            link.sendall(next(requests))
            streams[link] = Chunks()
            streams[link].feed(_answer(link))

        def rate(events: int) -> None:
            control.sendall(head(f"GET /bench/rate/{events}", one.netloc))
            _answer(control)

        def arrived(patience: float) -> int:
            readable, _, _ = select.select(list(streams), (), (), patience)
            return sum(len(streams[link].feed(_some(link))) for link in readable)

        def take(count: int) -> int:
            taken = 0
            rate(RATE)
            while taken < count * size:
                taken += arrived(machine.PATIENCE)
            rate(0)
            while more := arrived(QUIET):
                taken += more
            return taken // size

        yield take


@contextmanager
def _messages(one: Running) -> Iterator[Work]:
    """Yield work whose unit is a message that is sent back, one at a time."""
    with _connect(one) as link:
        link.sendall(echo_head(one.netloc))
        _answer(link)
        message, size = frame(MESSAGE, masked=True), len(frame(MESSAGE))

        def send_message(count: int) -> int:
            for _ in range(count):
                link.sendall(message)
                got = 0
                while got < size:
                    got += len(_some(link))
            return count

        yield send_message


def by_unit(work: Work, read: Callable[[], Mapping[str, float]], count: int) -> dict[str, float]:
    """Return what a unit costs, by name. `read` returns the counters' sums since some start."""

    def spent(what: Callable[[], int]) -> tuple[int, float, dict[str, float]]:
        before, began = read(), time.monotonic()
        units, took = what(), time.monotonic() - began
        return units, took, {k: v - before.get(k, 0) for k, v in read().items()}

    def rest() -> int:
        time.sleep(RESTING)
        return 0

    for _ in range(WARM):
        work(count)
    _, resting, idle = spent(rest)
    units, took, once = spent(lambda: work(count))
    more_units, longer, twice = spent(lambda: work(2 * units))

    def cost(name: str) -> float:
        at_rest = idle.get(name, 0) * (longer - took) / resting
        return (twice[name] - once.get(name, 0) - at_rest) / (more_units - units)

    return {name: cost(name) for name in twice}
