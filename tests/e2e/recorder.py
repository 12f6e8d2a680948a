"""A backend that remembers what it was sent: stdlib only, as a local process.

    python tests/e2e/recorder.py PORT FILE

Each request but probes is one JSON line in FILE: method, target, headers as pairs, body
(latin-1, so that every byte is seen). `/v1/responses` streams in the events of that API,
`/page` answers in HTML with a cookie, an Upgrade is refused, and the rest is told OK.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

WORDS = ("a ", "story ", "of ", "two ", "models")
_writing = Lock()


class Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: Path

    def handle_any(self) -> None:
        if self.path == "/health":
            self.answer(200, "application/json", b"{}")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = {"method": self.command, "target": self.path, "headers": self.headers.items()}
        with _writing, self.file.open("a") as file:
            file.write(json.dumps(line | {"body": body.decode("latin-1")}) + "\n")
        if "Upgrade" in self.headers:
            self.answer(403, "application/json", b"{}")
        elif self.path == "/v1/responses":
            self.answer(200, "text/event-stream", responses(json.loads(body)["model"]))
        elif self.path == "/page":
            self.answer(200, "text/html", b"<p>hello</p>")
        else:
            self.answer(200, "application/json", b'{"ok": true}')

    do_GET = do_POST = do_PUT = handle_any

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: what it is sent is nobody's output."""


def responses(model: str) -> bytes:
    """A streamed answer of the Responses API."""
    answer = {"id": "resp_1", "object": "response", "created_at": 0, "model": model}
    answer |= {"output": [], "parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
    events = [{"type": "response.created", "response": answer | {"status": "in_progress"}}]
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events += [{"type": "response.output_text.delta", "delta": word, **where} for word in WORDS]
    events.append({"type": "response.completed", "response": answer | {"status": "completed"}})
    return b"".join(
        b"event: %s\ndata: %s\n\n"
        % (str(event["type"]).encode(), json.dumps(event | {"sequence_number": number}).encode())
        for number, event in enumerate(events)
    )


if __name__ == "__main__":
    Recorder.file = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Recorder).serve_forever()
