"""As much of WebSocket (RFC 6455) as an echo needs: short binary messages in single frames."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

KEY = re.compile(rb"\r\nsec-websocket-key:\s*(\S+)", re.IGNORECASE)
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(head: bytes) -> bytes:
    """Return the key of the answer to a handshake (RFC 6455, 4.2.2)."""
    found = KEY.search(head)
    return base64.b64encode(hashlib.sha1((found[1] if found else b"") + MAGIC).digest())


def frame(payload: bytes, *, masked: bool = False) -> bytes:
    """Return a message of at most 125 bytes. A client's mask is zero: allowed, and free."""
    if masked:
        return b"\x82%c\0\0\0\0%b" % (0x80 | len(payload), payload)
    return b"\x82%c%b" % (len(payload), payload)


class Frames:
    """Parses messages from bytes that come in any pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that are whole by now; pings are taken for messages."""
        data = self._rest + data
        while len(data) >= 2:
            masked, size = data[1] & 0x80, data[1] & 0x7F
            start = 6 if masked else 2
            if len(data) < start + size:
                break
            payload = data[start : start + size]
            if masked and data[2:6] != b"\0\0\0\0":
                payload = unmasked(payload, data[2:6])
            yield payload
            data = data[start + size :]
        self._rest = data


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Return the message without its mask (RFC 6455, 5.3), all of it at once."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
