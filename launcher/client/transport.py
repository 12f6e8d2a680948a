"""HTTP to a running launcher: addresses, keys, errors, calls that can be interrupted.

Standard library only and no event loop: `launcher status` has to be quick. Must not know what
is asked, or how anything is shown.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"

#: Seconds for connecting, and for answers that nobody has to wait for.
TIMEOUT = 10.0

#: OpenSSL's codes (x509_vfy.h) for a certificate that nobody trusted here has signed.
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})

#: Bytes of a stream that are taken at a time, at most.
_PIECE = 65536


class ClientError(Exception):
    """The launcher said no, or didn't answer. `code` is its error code, if it named one;
    `detail` what it tells operators (log lines, an exit code)."""

    def __init__(self, message: str, *, code: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail


class Transport:
    """One launcher, by its URL (`http://…`, `https://…` or `unix:/path`) and a key."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self._url = url
        self._key = key
        self._unix: str | None = None
        self._host, self._port, self._tls, self._base = "localhost", 80, False, ""
        if url.startswith("unix:/"):
            self._unix = url.removeprefix("unix:")
            return
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ClientError(f"{url} is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url} is not a URL: expected http://HOST:PORT or unix:/path")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")

    @property
    def url(self) -> str:
        """As it was given."""
        return self._url

    def call(
        self, method: str, path: str, body: object = None, *, timeout: float | None = None
    ) -> Call:
        """Begin one request, with `body` as JSON. `timeout` in seconds for each read; None
        waits for ever."""
        return Call(self, method, path, body, timeout)

    def stream(self, path: str, **headers: str) -> Stream:
        """Begin a GET whose answer goes on. Raises ClientError where it is refused."""
        return Stream(self, path, headers)

    def connection(self) -> http.client.HTTPConnection:
        """A connection, not yet open."""
        if self._unix is not None:
            return _UnixConnection(self._unix)
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    @property
    def base(self) -> str:
        """The path of the URL, put before every path."""
        return self._base

    def explain(self, error: OSError | http.client.HTTPException) -> ClientError:
        """Why nobody answers, and what to do."""
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return ClientError(
                f"No launcher listens on {self._url}. Start one with `launcher serve`, or say "
                "where it is: --url or LAUNCHER_URL."
            )
        if isinstance(error, TimeoutError):
            return ClientError(f"{self._url} does not answer.")
        if isinstance(error, ssl.SSLCertVerificationError):
            advice = (
                " If a CA of your own signed it, set SSL_CERT_FILE to that CA's certificate."
                if error.verify_code in _UNKNOWN_ISSUER
                else ""
            )
            return ClientError(f"The certificate of {self._url}: {error.verify_message}.{advice}")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ClientError(f"{self._url} can't be reached, or broke off: {reason}.")


class Call:
    """One request on a thread of its own, so that its caller can look around or be
    interrupted meanwhile."""

    def __init__(
        self,
        transport: Transport,
        method: str,
        path: str,
        body: object,
        timeout: float | None,
    ) -> None:
        self._transport = transport
        self._connection = transport.connection()
        self._done = threading.Event()
        self._sent = None if body is None else json.dumps(body).encode()
        self._body = b""
        self._error: ClientError | None = None
        target = transport.base + path
        threading.Thread(
            target=self._run, args=(method, target, timeout), name=f"{method} {path}", daemon=True
        ).start()

    def _run(self, method: str, target: str, timeout: float | None) -> None:
        try:
            self._connection.connect()
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout)
            headers = self._transport.headers()
            if self._sent is not None:
                headers["Content-Type"] = "application/json"
            self._connection.request(method, target, self._sent, headers)
            response = self._connection.getresponse()
            self._body = response.read()
            if response.status >= 300:
                self._error = _refusal(response.status, self._body)
        except (OSError, http.client.HTTPException) as error:
            self._error = self._transport.explain(error)
        finally:
            self._connection.close()
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, after at most `timeout` seconds."""
        return self._done.wait(timeout)

    def result(self) -> bytes:
        """The body, when it has ended. Raises ClientError."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._body

    def cancel(self) -> None:
        """Hang up: the launcher forgets whoever has left."""
        _hang_up(self._connection.sock)


class Stream:
    """An answer that goes on, piece by piece, until it ends or is closed. A context manager."""

    def __init__(self, transport: Transport, path: str, headers: dict[str, str]) -> None:
        self._transport = transport
        self._connection = transport.connection()
        self._closed = False
        try:
            self._connection.connect()
            # The connection lets go of it where the answer ends with the connection.
            self._sock = self._connection.sock
            sent = transport.headers() | headers
            self._connection.request("GET", transport.base + path, headers=sent)
            self._response = self._connection.getresponse()
            if self._response.status >= 300:
                raise _refusal(self._response.status, self._response.read())
            # Its silences are its own affair.
            self._sock.settimeout(None)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise transport.explain(error) from None
        except ClientError:
            self._connection.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces as they arrive. Raises ClientError where it breaks off."""
        try:
            while piece := self._response.read1(_PIECE):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            if not self._closed:
                raise self._transport.explain(error) from None

    def close(self) -> None:
        """Hang up, from whatever thread: who reads it finds its end."""
        self._closed = True
        _hang_up(self._sock)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def _hang_up(sock: socket.socket | None) -> None:
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _refusal(status: int, body: bytes) -> ClientError:
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error["code"])
        detail = error.get("detail")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ClientError(f"It answered with status {status}, and not as a launcher does.")
    if status in (401, 403):
        message += " Keys: --key, LAUNCHER_ADMIN_KEY or LAUNCHER_API_KEY."
    return ClientError(message, code=code, detail=None if detail is None else str(detail))
