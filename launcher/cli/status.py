"""`launcher status`, `plan`, `logs` and `top`: commands that show and change nothing."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.common import (
    JsonOption,
    KeyOption,
    RouteArgument,
    UrlOption,
    connect,
    explained,
    table,
)
from launcher.client.transport import DEFAULT_URL, ClientError, Stream

if TYPE_CHECKING:
    from launcher.cli.views import TopData
    from launcher.client.launcher import LauncherClient


def status(
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Show what runs, what waits, what comes next, and what is wrong. Starts nothing.

    The last log lines of what failed are shown to holders of an admin key,
    and to everybody where no keys are set.

    \b
      launcher status
      launcher status --json | jq '.backends[] | {backend, state}'
      launcher status --url http://gpu.lan:8000 --key "$KEY"
    """
    with explained():
        report = connect(url, key).status()
    if json:
        sys.stdout.buffer.write(report.raw)
        return
    from launcher.cli.views import render_status

    table(render_status(report))


def plan(
    route: RouteArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Ask what would happen if a request for a route came now. Does nothing.

    Shows what would be started, drained and stopped for it, at what cost,
    and how long it would probably wait.

    \b
      launcher plan coder
      launcher plan coder --json | jq .predictedWait
    """
    with explained():
        report = connect(url, key).plan(route)
    if json:
        sys.stdout.buffer.write(report.raw)
        return
    from rich.console import Console

    from launcher.cli.views import render_plan

    Console().print(render_plan(report), soft_wrap=True)


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A backend, or the route that it serves.")
    ],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as it prints more, until Ctrl-C.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", metavar="N", min=0, help="The last N lines of before.")
    ] = 100,
) -> None:
    """Print what a backend has printed.

    For holders of an admin key; configured secrets are masked.

    \b
      launcher logs coder
      launcher logs coder --follow --tail 20
      launcher logs coder | grep -i cuda
    """
    with explained():
        client = connect(url, key)
        one = client.status().named(name)
        if one is None:
            known = ", ".join(one.backend for one in client.status().backends)
            raise ClientError(f"No backend or route is called {name}. Backends: {known or 'none'}.")
        try:
            with client.logs(one.backend, tail=tail, follow=follow) as pieces:
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            pass  # how following ends
        except BrokenPipeError:
            # `launcher logs | head`: nobody reads any more. What Python still holds for them it
            # would flush at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


#: Seconds between two renderings while nothing happens.
TICK = 1.0
#: Seconds between two status calls at least.
PACE = 0.2
#: Seconds between two status calls at most.
STALE = 10.0
#: Seconds before it subscribes to events again.
AGAIN = 1.0
#: Decisions that are asked for: more than a screen holds.
DECISIONS = 100


def top(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Watch the launcher live: states, queues, capacity, and what was decided last.

    `q` or Ctrl-C leaves. Where there is no terminal it is printed once.

    \b
      launcher top
      launcher top --url http://gpu.lan:8000 --key "$KEY"
    """
    client = connect(url, key)
    with explained():
        data = _fetch(client)
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            _watch(client, data)
        return
    from launcher.cli.views import render_top_once

    table(render_top_once(data))


def _fetch(client: LauncherClient) -> TopData:
    from launcher.cli.views import TopData

    return TopData(client.status(), client.decisions(DECISIONS))


def _watch(client: LauncherClient, data: TopData) -> None:
    from rich.console import Console
    from rich.live import Live

    from launcher.cli.views import render_top

    console = Console()
    looked, trouble = time.monotonic(), None
    with (
        EventListener(client) as listener,
        keys(sys.stdin.fileno()) as terminal,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            size = console.size
            now = _server_now(data.status.server_time, looked)
            live.update(render_top(data, now, size.width, size.height, trouble), refresh=True)
            ready, _, _ = select.select([terminal, listener.readable], [], [], TICK)
            if terminal in ready and _leaves(os.read(terminal, 64)):
                return
            age = time.monotonic() - looked
            if listener.readable in ready or age > STALE or trouble is not None:
                time.sleep(max(0.0, PACE - age))
                listener.clear()
                try:
                    data, trouble = _fetch(client), None
                except ClientError as error:
                    trouble = error.message
                looked = time.monotonic() if trouble is None else looked


def _leaves(pressed: bytes) -> bool:
    """`q`, Ctrl-D, or a terminal that is gone."""
    return not pressed or not set(b"qQ\x04").isdisjoint(pressed)


def _server_now(told: datetime, at: float) -> datetime:
    return told + timedelta(seconds=time.monotonic() - at)


@contextmanager
def keys(terminal: int) -> Iterator[int]:
    """Make a terminal give each key as it is pressed, unechoed; restore it afterwards."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class EventListener:
    """Waits for events on a thread of its own. A context manager."""

    def __init__(self, client: LauncherClient) -> None:
        self._client = client
        self._stream: Stream | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.readable, self._wake = os.pipe()
        """A file descriptor that is readable after an event."""
        os.set_blocking(self.readable, False)
        os.set_blocking(self._wake, False)
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)

    def __enter__(self) -> EventListener:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        self._thread.join(AGAIN)
        if not self._thread.is_alive():  # else it is connecting, and ends with the process
            os.close(self.readable)
            os.close(self._wake)

    def clear(self) -> None:
        """Make `news` wait for the next event."""
        with suppress(BlockingIOError):
            while os.read(self.readable, 4096):
                pass

    def _listen(self) -> None:
        while not self._over.is_set():
            with suppress(ClientError):  # the next status call says what is wrong
                self._follow()
            self._over.wait(AGAIN)

    def _follow(self) -> None:
        with self._client.events() as stream:
            with self._lock:
                if self._over.is_set():
                    return
                self._stream = stream
            for piece in stream:
                if b"data:" in piece:
                    with suppress(BlockingIOError):
                        os.write(self._wake, b"!")
