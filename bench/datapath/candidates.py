"""Those that are compared: each is started in front of the same backend, on the same core."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from bench.datapath import machine
from bench.datapath.machine import Cores
from bench.datapath.requests import CHAT, KEY, chat_body
from bench.datapath.results import Results

#: Connections that each proxy may keep to the backend.
KEPT = 16384
BACKEND = "bench.datapath.backend"
#: The backend without a proxy, among the candidates.
DIRECT = "direct"
T = TypeVar("T")

NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn; {user}
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
  upstream backend {{
    server 127.0.0.1:{backend}; keepalive {kept}; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_buffering off;
      proxy_request_buffering off; proxy_read_timeout 1h; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""
CADDY = """\
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{backend} {{
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host {kept}
    }}
  }}
}}
"""
#: Everything on: keys with limits that are counted and never reached, metrics, an access log that
#: goes to a file, models by id. No state file: nothing of an earlier run counts.
LAUNCHER = """\
[launcher]
listen = ["127.0.0.1:{port}"]
state_file = "none"
api_keys = ["another-key-0123456789"]
admin_keys = ["an-admin-key-0123456789"]
backend_key = "the-backends-own-key-0123456789"
prewarm = ["bench"]
idle_timeout = "never"
drain_timeout = "1s"

[keys.bench]
value = {key}
scopes = ["infer", "observe"]
max_in_flight = 100000
requests_per_minute = 100000000

[keys.other]
value = "yet-another-key-0123456789"

[routes.bench]
command = {command}
models = {models}
"""


@dataclass
class Running:
    """A candidate that answers."""

    name: str
    port: int
    host: str = "127.0.0.1"
    pid: int | None = None
    started_in: float = 0.0
    """Seconds until it accepted connections."""
    rest: float = 0.0
    """Bytes of memory it held when it had just started: later it keeps what it once needed."""

    @property
    def netloc(self) -> str:
        """Its host and port."""
        return f"{self.host}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Its processes, without those of the backend; empty where they aren't known."""
        if self.pid is None:
            return []
        return [one for one in machine.family(self.pid) if one == self.pid or _ours(one)]


def _ours(pid: int) -> bool:
    """Return whether this process is the candidate's own, not the backend that it started."""
    try:
        return BACKEND.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@dataclass(frozen=True)
class Bench:
    """What every workload is given."""

    options: argparse.Namespace
    results: Results
    backend: int
    """The backend's port."""
    cores: Cores
    folder: Path

    @property
    def turns(self) -> range:
        """The rounds."""
        return range(self.options.rounds)

    def running(self, name: str, command: Command | None = None) -> AbstractContextManager[Running]:
        """Return one candidate, running for as long as the block lasts."""
        return running(name, command or ALL[name], self.backend, self.cores, self.folder)

    @contextmanager
    def everybody(self) -> Iterator[list[Running]]:
        """Yield the direct way first, then the candidates that are asked for, then the peers."""
        with ExitStack() as stack:
            chosen = [stack.enter_context(self.running(name)) for name in self.options.only]
            yield [Running(DIRECT, self.backend), *chosen, *self.options.peer]


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """Return the items in the order of this round: each begins with another."""
    at = turn % len(items)
    return [*items[at:], *items[:at]]


@dataclass(frozen=True)
class Launch:
    """What a candidate has to know to start."""

    folder: Path
    backend: int
    port: int
    cores: Cores


#: Writes a candidate's configuration and returns its command.
Command = Callable[[Launch], Sequence[str]]


def nginx(launch: Launch) -> Sequence[str]:
    """Return nginx's command, configured for language models: no buffering, all kept alive."""
    file = launch.folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            folder=launch.folder,
            port=launch.port,
            backend=launch.backend,
            kept=KEPT,
            files=min(machine.raise_limits(), 65536),
            user="user root;" if os.geteuid() == 0 else "",
        )
    )
    return [machine.program("nginx") or "nginx", "-e", "stderr", "-c", str(file)]


