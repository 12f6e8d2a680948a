"""A head in one pass: each line validated, classified and remembered, hop-by-hop lines known.

A client sends the same dozen lines for hours, so what a line means is kept in a bounded table by
its exact bytes. Names and values stay raw bytes, in their order, duplicates included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import ne
from typing import Any, Final, NamedTuple, NoReturn

from launcher.errors import LauncherError

RawHeaders = tuple[tuple[bytes, bytes], ...]
"""Names and values as received or to be sent: order, case and duplicates kept."""

Fields = Mapping[bytes, tuple[bytes, ...]]
"""The values of each header in their order, by its name in lower case."""

#: What a field means to HTTP itself. PLAIN ones only travel.
PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
UPGRADE: Final = 5
EXPECT: Final = 6
DATE: Final = 7
#: Of one connection only, and of no further meaning (RFC 9110 §7.6.1).
HOP_BY_HOP: Final = 8
#: `Connection: keep-alive`, which says something on HTTP/1.0 alone.
KEEP_ALIVE: Final = 9
#: It decides how the body is read, but travels on.
CONTENT_TYPE: Final = 10

#: Flags of a field that are ours; its table's owner has the bits from 8 on.
#: It doesn't travel on.
STAYS_HERE: Final = 1
#: A Connection header that names other headers, which don't travel on either.
NAMES_OTHERS: Final = 2

#: Kinds of fields that travel on.
_TRAVEL: Final = (PLAIN, DATE, CONTENT_TYPE)

_PLAIN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade"})

_KINDS: Final = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"date": DATE,
    b"content-type": CONTENT_TYPE,
    b"keep-alive": HOP_BY_HOP,
    b"te": HOP_BY_HOP,
    b"trailer": HOP_BY_HOP,
    # Belongs to h2c (RFC 7540 §3.2.1), which isn't carried.
    b"http2-settings": HOP_BY_HOP,
}

#: RFC 9110 §5.1 and §5.5: a token, a colon, and of the control characters only HTAB. Blanks are
#: taken once and for all (`*+`): trying again from each would take seconds for a long line of them.
_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*+((?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*"
    rb"[^\x00-\x20\x7f])?)?)[ \t]*"
)

_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

#: Longer lines aren't kept: they hold cookies and tokens, which are one client's.
_LONGEST_KEPT: Final = 192
#: Lines in a table; it is emptied when full.
_MOST_KEPT: Final = 2048

#: Digits of a Content-Length that a HeadMemory reads, and lines in which a head may differ.
_MOST_DIGITS: Final = 15
_MOST_DIFFERENT: Final = 3
#: Digits of a Content-Length at most: leading zeros would else make it longer than what Python
#: reads as a number.
LONGEST_LENGTH: Final = 18

_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()


class Field:
    """One header line and what it means."""

    __slots__ = ("depends", "flags", "kind", "line", "lower", "name", "value")

    def __init__(self, name: bytes, lower: bytes, value: bytes, kind: int, flags: int) -> None:
        self.name = name
        """As sent."""
        self.lower = lower
        self.value = value
        self.kind = kind
        self.flags = flags
        """Whatever the table's owner makes of it."""
        self.depends = False
        """With another value the flags might be others."""
        self.line = b"%b: %b" % (name, value)
        """As it travels on, without its end."""

    def __repr__(self) -> str:
        return f"<Field {self.line!r}>"

    def with_value(self, value: bytes) -> Field | None:
        """Return the same field with another value, if that changes nothing but a number or what
        means nothing to HTTP, and holds nothing that no value may hold (RFC 9110 §5.5)."""
        if self.kind == CONTENT_LENGTH:
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                return None
        elif self.kind not in _TRAVEL or self.depends or not _VALUE.fullmatch(value):
            return None
        return Field(self.name, self.lower, value, self.kind, self.flags)


def _no_flags(name: bytes, value: bytes) -> int:
    return 0


