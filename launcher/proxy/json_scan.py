"""Finding `model` and `stream` at the top level of a JSON body, piece by piece.

A parser of whole documents holds the interpreter for up to a second on the largest bodies
allowed; this scan reads each piece as it comes in, keeps nothing of it but the place of the
model id, and can be left between any two pieces. It checks the top level and the nesting;
the grammar of what lies deeper is the backend's business (small bodies are parsed as a
whole besides, see `launcher.proxy.body`). It must not know HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from launcher.errors import LauncherError

#: Longer keys and model ids than this are nobody's.
_LONGEST: Final = 4096

#: More keys than any real request has at its top level, where each costs some microseconds.
MOST_KEYS: Final = 10_000

#: Deeper than any real request, and than the parsers behind us go; give or take what is
#: skipped as a whole.
_DEEPEST: Final = 1000

#: So deep a value is skipped as a whole where a piece holds all of it. The pattern for it
#: doubles with each level; real requests have no more.
_SKIPPED_DEPTH: Final = 4


def _between_brackets(depth: int) -> bytes:
    """The pattern of what lies between brackets: whole strings, and whole values of up to
    `depth` levels."""
    either = rb'[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"'
    if depth:
        inner = _between_brackets(depth - 1)
        either += rb"|\[%b\]|\{%b\}" % (inner, inner)
    return rb"(?:%b)*+" % either


# Possessive, so that a long string costs no memory and no way back.
_STRING_REST: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TO_BRACKET: Final = re.compile(_between_brackets(_SKIPPED_DEPTH), re.DOTALL)
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR_REST: Final = re.compile(rb"[^,}\s]*+")
# NaN and the infinities are no JSON, but Python writes and reads them.
_A_SCALAR: Final = rb"true|false|null|NaN|-?(?:Infinity|(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_SCALAR: Final = re.compile(_A_SCALAR)
# A key and its value with what ends them, where a piece holds all of it and the key is plain.
_MEMBER: Final = re.compile(
    rb'[ \t\r\n]*+"([^"\\\x80-\xff]*+)"[ \t\r\n]*+:[ \t\r\n]*+'
    rb'("(?:[^"\\]++|\\.)*+"|[\[{]%b[\]}]|%b)[ \t\r\n]*+([,}])'
    % (_between_brackets(_SKIPPED_DEPTH), _A_SCALAR),
    re.DOTALL,
)

_BOM: Final = b"\xef\xbb\xbf"
_CLOSING: Final = {0x7B: 0x7D, 0x5B: 0x5D}


class Scanned(NamedTuple):
    """What a scan found."""

    model: str | None = None
    span: tuple[int, int] = (0, 0)
    """Where the model id stands in the body, its quotes included where it has some."""
    stream: bool = False
    """The client asked for a stream."""


class Scanner(Protocol):
    """Reads a body from its first byte to its last. Raises LauncherError for a broken one."""

    is_json: bool
    """The model stands in it as a JSON string."""

    def feed(self, data: bytes) -> None:
        """The next piece; small ones (4 KiB) keep the loop free between them."""
        ...

    def finish(self) -> Scanned:
        """The body is over."""
        ...


def invalid_json(why: str) -> LauncherError:
    """The error of a body that can't be read."""
    return LauncherError("invalid_json", f"The body isn't a JSON object: {why}.")


