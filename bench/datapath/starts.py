"""Starts: of the proxies themselves, and what the launcher adds to the start of a model.

Of cold starts two things are measured. From the moment at which a backend itself turns healthy
(it prints the time) to the first byte of the answer that a waiting client gets. And how much
longer a whole swap takes, from the request to that byte, than to stop and start the same by hand
until it is healthy.

Each start is of a backend of its own, exclusive, so each request also makes room by stopping the
one before; the times that they take to become healthy are spread evenly. Once with local
processes, and once with containers where a Docker Engine answers.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.datapath import machine
from bench.datapath.candidates import LAUNCHER_NAME, Bench
from bench.datapath.machine import Cores
from tests.drivers import images

BACKEND = machine.ROOT / "tests" / "backend.py"
#: How a swap by hand is called among the candidates.
BY_HAND = "by hand"
#: The backends that are swapped by hand stand apart from the launcher's.
HAND = "hand-"
HEALTHY = re.compile(r"^healthy at (\d+\.\d+)$", re.MULTILINE)
ENGINE = "/var/run/docker.sock"
IMPORT = "import aiohttp"
#: Seconds after which a proxy that has started rests.
REST = 1.0


class Holder(Protocol):
    """A kind of backend: how its routes are written, how it is started and stopped by hand,
    and where its words end up. Backends are named by the launcher's number, or `HAND` and it."""

    kind: str

    def route(self, number: int) -> str:
        """Return the lines of its table."""
        ...

    def start(self, number: int) -> None: ...

    def stop(self, number: int) -> None:
        """Stop a backend, until it is gone."""
        ...

    def output(self, name: str) -> str:
        """Return what it has printed."""
        ...

    def close(self) -> None: ...


def environment(number: int, delay: float) -> dict[str, str]:
    """Return the scripted backend's environment."""
    return {
        "BACKEND_NAME": f"model-{number}",
        "BACKEND_START_DELAY": f"{delay:.2f}",
        "BACKEND_LOG_HEALTHY": "1",
        "BACKEND_TOKENS": "1",
    }


class Processes:
    """Local programs; what they print goes to a file each."""

    kind = "process"

    def __init__(self, folder: Path, delays: Sequence[float], cores: Cores) -> None:
        self._folder = folder
        self._delays = delays
        self._cores = cores
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def route(self, number: int) -> str:
        program = shlex.join([sys.executable, str(BACKEND), "--port"])
        script = f"exec {program} $1 >{shlex.quote(str(self._file(str(number))))}"
        command = json.dumps(["sh", "-c", script, "sh", "{port}"])
        pairs = environment(number, self._delays[number]).items()
        env = ", ".join(f"{key} = {json.dumps(value)}" for key, value in pairs)
        return f"command = {command}\nenv = {{ {env} }}"

    def start(self, number: int) -> None:
        command = [sys.executable, str(BACKEND), "--port", str(machine.free_port())]
        file = self._file(f"{HAND}{number}")
        env = environment(number, self._delays[number])
        self._children[number] = machine.start(command, self._cores.proxy, file, env)

    def stop(self, number: int) -> None:
        machine.end(self._children.pop(number))

    def output(self, name: str) -> str:
        return self._file(name).read_text()

    def close(self) -> None:
        """End what was started by hand; the launcher has ended its own."""
        for number in list(self._children):
            self.stop(number)

    def _file(self, name: str) -> Path:
        return self._folder / f"backend-{name}.log"


class Containers:
    """Containers of an image made of local files."""

    kind = "container"

    def __init__(self, delays: Sequence[float]) -> None:
        self._prefix = f"launcher-bench-{os.getpid()}-"
        try:
            for number, delay in enumerate(delays):
                for name in (f"{number}", f"{HAND}{number}"):
                    images.create(f"{self._prefix}{name}", env=environment(number, delay))
        except BaseException:
            self.close()
            raise

    def route(self, number: int) -> str:
        return f'container = "{self._prefix}{number}"\nport = {images.PORT}'

    def start(self, number: int) -> None:
        self._do(number, "start")

    def stop(self, number: int) -> None:
        self._do(number, "stop")

    def output(self, name: str) -> str:
        return images.docker("logs", f"{self._prefix}{name}")

    def close(self) -> None:
        images.sweep(self._prefix)
        images.remove()

    def _do(self, number: int, what: str) -> None:
        """Ask the engine's API: its command line would take its own time."""
        link = http.client.HTTPConnection("localhost", timeout=machine.PATIENCE)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(ENGINE)
        link.request("POST", f"/containers/{self._prefix}{HAND}{number}/{what}")
        answer = link.getresponse()
        said = answer.read()
        link.close()
        if answer.status != 204:
            raise RuntimeError(f"{what} {number}: {answer.status} {said.decode()}")


