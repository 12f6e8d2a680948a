"""Routes whose backend remembers what it was sent, and what it remembers."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("recorder.py")


@dataclass(frozen=True)
class Sent:
    """A request as the backend got it; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Record:
    """What one recording backend was sent."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.file = folder / f"{name}.requests"

    def route(self, lines: str = "", *, env: str = "") -> str:
        """Its route in routes.toml."""
        command = json.dumps([sys.executable, str(PROGRAM), "{port}", str(self.file)])
        return f"[routes.{self.name}]\ncommand = {command}\nenv = {{ {env} }}\n{lines}\n"

    def text(self) -> str:
        """Everything, as one text to search in."""
        return self.file.read_text() if self.file.exists() else ""

    def all(self) -> list[Sent]:
        """Every request but the probes, in order."""
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.text().splitlines()]
        return [
            Sent(
                line["method"],
                line["target"],
                {name.lower(): value for name, value in line["headers"]},
                line["body"].encode("latin-1"),
            )
            for line in lines
        ]

    def last(self) -> Sent:
        """The newest."""
        return self.all()[-1]
