"""What a web page must not make its visitor's browser do here, told from a request's head.

A page from elsewhere can have forms posted, scripts run against names that it owns and has
pointed at us (DNS rebinding), and WebSockets opened. What it can't do is to change `Host`,
`Origin` or `Sec-Fetch-Site`, and it has no key. It must not know keys or what is behind a path.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Final

from launcher.auth.head import Head
from launcher.config import LauncherConfig
from launcher.errors import Fields, LauncherError

#: Methods that change nothing (RFC 9110 §9.2.1).
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: The types that a page may post anywhere without asking (the Fetch standard's CORS-safelisted
#: ones): nobody who means the API sends them.
_FORMS: Final = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")

#: Last labels of names that no stranger can have in the public DNS: reserved (RFC 6761, RFC 6762,
#: RFC 8375, ICANN's `internal`), or never delegated, for the networks that use them.
_NOT_PUBLIC: Final = (
    ".localhost", ".test", ".local", ".internal", ".home.arpa", ".lan", ".home", ".corp",
    ".intranet", ".private",
)  # fmt: skip

_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGES_POLICY: Final = (
    f"{_POLICY}; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
)


def _headers(policy: str) -> Fields:
    return (
        (b"Content-Security-Policy", policy.encode()),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Frame-Options", b"DENY"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Cross-Origin-Resource-Policy", b"same-origin"),
        (b"Cross-Origin-Opener-Policy", b"same-origin"),
    )


#: What every answer of the launcher's own says to a browser that shows it.
OWN_HEADERS: Final = _headers(_POLICY)

#: The same for a page: it may load what the launcher itself serves, and run no inline script.
PAGE_HEADERS: Final = _headers(_PAGES_POLICY)


def host_name(host: bytes) -> str:
    """A Host header's name without its port, in lower case; an IPv6 address in brackets."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name[: name.find("]") + 1]
    return name.partition(":")[0].rstrip(".")


def same_origin(head: Head) -> bool:
    """It was not sent by a page from elsewhere: by no browser, by one whose user typed the
    address, or by a page of the same origin (as that browser says; an older one only names
    the page's origin)."""
    site = head.get(b"sec-fetch-site")
    if site is not None:
        return site.strip().lower() in (b"same-origin", b"none")
    origin = head.get(b"origin")
    return origin is None or origin.partition(b"://")[2].lower() == head.host.lower()


def only_pointed_at(head: Head) -> bool:
    """Nobody looks at what comes: a page from elsewhere has a picture or a frame with this
    address, or its browser asks whether it may send more (a CORS preflight), or a browser
    fetches ahead of its user. An address that is gone to is another matter."""
    ahead = head.get(b"sec-purpose") or head.get(b"purpose")
    if ahead is not None and b"prefetch" in ahead.lower():
        return True
    if head.method == "OPTIONS" and head.get(b"access-control-request-method") is not None:
        return not same_origin(head) and _of_web(head)
    if (head.get(b"sec-fetch-site") or b"").strip().lower() != b"cross-site":
        return False
    gone_to = (head.get(b"sec-fetch-mode"), head.get(b"sec-fetch-dest") or b"document")
    return gone_to != (b"navigate", b"document") and _of_web(head)


class Guard:
    """Refuses what pages from elsewhere make browsers send.

    `allowed` are the configured hosts, None where nothing is said; `names` those by which the
    machine is known to itself.
    """

    def __init__(self, allowed: tuple[str, ...] | None, names: Iterable[str] = ()) -> None:
        self._strict = allowed is not None
        ours = frozenset((*(allowed or ()), *(name.lower() for name in names)))
        self._is_ours = lru_cache(256)(partial(_is_ours, ours))

    def own(self, head: Head) -> None:
        """For operators' endpoints. Raises `wrong_host`, `cross_origin`, and
        `unsupported_media_type` for what a form posts."""
        self._check_host(head)
        if head.method in _SAFE and head.upgrade is None:
            return
        if not same_origin(head):
            raise _cross_origin()
        kind = (head.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind in _FORMS:
            raise LauncherError(
                "unsupported_media_type",
                "Forms aren't taken here; send JSON with `Content-Type: application/json`.",
            )

    def route(self, head: Head, *, public: bool) -> None:
        """For the use of a route that no key has opened; a key is more than any page from
        elsewhere has. Raises `wrong_host` or `cross_origin`.

        A `public` route is a web site like others, and looks after itself.
        """
        if self._strict or (not public and _of_browser(head)):
            self._check_host(head)
        changes = head.method not in _SAFE or head.upgrade is not None
        if changes and not public and not same_origin(head) and _of_web(head):
            raise _cross_origin()

    def _check_host(self, head: Head) -> None:
        if head.host and not self._is_ours(head.host):
            name = host_name(head.host)
            raise LauncherError(
                "wrong_host",
                f"The launcher isn't known as {name!r}: call it by its address, or add the name"
                " to allowed_hosts in [launcher].",
            )


def names_of(config: LauncherConfig) -> tuple[str, ...]:
    """What the machine is called, what it was told to listen on, and routes' own hosts."""
    listen = [one.host for one in (*config.listen, *config.admin_listen) if one.host is not None]
    hosts = [host for route in config.routes for host in route.hosts]
    return tuple(dict.fromkeys((socket.gethostname(), *listen, *hosts)))


def _is_ours(allowed: frozenset[str], host: bytes) -> bool:
    name = host_name(host)
    if name in allowed or "*" in allowed or _is_local(name):
        return True
    labels = name.split(".")
    return any(f"*.{'.'.join(labels[at:])}" in allowed for at in range(1, len(labels)))


def _is_local(name: str) -> bool:
    """An address, or a name that only this machine or network can have given: for a rebinding
    it takes a name of one's own."""
    if name.startswith("[") or "." not in name or name.endswith(_NOT_PUBLIC):
        return True
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _of_browser(head: Head) -> bool:
    """A browser sent it, by all appearances. To a name over plain HTTP most of them say neither
    where a page comes from nor that it is one that reads."""
    if head.get(b"origin") is not None or head.get(b"sec-fetch-site") is not None:
        return True
    if (head.get(b"user-agent") or b"").startswith(b"Mozilla/"):
        return True
    # Node's fetch sends `*`.
    return (head.get(b"accept-language") or b"*") != b"*"


def _of_web(head: Head) -> bool:
    """Its page came out of the web: not off this machine, nor is it an app's or an extension's
    (`app://`, `vscode-webview://`). Sandboxed pages hide behind `null`."""
    scheme, _, authority = (head.get(b"origin") or b"null").partition(b"://")
    if scheme not in (b"http", b"https", b"null"):
        return False
    name = host_name(authority)
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return True


def _cross_origin() -> LauncherError:
    return LauncherError(
        "cross_origin",
        "A web page from elsewhere asked for this; only pages of the launcher's own, and programs,"
        " may. On routes, a key opens it.",
    )
