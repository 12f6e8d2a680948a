"""What a request's head must fulfil before anything is done with it. Pure functions on bytes.

The parser in front (llhttp) is strict about characters and line ends; what it lets through
and a proxy must not is refused here: transfer codings we don't carry, HTTP/0.9 and 2.0,
ambiguous hosts, targets that a backend may read differently than we did. It must not know
routes, sockets or aiohttp.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from launcher.errors import LauncherError
from launcher.http.exchange import Fields, RawHeaders, RequestHead

#: RFC 9110 §7.2: `uri-host [ ":" port ]`, not empty, no userinfo. Of the characters that RFC 3986
#: §3.2.2 allows, those that no name has are refused: a comma may be two Hosts made one.
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
#: Never part of a request target (RFC 9112 §3.2): control characters, space, a fragment.
_NOT_IN_TARGET: Final = re.compile(rb"[\x00-\x20\x7f#]")
#: Read as `/` or as the end of the string by some backends, so a path with them is refused.
#: A query may have both: browsers send `\` there as it is.
_NOT_IN_PATH: Final = re.compile(rb"\\|%00")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_DIGITS: Final = re.compile(rb"[0-9]+")

VERSIONS: Final = frozenset({(1, 0), (1, 1)})


def check_head(
    method: str,
    target: bytes,
    version: tuple[int, int],
    headers: RawHeaders,
    *,
    peer: str,
    scheme: str,
    max_head: int,
    operators: bool = True,
) -> RequestHead:
    """The head as the rest of the proxy may trust it.

    `headers` are as received, `max_head` is in bytes. Raises LauncherError (`http_version`,
    `headers_too_large`, `bad_request`, `not_implemented`, `bad_target`); the connection then
    has to be closed, since where the next request begins can't be known.
    """
    if version not in VERSIONS:
        major, minor = version
        raise LauncherError(
            "http_version", f"HTTP/{major}.{minor} isn't spoken here; use HTTP/1.1 or HTTP/1.0."
        )
    fields: dict[bytes, tuple[bytes, ...]] = {}
    size = len(method) + len(target)
    for name, value in headers:
        size += len(name) + len(value) + 4
        key = name.lower()
        fields[key] = (*fields[key], value) if key in fields else (value,)
    if size > max_head:
        raise too_large(max_head)
    length, chunked = _body_framing(
        version, fields.get(b"content-length", ()), fields.get(b"transfer-encoding", ())
    )
    path, query, authority = _split_target(target)
    host = _host(version, fields.get(b"host", ()))
    upgrade = _upgrade(version, fields)
    if upgrade is not None and (chunked or length):
        _refuse("A request that asks for an Upgrade must not have a body.")
    return RequestHead(
        method=method,
        path=path,
        query=query,
        version=version,
        headers=headers,
        fields=fields,
        # RFC 9112 §3.2.2: an absolute-form target wins over Host.
        host=host if authority is None else authority,
        peer=peer,
        scheme=scheme,
        content_length=length,
        chunked=chunked,
        upgrade=upgrade,
        raw_target=target,
        operators=operators,
    )


def too_large(max_head: int) -> LauncherError:
    """The refusal of a head larger than `max_head` bytes."""
    return LauncherError(
        "headers_too_large",
        f"The request's head is larger than {max_head} bytes or has too many fields; "
        "send fewer or shorter headers.",
    )


def _body_framing(
    version: tuple[int, int], lengths: tuple[bytes, ...], codings: tuple[bytes, ...]
) -> tuple[int | None, bool]:
    """Content-Length and whether the body is chunked (RFC 9112 §6.1 to §6.3)."""
    if codings:
        if lengths:
            _refuse("Content-Length and Transfer-Encoding exclude each other.")
        if version == (1, 0):
            _refuse("HTTP/1.0 has no Transfer-Encoding; send a Content-Length.")
        if len(codings) > 1:
            _refuse("More than one Transfer-Encoding header.")
        if codings[0].strip(b" \t").lower() != b"chunked":
            raise LauncherError(
                "not_implemented", "The only Transfer-Encoding carried here is `chunked`."
            )
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        _refuse("Content-Length must be one decimal number.")
    return int(lengths[0]), False


def _split_target(target: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Raw path, raw query and, for absolute-form, the authority."""
    authority: bytes | None = None
    rest = target
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            _refuse_target("A request target begins with `/`.")
        authority = absolute.group(1)
        if not _HOST.fullmatch(authority):
            _refuse_target("The request target's host isn't a valid one.")
        rest = target[absolute.end() :]
        if not rest.startswith(b"/"):
            # RFC 9110 §4.2.3: an empty path of an http URI is `/`.
            rest = b"/" + rest
    if _NOT_IN_TARGET.search(rest):
        _refuse_target("A request target has no `#`, spaces or control characters.")
    path, mark, query = rest.partition(b"?")
    if _NOT_IN_PATH.search(path):
        _refuse_target("A path has no `\\` and no `%00`.")
    return path, query if mark else None, authority


def _host(version: tuple[int, int], hosts: tuple[bytes, ...]) -> bytes:
    """The one Host header (RFC 9112 §3.2); b"" where HTTP/1.0 sent none."""
    if not hosts and version == (1, 0):
        return b""
    if len(hosts) != 1:
        _refuse("Exactly one Host header is needed.")
    if not _HOST.fullmatch(hosts[0]):
        _refuse("The Host header isn't a valid host name or address.")
    return hosts[0]


def _upgrade(version: tuple[int, int], fields: Fields) -> bytes | None:
    """What the client wants to switch to. Not known to HTTP/1.0, and `h2c` is ignored, as
    RFC 9110 §7.8 and RFC 9113 §3.1 allow."""
    upgrades = fields.get(b"upgrade")
    if upgrades is None or version == (1, 0):
        return None
    options = b",".join(fields.get(b"connection", ())).lower().split(b",")
    if not any(option.strip(b" \t") == b"upgrade" for option in options):
        return None
    wanted = b", ".join(upgrades)
    return None if wanted.strip(b" \t").lower() == b"h2c" else wanted


def _refuse(message: str) -> NoReturn:
    raise LauncherError("bad_request", message)


def _refuse_target(message: str) -> NoReturn:
    raise LauncherError("bad_target", message)
