"""One llama.cpp server as a program of its own: `python -m launcher.demo.server --help`.

The `process` driver starts it in the demo. It ends on SIGTERM, and by itself once the process
that started it is gone.

Needs the `demo` extra (xllamacpp).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import xllamacpp  # type: ignore[import-untyped]

#: Seconds between two looks at whether the parent still lives.
PARENT_CHECK = 1.0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; exits with usage on a bad one."""
    parser = argparse.ArgumentParser(
        prog="python -m launcher.demo.server",
        description="Serve one GGUF model on 127.0.0.1 with llama.cpp's own HTTP server.",
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="the GGUF file")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--alias", required=True, help="the model id it answers to")
    parser.add_argument("--context", type=int, default=8192, help="tokens, over all slots")
    parser.add_argument("--slots", type=int, default=2, help="requests served at once")
    parser.add_argument("--threads", type=int, help="default: as llama.cpp decides")
    return parser.parse_args(argv)


def parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    """The options in llama.cpp's words."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_ctx = options.context
    params.n_parallel = options.slots
    params.n_threads_http = options.slots + 2  # /health answers while every slot is taken
    params.ui = False
    if options.threads is not None:
        params.cpuparams.n_threads = options.threads
        params.cpuparams_batch.n_threads = options.threads
    return params


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until the parent is gone; then the process ends.

    Returns (an exit code) only where the model can't be served.
    """
    options = arguments(argv)
    parent = os.getppid()
    # The load happens inside one C++ call, in which no Python handler would run; until it
    # is over the default action ends the process, even in the middle of a large file.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(parameters(options))
    except RuntimeError as error:
        print(f"{options.model} can't be served: {error}", file=sys.stderr)
        return 1

    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"{options.alias} listens on {server.listening_address}", flush=True)
    while not ended.wait(PARENT_CHECK) and os.getppid() == parent:
        pass
    # Not by way of the server's destructor: it waits for ever on a stream that still runs.
    # Nothing here has to be put away, and the kernel closes the connections.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