class JsonScan:
    """The state between two pieces. Raises LauncherError `invalid_json`."""

    is_json = True

    __slots__ = (
        "_at",
        "_depth",
        "_escaped",
        "_key",
        "_keys",
        "_model",
        "_models",
        "_span",
        "_step",
        "_stream",
        "_token",
        "_token_at",
    )

    def __init__(self) -> None:
        self._at = 0
        """Bytes consumed."""
        self._step: Step = JsonScan._begin
        self._token = bytearray()
        self._token_at = 0
        self._escaped = False
        self._keys = 0
        self._depth = bytearray()
        """The brackets open below the top level."""
        self._key: str | None = None
        self._model: str | None = None
        self._models = 0
        self._span = (0, 0)
        self._stream = False

    def feed(self, data: bytes) -> None:
        """The next piece."""
        at = 0
        while at < len(data):
            at = self._step(self, data, at)
        self._at += len(data)

    def finish(self) -> Scanned:
        """The body is over: it has to be whole, with at most one `model`."""
        if self._step is not JsonScan._end:
            raise invalid_json("it ends too early" if self._at else "it is empty")
        if self._models > 1:
            raise LauncherError(
                "invalid_json", "The body has more than one `model`.", param="model"
            )
        return Scanned(self._model, self._span, self._stream)

    def _begin(self, data: bytes, at: int) -> int:
        if self._at + at < len(_BOM) and data[at] == _BOM[self._at + at]:
            return at + 1
        return self._after_blanks(data, at, _OBJECT, "an object has to come first")

    def _first_key(self, data: bytes, at: int) -> int:
        return self._members(data, at) or self._after_blanks(
            data, at, _KEY_OR_END, "no key follows"
        )

    def _next_key(self, data: bytes, at: int) -> int:
        return self._members(data, at) or self._after_blanks(data, at, _KEY, "no key follows")

    def _colon(self, data: bytes, at: int) -> int:
        return self._after_blanks(data, at, _COLON, "no colon follows")

    def _comma(self, data: bytes, at: int) -> int:
        return self._after_blanks(data, at, _COMMA_OR_END, "no comma follows")

    def _members(self, data: bytes, at: int) -> int | None:
        """Take the keys that a piece holds with their whole values; where that ends, or None
        where there is no such key."""
        reached = None
        while found := _MEMBER.match(data, at):
            key, value, follows = found.groups()
            if value[0] in _CLOSING and value[-1] != _CLOSING[value[0]]:
                break
            self._count_key()
            if key == b"model":
                self._models += 1
                self._model = None
                if value.startswith(b'"'):
                    start, end = found.span(2)
                    self._model = _text(value[1:-1], self._at + start)
                    self._span = (self._at + start, self._at + end)
            elif key == b"stream":
                self._stream = value == b"true"
            at = reached = found.end()
            if follows == b"}":
                self._step = JsonScan._end
                break
            self._step = JsonScan._next_key
        return reached

    def _end(self, data: bytes, at: int) -> int:
        return self._after_blanks(data, at, {}, "something comes behind it")

    def _after_blanks(self, data: bytes, at: int, then: dict[int, Step], why: str) -> int:
        at = _skip(_BLANKS, data, at)
        if at == len(data):
            return at
        step = then.get(data[at])
        if step is None:
            raise invalid_json(f"{why} at byte {self._at + at}")
        self._token.clear()
        self._token_at = self._at + at
        self._step = step
        return at + 1

    def _value(self, data: bytes, at: int) -> int:
        at = _skip(_BLANKS, data, at)
        if at == len(data):
            return at
        self._token.clear()
        self._token_at = self._at + at
        if self._key == "model":
            self._models += 1
            self._model = None
        elif self._key == "stream":
            self._stream = False
        first = data[at]
        if first == 0x22:
            self._step = JsonScan._value_string
            return at + 1
        if first in _CLOSING:
            self._depth.append(first)
            self._step = JsonScan._nested
            return at + 1
        self._step = JsonScan._scalar
        return at

    def _scalar(self, data: bytes, at: int) -> int:
        end = _skip(_SCALAR_REST, data, at)
        self._keep(data, at, end)
        if end == len(data):
            return end
        if not _SCALAR.fullmatch(self._token):
            raise invalid_json(f"no value at byte {self._token_at}")
        if self._key == "stream":
            self._stream = self._token == b"true"
        self._step = JsonScan._comma
        return end

    def _key_string(self, data: bytes, at: int) -> int:
        end, over = self._to_quote(data, at)
        self._keep(data, at, end)
        if not over:
            return end
        self._count_key()
        self._key = _text(bytes(self._token), self._token_at)
        self._step = JsonScan._colon
        return end + 1

    def _value_string(self, data: bytes, at: int) -> int:
        end, over = self._to_quote(data, at)
        self._keep(data, at, end)
        if not over:
            return end
        if self._key == "model":
            self._model = _text(bytes(self._token), self._token_at)
            self._span = (self._token_at, self._at + end + 1)
        self._step = JsonScan._comma
        return end + 1

    def _count_key(self) -> None:
        self._keys += 1
        if self._keys > MOST_KEYS:
            raise invalid_json(f"it has more than {MOST_KEYS} keys at its top level")

    def _nested(self, data: bytes, at: int) -> int:
        while True:
            at = _skip(_TO_BRACKET, data, at)
            if at == len(data):
                return at
            byte = data[at]
            at += 1
            if byte == 0x22:
                # Its end isn't in this piece, else it would have been skipped.
                self._step = JsonScan._nested_string
                return at
            if byte in _CLOSING:
                if len(self._depth) == _DEEPEST:
                    raise invalid_json(f"it is nested deeper than {_DEEPEST}")
                self._depth.append(byte)
                continue
            if _CLOSING[self._depth.pop()] != byte:
                raise invalid_json(f"brackets don't match at byte {self._at + at - 1}")
            if not self._depth:
                self._step = JsonScan._comma
                return at

    def _nested_string(self, data: bytes, at: int) -> int:
        end, over = self._to_quote(data, at)
        if not over:
            return end
        self._step = JsonScan._nested
        return end + 1

    def _to_quote(self, data: bytes, at: int) -> tuple[int, bool]:
        """Where the string ends, or the piece; a backslash in last place escapes the first
        byte of the next."""
        if self._escaped:
            self._escaped = False
            at += 1
        end = _skip(_STRING_REST, data, at)
        if end == len(data):
            return end, False
        if data[end] == 0x22:
            return end, True
        self._escaped = True
        return len(data), False

    def _keep(self, data: bytes, at: int, end: int) -> None:
        if len(self._token) <= _LONGEST:
            self._token += data[at : min(end, at + _LONGEST + 1)]


Step = Callable[[JsonScan, bytes, int], int]
"""Consumes some of a piece from an index on and returns where it ended; it never stays where
it was without changing the step. A plain function, since a bound method would make a cycle
of each scan, and those wait for the garbage collector."""

#: What may come next, by its first byte.
_OBJECT: Final[dict[int, Step]] = {0x7B: JsonScan._first_key}
_KEY: Final[dict[int, Step]] = {0x22: JsonScan._key_string}
_KEY_OR_END: Final[dict[int, Step]] = {0x22: JsonScan._key_string, 0x7D: JsonScan._end}
_COLON: Final[dict[int, Step]] = {0x3A: JsonScan._value}
_COMMA_OR_END: Final[dict[int, Step]] = {0x2C: JsonScan._next_key, 0x7D: JsonScan._end}


def _text(raw: bytes, at: int) -> str | None:
    """The string between quotes; None for one too long to be a key or model of ours."""
    if len(raw) > _LONGEST:
        return None
    if b"\\" not in raw:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise invalid_json(f"no UTF-8 at byte {at}") from None
    try:
        text = json.loads(b'"%b"' % raw, strict=False)
    except ValueError:
        raise invalid_json(f"no string at byte {at}") from None
    return str(text)


def _skip(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Behind what a pattern that matches anywhere (if only nothing) matches at `at`."""
    match = pattern.match(data, at)
    return at if match is None else match.end()
