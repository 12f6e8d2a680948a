"""What header fields mean to the proxy: credentials, who forwarded it, what a browser says."""

from __future__ import annotations

import secrets
from typing import Final

from launcher.http.headers import FieldTable
from launcher.proxy.wishes import PRIORITY_HEADER, WAKE_HEADER

#: Our name in Via. The ending differs between launchers, so that a chain of them is no loop.
PSEUDONYM: Final = b"lazy-launcher-" + secrets.token_hex(4).encode()

#: A credential that may be one of the launcher's own keys.
CREDENTIAL: Final = 1 << 8
#: X-Forwarded-For, -Proto, -Host, -Prefix: written anew.
FORWARDED: Final = 1 << 9
VIA: Final = 1 << 10
#: Meant for the launcher, and for nobody behind it.
LAUNCHER: Final = 1 << 11
#: Tells of a browser, or of the page behind the request.
BROWSER: Final = 1 << 12

#: A Content-Type of JSON.
JSON: Final = 1 << 13
#: A Content-Encoding other than identity.
ENCODED: Final = 1 << 14

_BY_NAME: Final = {
    b"authorization": CREDENTIAL,
    b"x-api-key": CREDENTIAL,
    b"api-key": CREDENTIAL,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"x-forwarded-prefix": FORWARDED,
    b"via": VIA,
    PRIORITY_HEADER: LAUNCHER,
    WAKE_HEADER: LAUNCHER,
    b"origin": BROWSER,
    b"purpose": BROWSER,
    b"sec-purpose": BROWSER,
    b"sec-fetch-site": BROWSER,
    b"sec-fetch-mode": BROWSER,
    b"access-control-request-method": BROWSER,
}


#: Names whose flags depend on their values.
_BY_VALUE: Final = frozenset(
    {b"content-type", b"content-encoding", b"user-agent", b"accept-language"}
)


def _flags_of(name: bytes, value: bytes) -> int:
    # To CGI and its heirs (WSGI) `_` and `-` are the same.
    flags = _BY_NAME.get(name.replace(b"_", b"-"), 0)
    if name == b"content-type":
        return JSON if is_json(media_type_of(value)) else 0
    if name == b"content-encoding":
        return 0 if value.lower() == b"identity" else ENCODED
    if (name == b"user-agent" and value.startswith(b"Mozilla/")) or (
        name == b"accept-language" and value != b"*"
    ):
        flags = BROWSER
    return flags


def media_type_of(value: bytes) -> str:
    """Return a Content-Type without its parameters, in lower case."""
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def is_json(media: str) -> bool:
    """Return whether a media type is JSON."""
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def field_table() -> FieldTable:
    """Return a table of request headers with these flags; credentials aren't kept in it."""
    return FieldTable(_flags_of, secret=CREDENTIAL, by_value=_BY_VALUE)
