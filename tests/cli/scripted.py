"""A launcher that says what a test has it say, for commands whose endpoints take a whole
control plane to answer; the end-to-end tests ask the real ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


class ScriptedLauncher:
    """Answers by method and path; of several the last is said again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, Any]] = []
        """`POST /api/switch` and the body, in their order."""
        self._answers: dict[str, list[Answer]] = {}

    def says(self, request: str, *answers: Answer | dict[str, Any]) -> None:
        """What is answered to `GET /path`; a dict stands for 200."""
        self._answers[request] = [(200, one) if isinstance(one, dict) else one for one in answers]

    def bodies(self, request: str) -> list[Any]:
        """What was sent with a request, each time."""
        return [body for asked, body in self.asked if asked == request]

    def answer(self, request: str, body: Any) -> Answer:
        self.asked.append((request, body))
        found = self._answers.get(request)
        if found is None:
            return error(404, "unknown_route", "No route matches the path.")
        return found.pop(0) if len(found) > 1 else found[0]


def error(status: int, code: str, message: str) -> Answer:
    """An answer in the envelope of all errors."""
    return status, {"error": {"message": message, "type": "x", "code": code, "param": None}}


@contextmanager
def scripted() -> Iterator[ScriptedLauncher]:
    """One that listens."""
    here = ScriptedLauncher()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            status, told = here.answer(
                f"{self.command} {self.path}", json.loads(sent) if sent else None
            )
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_one

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            thread.join(30)
