"""The sockets that the front listens on: made, named in errors, and removed again.

It must not know what is served on them. Its calls block, briefly, so they run in a thread.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.config import Listen
from launcher.errors import ConfigError

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket, and the address it really has."""

    sock: socket.socket
    address: Listen
    inode: int | None = None
    """Of a Unix socket's path: what is removed later has to be ours."""
    operators: bool = True
    """Operators' endpoints answer there."""

    def remove(self) -> None:
        """Close it, and take a Unix socket's path away unless somebody replaced it."""
        self.sock.close()
        path = self.address.unix_path
        if path is None:
            return
        try:
            if os.stat(path).st_ino == self.inode:
                os.unlink(path)
        except FileNotFoundError:
            pass


def bind(addresses: Sequence[Listen], operators: Sequence[Listen] = ()) -> tuple[Bound, ...]:
    """Listening, non-blocking sockets for all addresses, or none of them: raises ConfigError
    with a line for each address that can't be had. Operators' addresses come last; where there
    are none, all are theirs too."""
    bound: list[Bound] = []
    problems: list[str] = []
    wanted = [(address, not operators) for address in addresses]
    for address, for_operators in [*wanted, *((address, True) for address in operators)]:
        try:
            if address.unix_path is not None:
                found = [_bind_unix(address.unix_path)]
            else:
                found = _bind_tcp(address)
        except OSError as error:
            problems.append(f"can't listen on {address}: {_reason(error)}")
        else:
            bound += [replace(one, operators=for_operators) for one in found]
    if problems:
        for one in bound:
            one.remove()
        raise ConfigError(problems)
    return tuple(bound)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use; stop what listens there, or choose another address"
    if error.errno == errno.EACCES:
        return "permission denied; ports below 1024 need root, a path needs write access"
    return error.strerror or str(error)


def _bind_tcp(address: Listen) -> list[Bound]:
    infos = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[Bound] = []
    missing: OSError | None = None
    try:
        for family, kind, proto, _, where in dict.fromkeys(infos):
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:
                missing = error  # a kernel without IPv6 still resolves names to it
                continue
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(where)
                sock.listen(BACKLOG)
                sock.setblocking(False)
            except OSError as error:
                sock.close()
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error
                continue
            host, port = sock.getsockname()[:2]
            bound.append(Bound(sock, Listen(host, port)))
    except OSError:
        for one in bound:
            one.remove()
        raise
    if not bound:
        raise missing or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    return bound


def _bind_unix(path: str) -> Bound:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Bound(sock, Listen(unix_path=path), os.stat(path).st_ino)
    except OSError:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Take away the path of a socket that nobody listens on, as a crash leaves it."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file of that name that isn't a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # alive, and its backlog is full
    raise OSError(errno.EADDRINUSE, "in use")