class FieldTable:
    """Fields by their lines. `flags_of(lower_name, value)` is the owner's own classification;
    lines whose flags hold a bit of `secret` are never kept: the table must tell nobody by its
    timing what others send. `by_value` are the names whose flags depend on the value."""

    __slots__ = ("_by_value", "_flags_of", "_secret", "kept")

    def __init__(
        self,
        flags_of: Callable[[bytes, bytes], int] = _no_flags,
        *,
        secret: int = 0,
        by_value: frozenset[bytes] = frozenset(),
    ) -> None:
        self._flags_of = flags_of
        self._secret = secret
        self._by_value = by_value
        self.kept: dict[bytes, Field] = {}
        """For `kept.get(line)` on the way of each request; `read` is for what isn't there."""

    def read(self, line: bytes) -> Field | None:
        """Return the field of a line, or None for one that isn't a header line."""
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        name, value = match.groups()
        lower = name.lower()
        kind = _KINDS.get(lower, PLAIN)
        if kind == PLAIN:
            # To CGI and its heirs `_` and `-` are the same: what we read, take out or write
            # ourselves must not come under the other spelling.
            dashed = lower.replace(b"_", b"-")
            if dashed in _KINDS or dashed.startswith(b"proxy-"):
                kind = HOP_BY_HOP
        elif kind == CONNECTION and value.lower() == b"keep-alive":
            kind = KEEP_ALIVE
        flags = self._flags_of(lower, value)
        if kind not in _TRAVEL:
            flags |= STAYS_HERE
            if kind == CONNECTION and connection_options([Field(name, lower, value, kind, 0)]) - (
                _PLAIN_OPTIONS
            ):
                flags |= NAMES_OTHERS
        field = Field(name, lower, value, kind, flags)
        field.depends = bool(flags) or lower in self._by_value
        if len(line) <= _LONGEST_KEPT and not flags & self._secret:
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[line] = field
        return field

    def keep(self, field: Field) -> None:
        """Keep a field whose line would not be kept, since its owner knows it to be harmless."""
        if len(field.line) <= _LONGEST_KEPT:
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[field.line] = field


class HeadMemory:
    """The head that came last on a connection. The next one mostly differs from it in the digits
    of its Content-Length and in a value or two that mean nothing to HTTP (a `traceparent`, a
    `Date`), and means the same then."""

    __slots__ = (
        "_fields",
        "_fixed",
        "_length",
        "_lines",
        "_values",
        "fields",
        "length",
        "note",
        "parsed",
        "unread",
        "varying",
    )

    def __init__(self, lines: list[bytes], fields: list[Field], length: int, parsed: Any) -> None:
        """`lines` are those of the head, its first line among them; `parsed` is whatever the head
        meant."""
        self._lines = lines
        self._fields = fields
        self._length = length
        self._fixed: list[tuple[int, bytes]] = []
        """Where what has never differed stands in a head of this size; empty: not worked out."""
        self._values: list[tuple[int, int, int]] = []
        """Which field's value stands between them, from where to where."""
        self.fields = fields
        """One by one as the header lines; of the head that matched last, and never changed."""
        self.length = length
        """The Content-Length of the head that matched last; -1: there is none."""
        self.parsed = parsed
        self.note: object = None
        """What the owner of the exchanges has worked out for such a head."""
        self.varying: list[int] = []
        """Which of the fields have differed so far."""
        self.unread = False
        """The head that matched last holds a value that no parser has seen."""

    def find(self, data: bytes) -> int:
        """Return the size of the head at the start of `data`, if it means the same as the last one
        and no value has become longer or shorter, and remember it instead; else 0, which says
        nothing. `match` tells the others, by their lines."""
        fixed = self._fixed
        if not fixed:
            return 0
        for at, piece in fixed:
            if not data.startswith(piece, at):
                return 0
        self.unread = False
        if self._values:
            fields = self.fields.copy()
            length = self.length
            unread = False
            for index, start, end in self._values:
                value = data[start:end].strip(b" \t")
                before = fields[index]
                if value != before.value:
                    field = before.with_value(value)
                    if field is None:
                        return 0
                    fields[index] = field
                    if field.kind == CONTENT_LENGTH:
                        length = int(value)
                    else:
                        unread = True
            self.fields, self.length, self.unread = fields, length, unread
        return at + len(piece)

    def match(self, lines: list[bytes]) -> bool:
        """Return whether a head means the same as the last one, and remember it instead."""
        old = self._lines
        if len(lines) != len(old):
            return False
        fields = self._fields
        length = self._length
        unread = False
        if lines != old:
            differs = list(map(ne, lines, old))
            count = differs.count(True)
            if count > _MOST_DIFFERENT or differs[0]:
                return False
            fields = fields.copy()
            at = 0
            changed = []
            for _ in range(count):
                at = differs.index(True, at + 1)
                before = fields[at - 1]
                name, colon, value = lines[at].partition(b":")
                if name != before.name or not colon:
                    return False
                value = value.strip(b" \t")
                field = before.with_value(value)
                if field is None:
                    return False
                if field.kind == CONTENT_LENGTH:
                    length = int(value)
                else:
                    unread = True
                fields[at - 1] = field
                changed.append(at - 1)
            self.varying += [index for index in changed if index not in self.varying]
            self._lines, self._fields, self._length = lines, fields, length
        self.fields, self.length, self.unread = fields, length, unread
        self._divide(lines)
        return True

    def _divide(self, lines: list[bytes]) -> None:
        """Work out what `find` compares."""
        head = b"\r\n".join([*lines, b"", b""])
        fixed = []
        values = []
        at = 0
        for index in sorted(self.varying):
            end = len(b"\r\n".join(lines[: index + 2]))
            start = end - len(lines[index + 1]) + len(self.fields[index].name) + 1
            fixed.append((at, head[at:start]))
            values.append((index, start, end))
            at = end
        fixed.append((at, head[at:]))
        self._fixed, self._values = fixed, values


