"""What the launcher starts as its backend: binds the port and gives the socket to somebody else.

    python -m bench.differential.socket_holder PORT UNIX_SOCKET

So the backend lives in the process that also is the client, and knows what both have seen.
"""

from __future__ import annotations

import signal
import socket
import sys


def main() -> None:
    """Hold the port until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(sys.argv[2])
        socket.send_fds(channel, [b"."], [listener.fileno()])
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
