"""How much the launcher adds to a cold start.

    python -m bench.cold_start [--starts 20] [--from 3] [--to 10] [--json]

Measures from the moment at which the backend itself turns healthy (it prints the time) to
the first byte of the answer that a waiting client gets. Each start is of a backend of its
own, exclusive, so each request also makes room by stopping the one before; the times that
they take to become healthy are spread evenly. Once with local processes, and once with
containers where a Docker Engine answers. The aim is a median of 60 ms or less.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from tests.drivers import images

BACKEND = Path(__file__).resolve().parent.parent / "tests" / "backend.py"
AIM = 0.060
DEADLINE = 120.0
HEALTHY = re.compile(r"^healthy at (\d+\.\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What was measured of one kind of backend, in seconds."""

    kind: str
    cold: list[float]
    """Each start: from healthy to the client's first byte."""
    warm: list[float]
    """The same request again, to the backend now warm: what is left without a start."""

    def summary(self) -> dict[str, object]:
        """For --json."""
        return asdict(self) | {"aim": AIM, "median": statistics.median(self.cold)}


class Holder(Protocol):
    """A kind of backend: how its routes are written, and where its words end up."""

    kind: str

    def route(self, number: int) -> str: ...
    def output(self, number: int) -> str: ...
    def close(self) -> None: ...


def environment(number: int, delay: float) -> dict[str, str]:
    """The scripted backend's."""
    return {
        "BACKEND_NAME": f"model-{number}",
        "BACKEND_START_DELAY": f"{delay:.2f}",
        "BACKEND_LOG_HEALTHY": "1",
        "BACKEND_TOKENS": "1",
    }


class Processes:
    """Local programs; what they print goes to a file each."""

    kind = "process"

    def __init__(self, directory: Path, delays: Sequence[float]) -> None:
        self._directory = directory
        self._delays = delays

    def route(self, number: int) -> str:
        """A table's lines."""
        program = shlex.join([sys.executable, str(BACKEND), "--port"])
        script = f"exec {program} $1 >{shlex.quote(str(self._file(number)))}"
        command = json.dumps(["sh", "-c", script, "sh", "{port}"])
        pairs = environment(number, self._delays[number]).items()
        env = ", ".join(f"{key} = {json.dumps(value)}" for key, value in pairs)
        return f"command = {command}\nenv = {{ {env} }}"

    def output(self, number: int) -> str:
        """What it has printed."""
        return self._file(number).read_text()

    def close(self) -> None:
        """Nothing is left: the launcher ended them."""

    def _file(self, number: int) -> Path:
        return self._directory / f"backend-{number}.log"


class Containers:
    """Containers of an image made of local files."""

    kind = "container"

    def __init__(self, delays: Sequence[float]) -> None:
        self._prefix = f"launcher-bench-{os.getpid()}-"
        try:
            for number, delay in enumerate(delays):
                images.create(f"{self._prefix}{number}", env=environment(number, delay))
        except BaseException:
            self.close()
            raise

    def route(self, number: int) -> str:
        """A table's lines."""
        return f'container = "{self._prefix}{number}"\nport = {images.PORT}'

    def output(self, number: int) -> str:
        """What it has printed."""
        return images.docker("logs", f"{self._prefix}{number}")

    def close(self) -> None:
        """Remove them, and the image."""
        images.sweep(self._prefix)
        images.remove()


