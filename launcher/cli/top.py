"""`launcher top`: a terminal's view of the launcher that keeps up with it.

It looks when the launcher tells that something happened, and counts on by itself meanwhile.
"""

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
from typing import TYPE_CHECKING

from launcher.cli.attending import connect, explained, table
from launcher.cli.options import KeyOption, UrlOption
from launcher.client.transport import DEFAULT_URL, ClientError, Stream

if TYPE_CHECKING:
    from launcher.cli.top_view import Seen
    from launcher.client.launcher import LauncherClient

#: Seconds between two pictures, while nothing happens but time.
TICK = 1.0
#: Seconds between two looks, however much happens.
PACE = 0.2
#: Seconds after which it looks even if nothing was told.
STALE = 10.0
#: Seconds before it tries again to hear of events.
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
        seen = _look(client)
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            _watch(client, seen)
        return
    from launcher.cli.top_view import printed

    table(printed(seen))


def _look(client: LauncherClient) -> Seen:
    from launcher.cli.top_view import Seen

    return Seen(client.status(), client.decisions(DECISIONS))


def _watch(client: LauncherClient, seen: Seen) -> None:
    from rich.console import Console
    from rich.live import Live

    from launcher.cli.top_view import screen

    console = Console()
    looked, trouble = time.monotonic(), None
    with (
        Ears(client) as ears,
        keys(sys.stdin.fileno()) as terminal,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            size = console.size
            now = _carried(seen.status.server_time, looked)
            live.update(screen(seen, now, size.width, size.height, trouble), refresh=True)
            ready, _, _ = select.select([terminal, ears.news], [], [], TICK)
            if terminal in ready and _leaves(os.read(terminal, 64)):
                return
            age = time.monotonic() - looked
            if ears.news in ready or age > STALE or trouble is not None:
                time.sleep(max(0.0, PACE - age))
                ears.heard()
                try:
                    seen, trouble = _look(client), None
                except ClientError as error:
                    trouble = error.message
                looked = time.monotonic() if trouble is None else looked


def _leaves(pressed: bytes) -> bool:
    """`q`, Ctrl-D, or a terminal that is gone."""
    return not pressed or not set(b"qQ\x04").isdisjoint(pressed)


def _carried(told: datetime, at: float) -> datetime:
    return told + timedelta(seconds=time.monotonic() - at)


@contextmanager
def keys(terminal: int) -> Iterator[int]:
    """A terminal that gives each key as it is pressed and doesn't show it; as it was, after."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class Ears:
    """Hears on a thread of its own that something happened. A context manager."""

    def __init__(self, client: LauncherClient) -> None:
        self._client = client
        self._stream: Stream | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.news, self._tell = os.pipe()
        """A file descriptor that can be read when there is something new."""
        os.set_blocking(self.news, False)
        os.set_blocking(self._tell, False)
        self._thread = threading.Thread(target=self._listen, name="events", daemon=True)

    def __enter__(self) -> Ears:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        self._thread.join(AGAIN)
        if not self._thread.is_alive():  # else it is connecting, and ends with the process
            os.close(self.news)
            os.close(self._tell)

    def heard(self) -> None:
        """What there was is known now."""
        with suppress(BlockingIOError):
            while os.read(self.news, 4096):
                pass

    def _listen(self) -> None:
        while not self._over.is_set():
            with suppress(ClientError):  # the next look tells what is wrong
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
                        os.write(self._tell, b"!")
