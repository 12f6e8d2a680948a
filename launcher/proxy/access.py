"""Keys: who may do what, and which credentials travel on.

Decides on a request's head alone, so that it can be asked before anything is read or
started. It must not know routes' paths or what is behind them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from typing import Final

from launcher.api.contract import Need
from launcher.config import Secret
from launcher.errors import LauncherError
from launcher.proxy.exchange import RawHeaders, RequestHead

#: Where clients put a key; names in lower case.
CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key"})

#: A request with one of these on it came through a proxy or out of a web page.
_NOT_FROM_HERE: Final = (b"origin", b"sec-fetch-site")


class _Keys:
    """A set of keys, held as digests."""

    def __init__(self, keys: Iterable[Secret]) -> None:
        self._digests = tuple(hashlib.sha256(key.value.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def opens(self, candidate: bytes) -> bool:
        """Compared with every key, in a time that tells nothing of any."""
        digest = hashlib.sha256(candidate).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


class Access:
    """What the keys of one configuration allow."""

    def __init__(self, api_keys: Iterable[Secret], admin_keys: Iterable[Secret]) -> None:
        self._api = _Keys(api_keys)
        self._admin = _Keys(admin_keys)

    def require_api(self, head: RequestHead) -> None:
        """For the use of a route. Raises `missing_key` or `wrong_key`."""
        if self._api:
            self._require(head, self._api)

    def require(self, head: RequestHead, need: Need) -> None:
        """For an endpoint of the launcher's own. Raises `missing_key` or `wrong_key`."""
        match need:
            case "open":
                return
            case "observe":
                if self._api and not self.is_admin(head):
                    self._require(head, self._api)
            case "admin":
                if self._admin:
                    self._require(head, self._admin)
                elif not _local(head):
                    raise LauncherError(
                        "wrong_key",
                        "Without `admin_keys` in the configuration only a direct caller on the"
                        " launcher's own machine may do this; set `admin_keys`.",
                    )

    def is_admin(self, head: RequestHead) -> bool:
        """The caller would pass where an admin is needed."""
        if not self._admin:
            return _local(head)
        return any(self._admin.opens(value) for _, value in _presented(head))

    def sees_details(self, head: RequestHead) -> bool:
        """Operators' details in errors: for admins, and for all where no keys are set."""
        return (not self._api and not self._admin) or self.is_admin(head)

    def drop_and_set(
        self, head: RequestHead, *, inject: bool, backend_key: Secret | None
    ) -> tuple[frozenset[bytes], RawHeaders]:
        """Headers that must not reach the backend (lower-case names), and those to add.

        A header with one of the launcher's own keys never travels. With `inject` none of
        the client's credentials does and `backend_key` goes in their place; only where
        there is neither an api key nor a backend's is the client's header left alone.
        """
        if inject and (self._api or backend_key is not None):
            if backend_key is None:
                return CREDENTIALS, ()
            return CREDENTIALS, ((b"Authorization", b"Bearer " + backend_key.value.encode()),)
        if not self._api and not self._admin:
            return frozenset(), ()
        ours = frozenset(
            name
            for name, value in _presented(head)
            if self._api.opens(value) or self._admin.opens(value)
        )
        return ours, ()

    def _require(self, head: RequestHead, keys: _Keys) -> None:
        presented = _presented(head)
        if not presented:
            raise LauncherError(
                "missing_key",
                "This launcher asks for a key; send `Authorization: Bearer KEY` or"
                " `X-API-Key: KEY`.",
            )
        # No early end: how long it takes must not tell which header held the key.
        if not sum(keys.opens(value) for _, value in presented):
            raise LauncherError(
                "wrong_key", "The key that was sent doesn't open this; ask the operator for one."
            )


def _presented(head: RequestHead) -> list[tuple[bytes, bytes]]:
    """Each key among the headers, with the lower-case name of the header that holds it."""
    found = []
    for name, value in head.headers:
        key = name.lower()
        if key not in CREDENTIALS:
            continue
        value = value.strip()
        if key == b"authorization":
            # RFC 9110 §11.1: the scheme's case doesn't matter.
            scheme, _, value = value.partition(b" ")
            if scheme.lower() != b"bearer":
                continue
            value = value.strip()
        if value:
            found.append((key, value))
    return found


def _local(head: RequestHead) -> bool:
    """A program on this machine, talking to us directly; a Unix socket's permissions say
    who may connect to it."""
    for name, _ in head.headers:
        key = name.lower()
        if key in _NOT_FROM_HERE or key == b"forwarded" or key.startswith(b"x-forwarded-"):
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
