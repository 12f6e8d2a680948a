"""A server that says the same to everybody, whatever it is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(
    data: bytes, heard: list[bytes] | None = None, until: threading.Event | None = None
) -> Iterator[str]:
    """Yields its URL. What it was sent goes into `heard`; it hangs up when `until` is set."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                asked = connection.recv(65536)
                if b"Content-Length" in asked and asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(65536)
                if heard is not None:
                    heard.append(asked)
                connection.sendall(data)
                if until is not None:
                    until.wait(30)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
