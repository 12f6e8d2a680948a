"""A terminal that a command runs in: what it shows, what is typed, how it is left."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from types import TracebackType
from typing import Self

from tests.cli.running import ENVIRON, command

PATIENCE = 60.0


class Terminal:
    """80 columns and 24 lines, with `launcher …` in it."""

    def __init__(self, *args: str) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        environ = {name: value for name, value in ENVIRON.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            command(*args),
            env=environ | {"TERM": "xterm-256color"},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=_at_a_terminal,
        )
        self._lock = threading.Condition()
        self._seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        self._reader.join(30)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65536):
                with self._lock:
                    self._seen += data
                    self._lock.notify_all()
        except OSError:
            pass  # Linux: the other end was closed

    @property
    def raw(self) -> bytes:
        """Everything that was written to it."""
        with self._lock:
            return self._seen

    def shows(self, text: str, after: int = 0) -> int:
        """Wait until it shows a text, behind so many bytes; how many bytes there are then."""
        end = time.monotonic() + PATIENCE
        with self._lock:
            while text not in _plain(self._seen[after:]):
                left = end - time.monotonic()
                assert left > 0, f"{text!r} isn't shown: {_plain(self._seen[after:])[-2000:]}"
                self._lock.wait(left)
            return len(self._seen)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def left(self) -> int:
        """The command's exit code, when it has ended."""
        return self.process.wait(PATIENCE)

    @property
    def restored(self) -> bool:
        """Whether it is as it was."""
        return termios.tcgetattr(self._theirs) == self.before


def _at_a_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _plain(data: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode("utf-8", "replace"))
