"""What happens to headers on their way through: hop-by-hop, X-Forwarded-*, Via. Pure.

Names and values stay raw bytes, in their order, duplicates included. It must not know
sockets, routes or any HTTP library.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from launcher.errors import LauncherError
from launcher.http.exchange import RawHeaders, RequestHead
from launcher.proxy.plan import Plan
from launcher.proxy.wishes import PRIORITY_HEADER, WAKE_HEADER

#: Our name in Via. The ending differs between launchers, so that a chain of them is no loop.
PSEUDONYM: Final = b"lazy-launcher-" + secrets.token_hex(4).encode()

#: Of one connection only (RFC 9110 §7.6.1), beside `Proxy-*` and what Connection names.
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
#: Of a request, those that are written anew: where it goes, how its body is framed, whether
#: the body waits, who forwarded it. HTTP2-Settings belongs to h2c (RFC 7540 §3.2.1).
_WRITTEN_ANEW: Final = frozenset({b"host", b"content-length", b"expect", b"http2-settings"})
_FORWARDED: Final = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"}
)
#: Meant for the launcher, and for nobody behind it.
_OURS: Final = frozenset({PRIORITY_HEADER, WAKE_HEADER})
_NOT_FORWARDED: Final = _HOP_BY_HOP | _WRITTEN_ANEW | _FORWARDED | _OURS

_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()

#: RFC 9110 §5.5: of the control characters a field value holds only HTAB.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def connection_options(values: Sequence[bytes]) -> frozenset[bytes]:
    """The options that Connection headers name, in lower case."""
    if not values:
        return _NO_OPTIONS
    return frozenset(
        option.strip(b" \t").lower() for value in values for option in value.split(b",")
    ) - {b""}


def wanted_upgrade(head: RequestHead) -> bytes | None:
    """What the client wants to switch to and we may carry, or None.

    HTTP/1.0 knows no Upgrade (RFC 9110 §7.8), and `h2c` is dropped: the backend would speak
    HTTP/2 then, whose exchanges we couldn't tell apart. Raises LauncherError (`bad_request`)
    for an Upgrade with a body: the bytes of the one could be taken for those of the other.
    """
    if head.upgrade is None or head.version < (1, 1):
        return None
    protocols = [one.strip(b" \t") for one in head.upgrade.split(b",")]
    kept = [one for one in protocols if one and one.lower() != b"h2c"]
    if not kept:
        return None
    if head.has_body:
        raise LauncherError("bad_request", "Send a request for an Upgrade without a body.")
    return b", ".join(kept)


def request_headers(
    head: RequestHead, plan: Plan, *, length: int | None, upgrade: bytes | None
) -> RawHeaders:
    """The headers that the backend gets, Host first.

    `length` is the body's, in bytes; None: chunked. Ours are added behind what Connection
    names, so that `Connection: X-Forwarded-For` can't delete them. Where the peer is trusted,
    X-Forwarded-For gets the peer appended and X-Forwarded-Prefix our prefix; Proto and Host
    stay what the outermost proxy saw, since backends read one value (uvicorn ignores a list).
    Raises LauncherError (`loop_detected`).
    """
    fields = head.fields
    if sum(_times_here(value) for value in fields.get(b"via", ())) > 1:
        raise LauncherError(
            "loop_detected",
            "The request came through this launcher before: a backend's address leads back here.",
        )
    unwanted = connection_options(fields.get(b"connection", ())) | plan.drop_headers
    sent: list[tuple[bytes, bytes]] = [
        (
            b"Host",
            plan.endpoint.authority.encode() if plan.host_backend or not head.host else head.host,
        )
    ]
    leaves_out = _NOT_FORWARDED | unwanted if unwanted else _NOT_FORWARDED
    for line in head.headers:
        name = line[0].lower()
        if name not in leaves_out and not name.startswith(b"proxy-"):
            sent.append(line)
    if length is None:
        sent.append((b"Transfer-Encoding", b"chunked"))
    elif length or b"content-length" in fields:
        sent.append((b"Content-Length", b"%d" % length))
    if upgrade is not None:
        sent.append((b"Connection", b"Upgrade"))
        sent.append((b"Upgrade", upgrade))
    before: dict[bytes, bytes] = {}
    if plan.trusted_peer:
        before = {
            name: b", ".join(fields[name])
            for name in _FORWARDED
            if name in fields and name not in unwanted
        }
    _add_forwarded(sent, head, plan, before)
    sent.append((b"Via", b"%d.%d %b" % (*head.version, PSEUDONYM)))
    sent.extend(plan.set_headers)
    return tuple(sent)


def _add_forwarded(
    lines: list[tuple[bytes, bytes]], head: RequestHead, plan: Plan, before: Mapping[bytes, bytes]
) -> None:
    """Append X-Forwarded-*, `before` being what a trusted proxy said. A peer on a unix socket
    has no address to add."""
    chain = [before[b"x-forwarded-for"]] if b"x-forwarded-for" in before else []
    if head.peer != "unix":
        chain.append(head.peer.encode())
    if chain:
        lines.append((b"X-Forwarded-For", b", ".join(chain)))
    proto = before.get(b"x-forwarded-proto", head.scheme.encode())
    lines.append((b"X-Forwarded-Proto", proto))
    host = before.get(b"x-forwarded-host", head.host)
    if host:
        lines.append((b"X-Forwarded-Host", host))
    prefix = before.get(b"x-forwarded-prefix", b"").rstrip(b"/") + plan.prefix
    if prefix:
        lines.append((b"X-Forwarded-Prefix", prefix))


def _times_here(via: bytes) -> int:
    """How often this launcher stands in a Via value (`protocol pseudonym [comment]`)."""
    times = 0
    for hop in via.split(b","):
        words = hop.split()
        times += len(words) > 1 and words[1] == PSEUDONYM
    return times


class ResponseFields(NamedTuple):
    """A backend's headers, read once: what goes on, and what concerns its connection alone."""

    headers: RawHeaders
    """End-to-end; Content-Length included."""
    connection: frozenset[bytes]
    content_length: bytes | None
    codings: tuple[bytes, ...]
    """Values of Transfer-Encoding, as sent."""
    upgrade: bytes | None


def response_headers(raw: list[tuple[bytes, bytes]], reason: bytes = b"") -> ResponseFields:
    """A backend's headers without the hop-by-hop ones.

    Raises LauncherError (`bad_upstream`) for control characters in them or in `reason`:
    passed on they would be somebody else's header lines.
    """
    if _CONTROL.search(b" ".join(chain((reason,), *raw))):
        raise LauncherError("bad_upstream", "The backend sent control characters in its headers.")
    connections: list[bytes] = []
    codings: list[bytes] = []
    kept: list[tuple[bytes, bytes]] = []
    content_length: bytes | None = None
    upgrade: bytes | None = None
    for line in raw:
        name = line[0].lower()
        if name in _HOP_BY_HOP:
            if name == b"connection":
                connections.append(line[1])
            elif name == b"transfer-encoding":
                codings.append(line[1])
            elif name == b"upgrade":
                upgrade = line[1] if upgrade is None else upgrade + b", " + line[1]
            continue
        if name.startswith(b"proxy-"):
            continue
        if name == b"content-length":
            content_length = line[1]
        kept.append(line)
    options = connection_options(connections)
    # Content-Length frames the body here and now, whatever Connection says of it.
    named = options - {b"content-length"}
    if named and any(line[0].lower() in named for line in kept):
        kept = [line for line in kept if line[0].lower() not in named]
    return ResponseFields(tuple(kept), options, content_length, tuple(codings), upgrade)
