from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from launcher.demo import visitor

ANSWERS = {
    "/openai/v1/chat/completions": (200, b'{"choices": [{"message": {"content": "the sea"}}]}'),
    "/good/v1/chat/completions": (
        200,
        b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
        b': a comment\n\ndata: {"choices": [{"delta": {"content": "the"}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": " sea"}}]}\n\ndata: {"choices": []}\n\n'
        b"data: [DONE]\n\n",
    ),
    "/cut/v1/chat/completions": (200, b'data: {"choices": [{"delta": {"content": "the"}}]}\n\n'),
    "/bad/v1/chat/completions": (503, b'{"error": {"code": "queue_full"}}'),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = ANSWERS.get(self.path, (404, b"nothing here"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_asks_by_model(base: str) -> None:
    assert visitor.ask(base, "sea", "hello") == "the sea"


def test_it_hears_the_pieces_of_a_stream(base: str) -> None:
    assert visitor.ask_streaming(base, "good", "hello") == ["the", " sea"]


@pytest.mark.parametrize(
    ("route", "told"), [("cut", "no end"), ("bad", "queue_full"), ("none", "404")]
)
def test_what_goes_wrong_is_told(base: str, route: str, told: str) -> None:
    with pytest.raises(visitor.NoAnswer, match=told):
        visitor.ask_streaming(base, route, "hello")


def test_nobody_there_is_told() -> None:
    with pytest.raises(visitor.NoAnswer, match="refused"):
        visitor.ask("http://127.0.0.1:1", "sea", "hello")
