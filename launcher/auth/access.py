"""Keys: who asks, what their key opens, and which credentials travel on.

Decides on a request's head alone, so that it can be asked before anything is read or
started. It must not know routes' paths or what is behind them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from typing import Final, Literal

from launcher.auth.browsers import same_origin
from launcher.auth.head import Head
from launcher.auth.meters import Meter, Meters
from launcher.config import KeyConfig, KeyScope, RouteConfig
from launcher.errors import LauncherError

Need = Literal["open", "known", "observe", "admin"]
"""`open`: anybody; `known`: any key, where one is needed for routes or for looking; `observe`: then
one with the scope `observe` or `admin`; `admin`: a key with that scope. While no key has the scope
`admin`, a caller on loopback, directly and not from a page from elsewhere, may do all."""

#: Where clients put a key; names in lower case.
_IN_ORDER: Final = (b"authorization", b"x-api-key", b"api-key")
#: Header lines with keys that are remembered; the table is emptied when full.
_MOST_REMEMBERED: Final = 1024

_INFER: Final = frozenset[KeyScope]({"infer"})
_ADMIN: Final = frozenset[KeyScope]({"admin"})
#: What a key has to be good for, one of these; who may operate may look.
_SCOPES: Final[dict[Need, frozenset[KeyScope]]] = {
    "known": frozenset({"infer", "observe", "admin"}),
    "observe": frozenset({"observe", "admin"}),
    "admin": _ADMIN,
}


#: What proxies tell of whom they speak for, besides X-Forwarded-*.
_SPOKEN_FOR: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)


class Access:
    """What the keys of one configuration allow. A scope that no key has isn't asked for: routes
    are open to everybody then, and this machine's own programs are its operators."""

    def __init__(self, keys: Iterable[KeyConfig], meters: Meters) -> None:
        self._keys = tuple((key.digest, key) for key in keys)
        self._meters = {key.name: meters.of(key.name) for _, key in self._keys}
        scopes = frozenset(scope for _, key in self._keys for scope in key.scopes)
        self.remembered: dict[bytes, KeyConfig] = {}
        """Keys for the use of routes, by the whole header line that one came in: valid ones only,
        so that the table can't be filled, or timed, by guesses."""
        self.asks_users = "infer" in scopes
        self.asks_observers = not scopes.isdisjoint(("infer", "observe"))
        self.asks_operators = "admin" in scopes

    @property
    def asks(self) -> bool:
        """Return whether there are keys."""
        return bool(self._keys)

    def caller(self, head: Head) -> Caller:
        """Return the caller that sent a request."""
        return Caller(self, head)

    def admits(self, head: Head, need: Need, *, details: bool) -> bool:
        """Return whether the sender passes where so much is needed; with `details`, whether it may
        also see what is for operators."""
        caller = self.caller(head)
        try:
            caller.require(need)
        except LauncherError:
            return False
        return caller.sees_details() or not details

    def meter(self, key: KeyConfig) -> Meter:
        """Return the meter of a key's limits."""
        return self._meters[key.name]

    def remember(self, line: bytes, key: KeyConfig) -> None:
        """Remember that this header line, alone, holds that key."""
        if len(self.remembered) >= _MOST_REMEMBERED:
            self.remembered.clear()
        self.remembered[line] = key

    def known(self, candidate: bytes) -> KeyConfig | None:
        """Return the key that this is, or None. It is compared with every key, in constant time."""
        digest = hashlib.sha256(candidate).digest()
        same = hmac.compare_digest
        found = [key for known, key in self._keys if same(digest, known)]
        return found[0] if found else None


