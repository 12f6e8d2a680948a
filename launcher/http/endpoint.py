"""Where a backend answers, and where clients are listened for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a backend answers, and where clients are listened for."""

    host: str = ""
    """Name or address; empty with `unix_path`."""
    port: int = 0
    scheme: Literal["http", "https"] = "http"
    unix_path: str | None = None
    base_path: str = ""
    """Put before every path: empty, or `/x` without a slash at the end."""
    server_name: str | None = None
    """For TLS: the name to verify."""

    @property
    def authority(self) -> str:
        """`host:port` as a Host header has it; IPv6 in brackets."""
        if self.unix_path is not None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        where = f"unix:{self.unix_path}" if self.unix_path else self.authority
        return f"{self.scheme}://{where}{self.base_path}"


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on."""

    host: str | None = None
    port: int = 0
    unix_path: str | None = None

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
