"""A Docker Engine of a test's own: to be stopped, killed and started again at will.

    with private_engine.running() as engine:        # needs root and dockerd
        engine.host                                 # unix:///tmp/lzt-engine-…/docker.sock
        engine.stop(); engine.kill(); engine.freeze(); engine.thaw(); engine.start()

It has a bridge of its own, so containers are reached by their address or a published port,
and makes no iptables rules. It leaves nothing behind: no process, mount, file or interface.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drivers import images

PATIENCE = 60.0


def available() -> bool:
    """Whether one can be run here."""
    return os.geteuid() == 0 and all(map(shutil.which, ("dockerd", "ip")))


class PrivateEngine:
    """One daemon with folders and a socket of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self._options = options
        # Given a bridge, dockerd keeps to it. With `--bridge=none` it would delete docker0,
        # which is the machine's own engine's.
        self._bridge = f"lzt{folder.name[-8:]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self._make_bridge()
        # A killed daemon leaves its pid files, and believes them where a zombie has the number.
        (self.folder / "docker.pid").unlink(missing_ok=True)
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.host}",
                    f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self.folder / 'exec'}",
                    f"--pidfile={self.folder / 'docker.pid'}",
                    f"--containerd-namespace=lzt-{os.getpid()}",
                    f"--containerd-plugins-namespace=lzt-plugins-{os.getpid()}",
                    f"--bridge={self._bridge}",
                    "--iptables=false",
                    "--ip6tables=false",
                    # overlay2 doesn't stack on an overlay file system; vfs works everywhere.
                    "--storage-driver=vfs",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait(self.answers, "the private engine doesn't come up")

    def answers(self) -> bool:
        """Whether it takes requests."""
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"dockerd ended: {self.log_tail()}")
        try:
            images.docker("version", host=self.host)
        except RuntimeError:
            return False
        return True

    def stop(self) -> None:
        """As `systemctl stop docker` does: containers end with it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the daemon is gone at once; its containers may run on for a while."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """What the daemon said last."""
        return (self.folder / "log").read_text("utf-8", "replace")[-2000:]

    def destroy(self) -> None:
        """End it and everything it started, and remove its files."""
        if self._process is not None:
            self.thaw()
            if self._process.poll() is None and self.socket.exists():
                with contextlib.suppress(RuntimeError):
                    for left in images.docker("ps", "-aq", host=self.host).split():
                        images.remove_container(left, host=self.host)
            self.stop()
        relatives = self._relatives()
        for pid in relatives:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(RuntimeError):
            self._wait(lambda: not relatives & self._stat().keys(), "", patience=5.0)
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_bridge(self) -> None:
        """Once; its subnet is one that no other private engine has."""
        if Path("/sys/class/net", self._bridge).exists():
            return
        _ip("link", "add", self._bridge, "type", "bridge")
        for number in range(256):
            subnet = f"10.213.{(os.getpid() + number) % 256}"
            if f"inet {subnet}." not in _ip("-4", "addr", "show"):
                break
        _ip("addr", "add", f"{subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._signal(signum)
            self._process.wait(PATIENCE)
            self._process = None

    def _relatives(self) -> set[int]:
        """containerd and its shims, which name our folder, and the containers below them."""
        parents = self._stat()
        ours = set()
        for pid in parents:
            with contextlib.suppress(OSError):
                if os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                    ours.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return ours - {os.getpid()}

    @staticmethod
    def _stat() -> dict[int, int]:
        """Every process that is more than a zombie, and its parent."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    stat = (entry / "stat").read_text("utf-8", "replace")
                    state, parent = stat[stat.rfind(")") + 2 :].split()[:2]
                    if state != "Z":
                        found[int(entry.name)] = int(parent)
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [at for line in lines if (at := line.split()[4]).startswith(str(self.folder))]

    def _wait(
        self, condition: Callable[[], bool], message: str, patience: float = PATIENCE
    ) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{message}: {self.log_tail()}")
            time.sleep(0.05)


def _ip(*args: str) -> str:
    done = subprocess.run(["ip", *args], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(args)}: {done.stderr.decode().strip()}")
    return done.stdout.decode()


@contextlib.contextmanager
def running(*options: str) -> Iterator[PrivateEngine]:
    """A started engine; destroyed at the end."""
    engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="lzt-engine-")), *options)
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()