class Caller:
    """Who sent one request, as far as its head tells. Looked up once, asked on all of its way."""

    __slots__ = ("_access", "_head", "_known", "_presented", "key")

    def __init__(self, access: Access, head: Head) -> None:
        self._access = access
        self._head = head
        self._presented = _presented(head) if access.asks else []
        self._known = [
            (name, key)
            for name, value in self._presented
            if (key := access.known(value)) is not None
        ]
        self.key: KeyConfig | None = None
        """The key that it was asked with and that opens it, its limits aside; None: none was
        needed."""

    @property
    def own_keys(self) -> frozenset[bytes]:
        """Lower-case names of the headers that hold keys of the launcher's own."""
        return frozenset(name for name, _ in self._known)

    @property
    def routes(self) -> frozenset[str] | None:
        """Names of the routes that it may use; None: all."""
        return None if self.key is None else self.key.routes

    def pick(self, route: RouteConfig | None) -> KeyConfig:
        """Return the key for the use of a route, or of any, where only the body will tell which
        (None). Raises `missing_key` or `wrong_key`. Its limits are the meter's business."""
        self.key = self._pick(_INFER, None if route is None else route.name)
        return self.key

    def not_for(self, what: str) -> LauncherError:
        """Return the error for what exists, but for other keys."""
        assert self.key is not None, "without a key, nothing is for others"
        return _not_for(self.key, what)

    def require(self, need: Need) -> None:
        """Check the key for an endpoint of ours. Raise `missing_key` or `wrong_key`."""
        access = self._access
        match need:
            case "open":
                return
            case "known" | "observe":
                if access.asks_observers and (self._known or not self._is_local_operator()):
                    self.key = self._pick(_SCOPES[need])
            case "admin":
                if access.asks_operators:
                    self.key = self._pick(_SCOPES[need])
                elif not self._is_local_operator():
                    raise LauncherError(
                        "wrong_key",
                        "While no key has the scope `admin`, only a direct caller on the"
                        " launcher's own machine may do this; make one with `launcher key new`.",
                    )

    def is_admin(self) -> bool:
        """Return whether the caller would pass where an admin is needed."""
        if not self._access.asks_operators:
            return self._is_local_operator()
        return any("admin" in key.scopes for _, key in self._known)

    def sees_details(self) -> bool:
        """Return whether errors may show operators' details: to admins, and to everybody where no
        keys are set."""
        return not self._access.asks or self.is_admin()

    def _pick(self, scopes: frozenset[KeyScope], route: str | None = None) -> KeyConfig:
        """Return the first of the keys sent that has one of these scopes and opens the route."""
        if not self._presented:
            raise LauncherError(
                "missing_key",
                "This launcher asks for a key; send `Authorization: Bearer KEY` or"
                " `X-API-Key: KEY`.",
            )
        if not self._known:
            raise LauncherError(
                "wrong_key", "The key that was sent doesn't open this; ask the operator for one."
            )
        good = [key for _, key in self._known if not scopes.isdisjoint(key.scopes)]
        if not good:
            wanted = "` or `".join(sorted(scopes))
            raise LauncherError(
                "wrong_key",
                f"The key {self._known[0][1].name} doesn't open this: it takes one with the scope"
                f" `{wanted}`.",
            )
        for key in good:
            if route is None or key.routes is None or route in key.routes:
                return key
        raise _not_for(good[0], f"the route {route}")

    def _is_local_operator(self) -> bool:
        return not self._access.asks_operators and _local(self._head)


def _not_for(key: KeyConfig, what: str) -> LauncherError:
    routes = ", ".join(sorted(key.routes or ()))
    return LauncherError(
        "wrong_key", f"The key {key.name} isn't good for {what}, but for {routes}."
    )


def _presented(head: Head) -> list[tuple[bytes, bytes]]:
    """Return each key among the headers, with the lower-case name of the header that holds it."""
    found = []
    for name in _IN_ORDER:
        for value in head.fields.get(name, ()):
            key = value.strip()
            if name == b"authorization":
                # RFC 9110 §11.1: the scheme's case doesn't matter.
                scheme, _, key = key.partition(b" ")
                if scheme.lower() != b"bearer":
                    continue
                key = key.strip()
            if key:
                found.append((name, key))
    return found


def _local(head: Head) -> bool:
    """Return whether it comes from a program on this machine directly, or from a page of our own in
    a browser on it; a Unix socket's permissions say who may connect to it."""
    if any(name in _SPOKEN_FOR or name.startswith(b"x-forwarded-") for name in head.fields):
        return False
    if not same_origin(head):
        return False
    if head.peer == "unix":
        return True
    try:
        address = ipaddress.ip_address(head.peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
