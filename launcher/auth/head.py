"""What keys and browsers' marks are read from: a request's head, whoever parsed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Head(Protocol):
    """A request's head. Names of headers are in lower case."""

    @property
    def method(self) -> str: ...

    @property
    def host(self) -> bytes:
        """The Host header, or the authority of an absolute-form target; b"" where there is
        neither."""
        ...

    @property
    def peer(self) -> str:
        """The client's IP address, or `unix`."""
        ...

    @property
    def upgrade(self) -> bytes | None:
        """The Upgrade header's value where the client asks for one."""
        ...

    @property
    def fields(self) -> Mapping[bytes, tuple[bytes, ...]]:
        """The values of each header, in their order."""
        ...

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header, or None."""
        ...