def engine_answers() -> bool:
    """Return whether the docker CLI reaches the local engine."""
    return (
        shutil.which("docker") is not None
        and Path(ENGINE).exists()
        and subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def launcher(folder: Path, holder: Holder, starts: int, cores: Cores) -> Iterator[int]:
    """`launcher serve` in front of the holder's backends; yields its port. Nobody lingers: what
    a swap waits for by choice isn't what it costs."""
    port = machine.free_port()
    text = f'[launcher]\nlisten = ["127.0.0.1:{port}"]\nstate_file = "none"\nstop_on_exit = true\n'
    for number in range(starts):
        text += f'\n[routes.model-{number}]\nmodels = ["model-{number}"]\nlinger = "0s"\n'
        text += f"{holder.route(number)}\n"
    file, log = folder / f"{holder.kind}.toml", folder / f"{holder.kind}.log"
    file.write_text(text)
    command = [sys.executable, "-m", "launcher", "serve", "--config", str(file)]
    child = machine.start(command, cores.proxy, log)
    try:
        machine.wait_for_port(port, child, log)
        until = time.monotonic() + machine.PATIENCE
        while (
            ask(port, b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")[0] != 200
        ):
            if time.monotonic() > until:
                raise RuntimeError(f"the launcher isn't ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield port
    finally:
        machine.end(child)


def chat(number: int) -> bytes:
    """Return a chat request for one backend's model."""
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": f"model-{number}", "messages": messages}).encode()
    head = (
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(port: int, request: bytes) -> tuple[int, float, bytes]:
    """Return the status, the Unix time of the answer's first byte, and the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=machine.PATIENCE) as link:
        link.sendall(request)
        answer = link.recv(65536)
        first_byte = time.time()
        while piece := link.recv(65536):
            answer += piece
    words = answer.split(None, 2)
    return (int(words[1]) if len(words) > 1 else 0), first_byte, answer


def healthy_at(holder: Holder, name: str) -> float:
    """Wait until a backend has turned healthy; return the Unix time at which it did."""
    until = time.monotonic() + machine.PATIENCE
    while (said := HEALTHY.search(holder.output(name))) is None:
        if time.monotonic() > until:
            raise RuntimeError(f"{name} doesn't say when it turned healthy")
        time.sleep(0.02)
    return float(said[1])


def by_hand(holder: Holder, number: int) -> float:
    """Return the seconds from the stop of the one before until this one is healthy."""
    began = time.time()
    if number:
        holder.stop(number - 1)
    holder.start(number)
    return healthy_at(holder, f"{HAND}{number}") - began


def measure(bench: Bench, holder: Holder, name: str) -> None:
    """Measure each backend once by the launcher and once by hand, in turns."""
    add = partial(bench.results.add_all, name, holder.kind)
    starts = bench.options.starts
    with launcher(bench.folder, holder, starts, bench.cores) as port:
        for number in range(starts):
            began = time.time()
            status, first_byte, answer = ask(port, chat(number))
            if status != 200:
                raise RuntimeError(f"model-{number}: {answer.decode(errors='replace')}")
            cold = (first_byte - healthy_at(holder, str(number))) * 1e3
            asked = time.time()
            warm = (ask(port, chat(number))[1] - asked) * 1e3
            add(LAUNCHER_NAME, {"readiness to first byte, ms": cold, "a warm request, ms": warm})
            hand = by_hand(holder, number)
            if number:  # nobody had to go for the first
                swap = first_byte - began
                more = {"a whole swap, s": swap, "a swap's own overhead, ms": (swap - hand) * 1e3}
                add(LAUNCHER_NAME, more)
                add(BY_HAND, {"a whole swap, s": hand})
            machine.say(f"{name}, {holder.kind} {number + 1}/{starts}: {cold:.1f} ms")


def startup(bench: Bench, name: str) -> None:
    """Measure each candidate, alone, from its start until it accepts connections, and what it
    holds a second later; and what importing aiohttp takes. Each has been started before: its files
    are in memory, and what is Python is compiled."""
    names = bench.options.only
    for candidate in names:
        with bench.running(candidate):
            pass
    for turn in bench.turns:
        began = time.monotonic()
        machine.run([sys.executable, "-c", IMPORT], bench.cores.proxy, machine.PATIENCE)
        took = time.monotonic() - began
        bench.results.add_all(name, "start", IMPORT, {"to accepting, s": took})
        for candidate in names:
            with bench.running(candidate) as one:
                time.sleep(REST)
                held = machine.memory(one.pids) / 1024**2
                numbers = {"to accepting, s": one.started_in, "memory at rest, MiB": held}
            bench.results.add_all(name, "start", candidate, numbers)
        machine.say(f"{name} {turn + 1}/{len(bench.turns)}")


def cold(bench: Bench, name: str) -> None:
    """Measure backends that become healthy in a quarter of `--slowest` seconds to all of it."""
    starts, slowest = bench.options.starts, bench.options.slowest
    step = slowest * 0.75 / max(starts - 1, 1)
    delays = [slowest / 4 + number * step for number in range(starts)]
    holders: list[Holder] = [Processes(bench.folder, delays, bench.cores)]
    if engine_answers():
        holders.append(Containers(delays))
    else:
        machine.say(f"{name}: no Docker Engine answers; containers are left out")
    for holder in holders:
        try:
            measure(bench, holder, name)
        finally:
            holder.close()