def caddy(launch: Launch) -> Sequence[str]:
    """Return Caddy's command, configured likewise."""
    file = launch.folder / "Caddyfile"
    file.write_text(CADDY.format(port=launch.port, backend=launch.backend, kept=KEPT))
    return [
        machine.program("caddy") or "caddy",
        *("run", "--adapter", "caddyfile", "--config", str(file)),
    ]


def plain(launch: Launch) -> Sequence[str]:
    """Return the command of the naive proxy."""
    return [sys.executable, "-m", "bench.datapath.plain", str(launch.port), str(launch.backend)]


def launcher_with(ids: Sequence[str]) -> Command:
    """The launcher with everything on, and these models in its table. It takes no backend that
    runs already, so it starts one of its own, of the same kind."""

    def command(launch: Launch) -> Sequence[str]:
        file = launch.folder / "routes.toml"
        file.write_text(
            LAUNCHER.format(
                port=launch.port,
                command=json.dumps(backend_command("{port}", launch.cores)),
                key=json.dumps(KEY),
                models=json.dumps(list(ids)),
            )
        )
        serve = ["serve", "--config", str(file), "--log-format", "json"]
        return [sys.executable, "-m", "launcher", *serve]

    return command


MODELS = ("chat", "coder", "vision")
LAUNCHER_NAME = "launcher"
ALL: dict[str, Command] = {
    "nginx": nginx,
    "caddy": caddy,
    "aiohttp": plain,
    LAUNCHER_NAME: launcher_with(MODELS),
}


def peer(text: str) -> Running:
    """Parse `NAME=URL`, or `NAME=URL@PID` where its processor time is to be counted."""
    name, _, where = text.partition("=")
    address, _, pid = where.partition("@")
    url = urlsplit(address)
    if not name or url.hostname is None or url.port is None:
        raise ValueError(f"{text!r} isn't NAME=http://HOST:PORT[@PID]")
    one = Running(name, url.port, url.hostname, pid=int(pid) if pid else None)
    one.rest = machine.memory(one.pids)
    return one


def backend_command(port: str, cores: Cores) -> list[str]:
    """Return the command of a backend at this port; it goes to its core by itself."""
    core = [] if cores.load is None else [str(cores.load)]
    return [sys.executable, "-m", BACKEND, port, *core]


@contextmanager
def backend(port: int, cores: Cores, folder: Path) -> Iterator[int]:
    """Run the backend for as long as the block lasts; yield its port."""
    log = folder / "backend.log"
    child = machine.start(backend_command(str(port), cores), cores.load, log)
    try:
        machine.wait_for_port(port, child, log)
        yield port
    finally:
        machine.end(child)


@contextmanager
def running(
    name: str, command: Command, backend_port: int, cores: Cores, folder: Path
) -> Iterator[Running]:
    """Run a candidate in front of the backend, warm, for as long as the block lasts."""
    own = Path(tempfile.mkdtemp(prefix=f"{name}-".replace(" ", "-"), dir=folder))
    launch = Launch(own, backend_port, machine.free_port(), cores)
    log = own / "log"
    # Everybody has a home of their own, and nobody hears of this machine's settings.
    env = {"HOME": str(own), "XDG_DATA_HOME": str(own), "XDG_CONFIG_HOME": str(own)}
    line = command(launch)
    began = time.monotonic()
    child = machine.start(line, cores.proxy, log, env)
    try:
        machine.wait_for_port(launch.port, child, log)
        one = Running(name, launch.port, pid=child.pid)
        one.started_in = time.monotonic() - began
        check(one)
        one.rest = machine.memory(one.pids)
        yield one
    finally:
        machine.end(child)


def check(one: Running) -> None:
    """Send one chat request through it. Raises RuntimeError where the answer is wrong."""
    request = urllib.request.Request(
        f"http://{one.netloc}{CHAT}",
        chat_body(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=machine.PATIENCE) as answer:
            if answer.status != 200 or b"quick brown fox" not in answer.read():
                raise RuntimeError(f"{one.name} doesn't answer as the backend does")
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{one.name}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise RuntimeError(f"{one.name} at http://{one.netloc}: {error}") from error
