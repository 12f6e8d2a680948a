"""HTTP to a launcher, and to those who are none."""

from __future__ import annotations

import json
import ssl
import threading
from pathlib import Path

import pytest

from launcher.client.transport import ClientError, Transport
from tests.client.answering import answering, free_port

OK = b"HTTP/1.1 200 OK\r\n"


def test_nobody_listens() -> None:
    with pytest.raises(ClientError, match="launcher serve"):
        Transport(f"http://127.0.0.1:{free_port()}").call("GET", "/").result()


@pytest.mark.parametrize(
    ("code", "message", "advised"),
    [(18, "self-signed certificate", True), (10, "certificate has expired", False)],
)
def test_a_certificate_that_does_not_hold(code: int, message: str, advised: bool) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    told = Transport("https://localhost:1").explain(error).message
    assert told.startswith(f"The certificate of https://localhost:1: {message}.")
    assert ("SSL_CERT_FILE" in told) is advised


def test_no_socket_file(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="launcher serve"):
        Transport(f"unix:{tmp_path}/none.sock").call("GET", "/").result()


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ClientError, match="is not a URL"):
        Transport(url)


def test_a_body_travels_as_json() -> None:
    heard: list[bytes] = []
    with answering(OK + b"Content-Length: 2\r\n\r\nok", heard) as url:
        assert Transport(url).call("PUT", "/x", {"ttl": "5m"}).result() == b"ok"

    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /x HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"ttl": "5m"}


def test_a_stream_comes_piece_by_piece_until_it_ends() -> None:
    data = b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    with answering(OK + data) as url, Transport(url).stream("/x") as stream:
        assert b"".join(stream) == b"onetwo"


def test_a_stream_that_breaks_off_says_so() -> None:
    data = b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n9\r\ntw"
    with answering(OK + data) as url, Transport(url).stream("/x") as stream:
        with pytest.raises(ClientError, match="broke off"):
            list(stream)


def test_a_stream_that_is_refused() -> None:
    body = b'{"error": {"message": "No.", "code": "wrong_key"}}'
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answering(head + body) as url:
        with pytest.raises(ClientError, match="LAUNCHER_ADMIN_KEY") as caught:
            Transport(url).stream("/x")
    assert caught.value.code == "wrong_key"


def test_a_stream_can_be_closed_by_another_thread() -> None:
    gone = threading.Event()
    data = b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
    with answering(OK + data, until=gone) as url, Transport(url).stream("/x") as stream:
        pieces = iter(stream)
        assert next(pieces) == b"one"
        threading.Timer(0.05, stream.close).start()
        assert list(pieces) == []
        gone.set()
