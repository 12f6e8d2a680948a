"""Addresses as people write them: paths, prefixes, host names, sockets, networks.

Like `units`: each function returns the checked value or raises ValueError with what was
expected, and never quotes the value.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal
from urllib.parse import urlsplit

from launcher.config import QUIET, Health, Listen
from launcher.loading.units import texts

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
#: Path segments that need no thought: no escapes, no dot segments, nothing HTTP treats apart.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~!$&'()*+,;=:@-]+")


def health(raw: object) -> Health:
    """How readiness is asked: a path, `docker`, or `tcp`."""
    if isinstance(raw, str):
        word = raw.strip()
        if word in ("docker", "tcp"):
            return Health("docker" if word == "docker" else "tcp")
        if word.startswith("/"):
            return Health("http", request_path(word))
    raise ValueError('expected a path such as "/health", or "docker", or "tcp"')


def request_path(raw: object) -> str:
    """A path on a backend, with or without a query."""
    if isinstance(raw, str) and re.fullmatch(r"/[!-~]*", raw.strip()) and "#" not in raw:
        return raw.strip()
    raise ValueError('expected a path such as "/health": from the slash on, no spaces, no #')


def request_paths(raw: object) -> tuple[str, ...]:
    """Paths on a backend."""
    return tuple(request_path(one) for one in texts(raw))


def quiet(raw: object) -> tuple[str, ...]:
    """Paths behind the prefix that neither wake nor keep; "default" stands for the usual ones."""
    found: list[str] = []
    for one in texts(raw):
        found += QUIET if one == "default" else (request_path(one),)
    return tuple(dict.fromkeys(found))


def prefix(raw: object) -> str:
    """A path prefix: `/v2/coder`. A slash at its end is dropped."""
    if isinstance(raw, str):
        path = raw.strip().rstrip("/")
        if path.startswith("/") and all(map(_SEGMENT.fullmatch, path[1:].split("/"))):
            return path
    raise ValueError('expected a path prefix such as "/v2/coder", without %, "..", "//" or "?"')


def prefixes(raw: object) -> tuple[str, ...]:
    """One path prefix or several."""
    return tuple(dict.fromkeys(prefix(one) for one in texts(raw)))


def host_name(raw: object) -> str:
    """A host name as clients send it, in lower case, without a port."""
    if isinstance(raw, str) and _HOST.fullmatch(name := raw.strip().lower().rstrip(".")):
        return name
    raise ValueError('expected a host name such as "comfy.lan", without a port')


def host_names(raw: object) -> tuple[str, ...]:
    """One host name or several."""
    return tuple(dict.fromkeys(host_name(one) for one in texts(raw)))


def allowed_hosts(raw: object) -> tuple[str, ...]:
    """Host names; `*.example.org` for all below one, `*` for any."""
    found = []
    for one in texts(raw):
        name = one.removeprefix("*.")
        try:
            found.append(one if one == "*" else one[: len(one) - len(name)] + host_name(name))
        except ValueError:
            raise ValueError(
                'expected host names such as "gpu.example.org" or "*.example.org", without a '
                'port, or "*"'
            ) from None
    return tuple(dict.fromkeys(found))


def host_header(raw: object) -> Literal["client", "backend"]:
    """Whose Host header a backend sees."""
    if raw == "client":
        return "client"
    if raw == "backend":
        return "backend"
    raise ValueError('expected "client" or "backend"')


def scheme(raw: object) -> Literal["http", "https"]:
    """How a backend is spoken to."""
    if raw == "http":
        return "http"
    if raw == "https":
        return "https"
    raise ValueError('expected "http" or "https"')


def base_path(raw: object) -> str:
    """Put before every path on its way to the backend: empty, or `/x`."""
    if raw in ("", "/"):
        return ""
    return prefix(raw)


def _host_and_port(raw: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `:port`. Raises ValueError."""
    parts = urlsplit(f"//{raw}")
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        raise ValueError
    host = parts.hostname or ""
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif host and host != "*" and not _HOST.fullmatch(host):
        raise ValueError
    if parts.port is None:
        raise ValueError
    return host, parts.port


def address(raw: object) -> str:
    """Where a backend answers: `host:port` or `unix:/path`."""
    expected = 'expected "host:port" or "unix:/path"'
    if not isinstance(raw, str):
        raise ValueError(expected)
    where = raw.strip()
    if where.startswith("unix:"):
        if not where.startswith("unix:/"):
            raise ValueError(expected)
        return where
    try:
        host, number = _host_and_port(where)
    except ValueError:
        raise ValueError(expected) from None
    if not host or host == "*" or not number:
        raise ValueError(expected)
    return where


def listen_on(raw: object) -> Listen:
    """One address to listen on: `host:port`, `:port` (everywhere), `unix:/path`, or a port.

    Port 0 asks for a free one.
    """
    expected = 'expected "host:port", ":port" or "unix:/path"'
    where = str(raw).strip() if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if where.startswith("unix:/"):
        return Listen(unix_path=where.removeprefix("unix:"))
    try:
        host, number = _host_and_port(f":{where}" if where.isdigit() else where)
    except ValueError:
        raise ValueError(expected) from None
    return Listen(host if host and host != "*" else "0.0.0.0", number)


def listens(raw: object) -> tuple[Listen, ...]:
    """One address to listen on or several."""
    parts: list[object] = list(texts(raw)) if isinstance(raw, str) else []
    if isinstance(raw, list):
        parts = raw
    elif not isinstance(raw, str):
        parts = [raw]
    if not parts:
        raise ValueError('expected an address such as "0.0.0.0:8000"')
    return tuple(dict.fromkeys(listen_on(one) for one in parts))


def networks(raw: object) -> tuple[str, ...]:
    """Networks in CIDR notation; a single address is a network of one."""
    try:
        return tuple(str(ipaddress.ip_network(one, strict=False)) for one in texts(raw))
    except ValueError:
        raise ValueError('expected networks such as ["10.0.0.0/8", "127.0.0.1"]') from None


def engine(raw: object) -> str:
    """The Docker Engine's address; a bare path is a socket's."""
    if isinstance(raw, str):
        where = raw.strip()
        if where.startswith("/"):
            return f"unix://{where}"
        if re.fullmatch(r"(unix:///|(tcp|https?)://[^/])\S*", where):
            return where
    raise ValueError('expected "unix:///var/run/docker.sock" or "tcp://host:2375"')