class RequestHead(NamedTuple):
    """A request's head, checked (framing, version, Host), for who asks it many things."""

    method: str
    path: bytes
    """Raw bytes of the origin-form target up to `?`."""
    query: bytes | None
    """Raw bytes behind the `?`; b"" for a bare `?`, None without one."""
    version: tuple[int, int]
    headers: RawHeaders
    fields: Fields
    """The same by name."""
    host: bytes
    """Of the one Host header, or of an absolute-form target, which wins; b"" on HTTP/1.0."""
    peer: str
    """The peer's IP address, or `unix`."""
    scheme: str
    """`http` or `https`, as this connection has it."""
    content_length: int | None
    chunked: bool
    upgrade: bytes | None
    """The Upgrade header's value where `Connection: upgrade` goes with it."""
    operators: bool = True
    """It came in at an address where operators' endpoints answer."""

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header (`name` in lower case), or None."""
        values = self.fields.get(name)
        return None if values is None else values[0]

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self.chunked or bool(self.content_length)


def by_name(fields: Sequence[Field]) -> dict[bytes, tuple[bytes, ...]]:
    """Return the values of each header by its lower-case name."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for field in fields:
        lower = field.lower
        found[lower] = (*found[lower], field.value) if lower in found else (field.value,)
    return found


def connection_options(fields: Sequence[Field]) -> frozenset[bytes]:
    """Return the options that Connection headers name, in lower case."""
    values = [field.value for field in fields if field.kind == CONNECTION]
    if not values:
        return _NO_OPTIONS
    return frozenset(
        option.strip(b" \t").lower() for value in values for option in value.split(b",")
    ) - {b""}


# -- the request line -------------------------------------------------------------------------

#: RFC 9112 §3: method, target and version, one space between them.
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^ ]+) HTTP/([0-9])\.([0-9])")
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
_DIGITS: Final = re.compile(rb"[0-9]{1,%d}" % LONGEST_LENGTH)


#: A 2xx to CONNECT is the beginning of a tunnel (RFC 9110 §9.3.6), also where the target looks like
#: a path; an answer to TRACE shows the client what was added for the backend, its key included.
_NOT_CARRIED: Final = (b"CONNECT", b"TRACE")
_CARRIED: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class RequestLine:
    """A request line and what it means."""

    __slots__ = ("authority", "http10", "method", "path", "query", "target", "version")

    def __init__(self, method: str, target: bytes, version: tuple[int, int]) -> None:
        """Raises LauncherError `bad_target`."""
        self.method = method
        self.target = target
        self.version = version
        self.http10 = version == (1, 0)
        self.path, self.query, self.authority = split_target(target)


