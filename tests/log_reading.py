"""What the log writes while something speaks."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Any

from launcher.config.redact import Redactor
from launcher.telemetry.log import LogFormat, LogLevel, configured


def written(
    speak: Callable[[], None],
    log_format: LogFormat = "json",
    level: LogLevel = "info",
    redactor: Redactor | None = None,
) -> str:
    """All that is logged while `speak` runs."""
    reader, writer = os.pipe()
    pieces: list[bytes] = []

    def drain() -> None:
        while piece := os.read(reader, 65536):
            pieces.append(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        with configured(log_format=log_format, level=level, redactor=redactor, fd=writer):
            speak()
    finally:
        os.close(writer)
        thread.join(30)
        os.close(reader)
    return b"".join(pieces).decode()


def lines(speak: Callable[[], None], **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(speak, **options).splitlines()]