def engine_answers() -> bool:
    """Whether the docker CLI reaches an engine."""
    return shutil.which("docker") is not None and (
        subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def launcher(directory: Path, holder: Holder, starts: int) -> Iterator[int]:
    """`launcher serve` in front of the holder's backends; yields its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    text = f'[launcher]\nlisten = ["127.0.0.1:{port}"]\nstate_file = ""\nstop_on_exit = true\n'
    for number in range(starts):
        text += f'\n[routes.model-{number}]\nmodels = ["model-{number}"]\n{holder.route(number)}\n'
    file = directory / f"{holder.kind}.toml"
    file.write_text(text)
    log = directory / f"{holder.kind}.log"
    with log.open("wb") as written:
        child = subprocess.Popen(
            [sys.executable, "-m", "launcher", "serve", "--config", str(file)], stderr=written
        )
        try:
            until = time.monotonic() + DEADLINE
            while not ready(port):
                if child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the launcher isn't ready:\n{log.read_text()}")
                time.sleep(0.05)
            yield port
        finally:
            child.terminate()
            child.wait(DEADLINE)


def ready(port: int) -> bool:
    """Whether /readyz says yes."""
    try:
        status, _, _ = ask(
            port, b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        )
    except OSError:
        return False
    return status == 200


def chat(number: int) -> bytes:
    """A chat request for one backend's model."""
    body = json.dumps(
        {"model": f"model-{number}", "messages": [{"role": "user", "content": "hello"}]}
    ).encode()
    head = (
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(port: int, request: bytes) -> tuple[int, float, bytes]:
    """Status, Unix time of the answer's first byte, and the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as link:
        link.sendall(request)
        answer = link.recv(65536)
        first_byte = time.time()
        while piece := link.recv(65536):
            answer += piece
    words = answer.split(None, 2)
    return (int(words[1]) if len(words) > 1 else 0), first_byte, answer


def measure(directory: Path, holder: Holder, starts: int) -> Result:
    """Ask each backend once cold and once warm."""
    cold: list[float] = []
    warm: list[float] = []
    with launcher(directory, holder, starts) as port:
        for number in range(starts):
            status, first_byte, answer = ask(port, chat(number))
            if status != 200:
                raise RuntimeError(f"model-{number}: {answer.decode(errors='replace')}")
            said = HEALTHY.search(holder.output(number))
            if said is None:
                raise RuntimeError(f"model-{number} doesn't say when it turned healthy")
            cold.append(first_byte - float(said[1]))
            asked = time.time()
            warm.append(ask(port, chat(number))[1] - asked)
            note = f"{holder.kind} {number + 1}/{starts}: {cold[-1] * 1000:.1f} ms"
            print(note, file=sys.stderr, flush=True)
    return Result(holder.kind, cold, warm)


def table(results: Sequence[Result]) -> str:
    """For people: milliseconds."""
    lines = [f"{'from healthy to first byte, ms':32}{'starts':>8}{'median':>9}{'p90':>9}{'max':>9}"]
    for result in results:
        for name, values in (("cold", result.cold), ("warm request", result.warm)):
            p90 = (
                statistics.quantiles(values, n=10, method="inclusive")[8]
                if len(values) > 1
                else values[0]
            )
            numbers = (statistics.median(values), p90, max(values))
            lines.append(
                f"{f'{result.kind}, {name}':32}{len(values):>8}"
                + "".join(f"{number * 1000:>9.1f}" for number in numbers)
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run it, with the command line given."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--starts", type=int, default=20, help="cold starts of each kind")
    parser.add_argument("--from", type=float, default=3.0, dest="least", metavar="SECONDS")
    parser.add_argument("--to", type=float, default=10.0, dest="most", metavar="SECONDS")
    parser.add_argument("--kind", choices=("process", "container"), help="only this one")
    parser.add_argument("--json", action="store_true", help="all numbers, in seconds")
    options = parser.parse_args(argv)
    step = (options.most - options.least) / max(options.starts - 1, 1)
    delays = [options.least + number * step for number in range(options.starts)]

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as name:
        directory = Path(name)
        if options.kind != "container":
            results.append(measure(directory, Processes(directory, delays), options.starts))
        if options.kind != "process":
            if engine_answers():
                holder = Containers(delays)
                try:
                    results.append(measure(directory, holder, options.starts))
                finally:
                    holder.close()
            else:
                print("no Docker Engine answers: containers are left out", file=sys.stderr)
    if options.json:
        print(json.dumps([result.summary() for result in results], indent=2))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