class RequestLineTable:
    """Request lines by their bytes; bounded as a FieldTable is."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: dict[bytes, RequestLine] = {}

    def read(self, line: bytes) -> RequestLine:
        """Return what a line means. Raises LauncherError `http_version`, `bad_target`,
        `bad_request`, `method_not_allowed`."""
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise wrong_version(line) or broken_rules()
        method, target, major, minor = match.groups()
        version = (int(major), int(minor))
        if version not in ((1, 0), (1, 1)):
            raise LauncherError(
                "http_version",
                f"HTTP/{version[0]}.{version[1]} isn't spoken here; use HTTP/1.1 or HTTP/1.0.",
            )
        found = RequestLine(method.decode("ascii"), target, version)
        if method in _NOT_CARRIED:
            raise LauncherError(
                "method_not_allowed", "CONNECT and TRACE aren't carried here.", allow=_CARRIED
            )
        if len(line) <= _LONGEST_KEPT:
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[line] = found
        return found


#: Requests of other protocols and of other versions of HTTP, which llhttp reads or not.
_OTHER_VERSION: Final = re.compile(rb"(?!PRI )[A-Za-z-]+ [^ ]+(?: (?!HTTP/1\.[01])[A-Z]+/[0-9.]*)?")


def wrong_version(line: bytes) -> LauncherError | None:
    """Return the refusal of a request line that speaks another protocol or version."""
    if _OTHER_VERSION.fullmatch(line) is None:
        return None
    return LauncherError("http_version", "Use HTTP/1.1 or HTTP/1.0.")


def broken_rules(reason: str = "") -> LauncherError:
    """Return the refusal of what isn't HTTP; `reason` has none of the client's bytes."""
    detail = f": {reason}" if reason else ""
    return LauncherError("bad_request", f"The request breaks HTTP's rules{detail}.")


def too_large(max_head: int) -> LauncherError:
    """Return the refusal of a head larger than `max_head` bytes."""
    return LauncherError(
        "headers_too_large",
        f"The request's head is larger than {max_head} bytes or has too many fields; "
        "send fewer or shorter headers.",
    )


def split_target(target: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Return raw path, raw query and, for absolute-form, the authority. Raises LauncherError
    `bad_target`."""
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
    if not rest.isascii():
        _refuse_target(
            "The request target isn't one that HTTP allows; percent-encode what isn't printable"
            " ASCII."
        )
    path, mark, query = rest.partition(b"?")
    if _NOT_IN_PATH.search(path):
        _refuse_target("A path has no `\\` and no `%00`.")
    return path, query if mark else None, authority


def check_host(value: bytes) -> bytes:
    """Return a Host header's value. Raises LauncherError `bad_request` for one that is none
    (RFC 9112 §3.2)."""
    if not _HOST.fullmatch(value):
        _refuse("The Host header isn't a valid host name or address.")
    return value


def body_framing(
    http10: bool, lengths: Sequence[bytes], codings: Sequence[bytes]
) -> tuple[int | None, bool]:
    """Return a request's Content-Length and whether its body is chunked (RFC 9112 §6.1 to §6.3).
    Raises LauncherError `bad_request`, `not_implemented`."""
    if codings:
        if lengths:
            _refuse("Content-Length and Transfer-Encoding exclude each other.")
        if http10:
            _refuse("HTTP/1.0 has no Transfer-Encoding; send a Content-Length.")
        if len(codings) > 1:
            _refuse("More than one Transfer-Encoding header.")
        if codings[0].lower() != b"chunked":
            raise LauncherError(
                "not_implemented", "The only Transfer-Encoding carried here is `chunked`."
            )
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        _refuse("Content-Length must be one decimal number.")
    return int(lengths[0]), False


def wanted_protocol(fields: Sequence[Field]) -> bytes | None:
    """Return what the client wants to switch to and we may carry. `h2c` is left out, as RFC 9110
    §7.8 allows: the backend would speak HTTP/2 then, whose exchanges we couldn't tell apart."""
    found = [
        one
        for field in fields
        if field.kind == UPGRADE
        for value in field.value.split(b",")
        if (one := value.strip(b" \t")) and one.lower() != b"h2c"
    ]
    return b", ".join(found) or None


def _refuse(message: str) -> NoReturn:
    raise LauncherError("bad_request", message)


def _refuse_target(message: str) -> NoReturn:
    raise LauncherError("bad_target", message)
