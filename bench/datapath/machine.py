"""The machine: what has to be installed, who runs on which core, what the kernel counts.

    python -m bench.datapath.machine

installs wrk, nginx, Caddy and valgrind from Debian where it may, and prints what is still missing.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds for whatever may take long on a busy machine, under valgrind too.
PATIENCE = 180.0
#: Settings of the launcher's that whoever runs this may have; `LAUNCHER_PURE` is theirs to choose.
OTHERS = (
    *("LAUNCHER_", "MAP__", "PREWARM_", "IDLE_", "START_TIMEOUT_", "VLLM_"),
    # Nor may Python be kept from keeping what it has compiled: whatever is installed has it.
    "PYTHONDONTWRITEBYTECODE",
)
#: Of everything that is started; only root may set it.
PRIORITY = -10
TICK = os.sysconf("SC_CLK_TCK")
#: What each program is called in Debian.
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "caddy": "caddy", "valgrind": "valgrind"}
#: Where programs for root are, which not every shell looks through.
PLACES = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str | None:
    """Return where a program is; None where it isn't installed."""
    return shutil.which(name, path=PLACES)


def install(names: Sequence[str]) -> list[str]:
    """Install these programs where they are missing; return those that still are."""
    missing = [name for name in names if program(name) is None]
    apt = program("apt-get")
    if missing and apt is not None and os.geteuid() == 0:
        packages = [PACKAGES[name] for name in missing]
        say(f"installing {', '.join(packages)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": PLACES}
        with _no_services():
            for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
                done = subprocess.run(
                    [apt, "-qq", *step], env=env, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    say(done.stderr.strip())
    return [name for name in missing if program(name) is None]


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting what it installs."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink()


def say(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def raise_limits() -> int:
    """Allow as many open files as the system does; return how many."""
    import resource  # not everywhere

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        most = 1_048_576
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


@dataclass(frozen=True)
class Cores:
    """Who runs where. With one core, or none to choose, everybody runs anywhere."""

    proxy: int | None
    load: int | None

    def __str__(self) -> str:
        if self.proxy is None:
            return "everybody on any core"
        return f"proxies on core {self.proxy}, load and backend on core {self.load}"


def cores() -> Cores:
    """Return the last core for the proxy, and the first for everything else."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[-1], allowed[0]) if len(allowed) > 1 else Cores(None, None)


def describe() -> dict[str, object]:
    """Return what the numbers are measured on."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "load_average": load(),
    }


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(one, 2) for one in os.getloadavg()]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the child accepts connections. Raises RuntimeError with its log otherwise."""
    until = time.monotonic() + PATIENCE
    while not accepts(port):
        if child.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{child.args!r} isn't ready:\n{log.read_text()[-4000:]}")
        time.sleep(0.002)


def accepts(port: int) -> bool:
    """Return whether somebody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def start(
    command: Sequence[str],
    core: int | None,
    log: Path,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process on a core, in a session of its own; what it prints goes to the log."""
    with log.open("ab") as written:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
            preexec_fn=pinned(core),
        )


def run(command: Sequence[str], core: int | None, timeout: float) -> str:
    """Run a process on a core until it ends; return what it printed. Raises RuntimeError where it
    fails, subprocess.TimeoutExpired after so many seconds."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        start_new_session=True,
        preexec_fn=pinned(core),
    )
    if done.returncode:
        raise RuntimeError(f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return this process's environment without settings of the launcher."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}
    return {**kept, **{k: v for k, v in os.environ.items() if k == "LAUNCHER_PURE"}}


def pinned(core: int | None) -> Callable[[], None]:
    """Return what a child does first, in a session of its own, so that it and all its threads stay
    on the core, and go before whatever else the machine does, where they may."""

    def first() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
            # Where sessions are scheduled as groups, that counts within the session alone.
            Path("/proc/self/autogroup").write_text(str(PRIORITY))

    return first


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child by SIGTERM, or it and all its descendants by SIGKILL 10 s later."""
    others = family(child.pid)[1:]
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10.0)
    if child.poll() is None:
        for one in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, so far as they run."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return user and system time of these processes since their starts, as the kernel counts it;
    nan of none."""
    ticks = 0 if pids else math.nan
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def memory(pids: Sequence[int]) -> float:
    """Return resident bytes, shared pages by their share (Pss); nan of no processes."""
    total = 0 if pids else math.nan
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    if missing := install(list(PACKAGES)):
        say(f"not installed, and can't be: {', '.join(missing)}")
