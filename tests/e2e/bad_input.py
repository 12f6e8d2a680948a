"""Requests that deserve a refusal, as raw bytes, and what each deserves.

They ask for /coder or the model `coder`; a second route is /chat.
"""

from __future__ import annotations

from typing import Literal

MIB = 1024 * 1024
SMUGGLED = b"GET /coder/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def request(*headers: bytes, body: bytes = b"", line: bytes = b"POST /coder/echo") -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a", *headers, b"", body])


CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

#: Heads that are read in more than one way by somebody.
DOUBTFUL: dict[str, bytes] = {
    "both lengths": request(b"Content-Length: 5", CHUNKED, body=END),
    "both lengths the other way round": request(CHUNKED, b"Content-Length: 5", body=END),
    "both, and Expect": request(b"Expect: 100-continue", b"Content-Length: 5", CHUNKED, body=END),
    "two lengths": request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "a length twice": request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "lengths in a list": request(b"Content-Length: 5, 5", body=b"hello"),
    "signed length": request(b"Content-Length: +5", body=b"hello"),
    "negative length": request(b"Content-Length: -5", body=b"hello"),
    "hexadecimal length": request(b"Content-Length: 0x5", body=b"hello"),
    "length with a gap": request(b"Content-Length: 1 1", body=b"hello"),
    "length of 65 bits": request(b"Content-Length: 18446744073709551621", body=b"hello"),
    "length in other digits": request(b"Content-Length: \xb2", body=b"hello"),
    "vertical tab before the length": request(b"Content-Length: \x0b5", body=b"hello"),
    "gzip, chunked": request(b"Transfer-Encoding: gzip, chunked", body=END),
    "chunked, gzip": request(b"Transfer-Encoding: chunked, gzip", body=END),
    "chunked, chunked": request(b"Transfer-Encoding: chunked, chunked", body=END),
    "chunked with a list's hole": request(b"Transfer-Encoding: , chunked", body=END),
    "chunked with a parameter": request(b"Transfer-Encoding: chunked;q=1", body=END),
    "xchunked": request(b"Transfer-Encoding: xchunked", body=END),
    "quoted chunked": request(b'Transfer-Encoding: "chunked"', body=END),
    "no coding": request(b"Transfer-Encoding:", body=END),
    "identity and a length": request(
        b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"
    ),
    "two codings": request(CHUNKED, b"Transfer-Encoding: identity", body=END),
    "chunked twice": request(CHUNKED, CHUNKED, body=END),
    "vertical tab before chunked": request(b"Transfer-Encoding: \x0bchunked", body=END),
    "space before the colon": request(b"Transfer-Encoding : chunked", body=END),
    "tab before the colon": request(b"Transfer-Encoding\t: chunked", body=END),
    "NUL before the colon": request(b"Transfer-Encoding\0: chunked", body=END),
    "coding on a folded line": request(b"Transfer-Encoding:\r\n chunked", body=END),
    "folded line": request(b"X: y\r\n z"),
    "first header folded": b"POST /coder/echo HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
    "header behind a space": request(b" Transfer-Encoding: chunked", body=END),
    "coding behind a bare LF": request(b"X: y\nTransfer-Encoding: chunked", body=END),
    "coding behind a bare CR": request(b"X: y\rTransfer-Encoding: chunked", body=END),
    "CR CR LF": request(b"X: y\r"),
    "bare LF throughout": b"GET /coder/echo HTTP/1.1\nHost: a\n\n",
    "bare LF behind the request line": b"GET /coder/echo HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF at the end": b"GET /coder/echo HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR throughout": b"GET /coder/echo HTTP/1.1\rHost: a\r\r",
    "NUL in a value": request(b"X: y\0z"),
    "control character in a value": request(b"X: y\x01z"),
    "DEL in a value": request(b"X: y\x7fz"),
    "no name": request(b": y"),
    "no colon": request(b"XY"),
    "name in other letters": request("Ü: y".encode()),
    "space behind the version": b"GET /coder/echo HTTP/1.1 \r\nHost: a\r\n\r\n",
    "four words": b"GET /coder/echo /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "tabs in the request line": b"GET\t/coder/echo\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /coder/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no Host": b"GET /coder/echo HTTP/1.1\r\n\r\n",
    "two Hosts": request(b"Host: b", line=b"GET /coder/echo"),
    "Upgrade with a body": request(
        b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"
    ),
    "Upgrade with chunks": request(
        b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED, body=END
    ),
    "chunked on HTTP/1.0": b"POST /coder/echo HTTP/1.0\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size 0x5": request(CHUNKED, body=b"0x5\r\nhello\r\n" + END),
    "chunk size +5": request(CHUNKED, body=b"+5\r\nhello\r\n" + END),
    "chunk size -5": request(CHUNKED, body=b"-5\r\nhello\r\n" + END),
    "chunk size 0_5": request(CHUNKED, body=b"0_5\r\nhello\r\n" + END),
    "chunk size behind a space": request(CHUNKED, body=b" 5\r\nhello\r\n" + END),
    "chunk size before a space": request(CHUNKED, body=b"5 \r\nhello\r\n" + END),
    "no chunk size": request(CHUNKED, body=b"\r\nhello\r\n" + END),
    "chunk size of 65 bits": request(CHUNKED, body=b"10000000000000005\r\nhello\r\n" + END),
    "chunk size before a bare LF": request(CHUNKED, body=b"5\nhello\r\n" + END),
    "bare LF in an extension": request(CHUNKED, body=b"5;a\nb\r\nhello\r\n" + END),
    "bare CR in an extension": request(CHUNKED, body=b"5;a\rb\r\nhello\r\n" + END),
    "bare LF behind a chunk": request(CHUNKED, body=b"5\r\nhello\n" + END),
    "bare CR behind a chunk": request(CHUNKED, body=b"5\r\nhello\r" + END),
    "nothing behind a chunk": request(CHUNKED, body=b"5\r\nhello" + END),
    "chunk longer than it says": request(CHUNKED, body=b"5\r\nhello!!\r\n" + END),
    "bare LF at the end of the chunks": request(CHUNKED, body=b"5\r\nhello\r\n0\n\n"),
    "bare LF in a trailer": request(CHUNKED, body=b"0\r\nX: y\n\r\n"),
    "length in a trailer": request(CHUNKED, body=b"0\r\nContent-Length: 3\r\n\r\n"),
    "coding in a trailer": request(CHUNKED, body=b"0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "request as a trailer": request(CHUNKED, body=b"0\r\nGET /chat/echo HTTP/1.1\r\n\r\n"),
}

#: Heads and trailers that nobody has to hold in memory.
BOMBS: dict[str, bytes] = {
    "one header too long": request(b"X: " + b"y" * 70_000),
    "one name too long": request(b"x" * 70_000 + b": y"),
    "too many headers": request(*[b"X%d: y" % number for number in range(1000)]),
    "many long headers": request(*[b"X: " + b"y" * 2000] * 100),
    "8 MiB of headers": request(*[b"X: " + b"y" * 8000] * 1000),
    "target too long": b"GET /coder/" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "head without an end": b"GET /coder/echo HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 30_000,
    "trailer too long": request(CHUNKED, body=b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
    "too many trailers": request(CHUNKED, body=b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
}

Refusal = tuple[Literal[400, 404], Literal["bad_target", "unknown_route"]]
ASIDE: Refusal = (404, "unknown_route")
REFUSED: Refusal = (400, "bad_target")

#: Targets that some server would take for a path of another route.
TARGETS: dict[bytes, Refusal] = {
    b"/coderx": ASIDE,
    b"/coder-/echo": ASIDE,
    b"/coder;x/echo": ASIDE,
    b"/coder%2fecho": ASIDE,
    b"/coder%2Fecho": ASIDE,
    b"/%63oder/echo": ASIDE,
    b"/CODER/echo": ASIDE,
    b"//coder/echo": ASIDE,
    b"/./coder/echo": ASIDE,
    b"/x/../coder/echo": ASIDE,
    b"/%2e/coder/echo": ASIDE,
    b"/api/../coder/echo": ASIDE,
    b"http://a/coderx": ASIDE,
    b"http://coder/echo": ASIDE,
    b"/coder/..": REFUSED,
    b"/coder/../chat/echo": REFUSED,
    b"/coder/%2e%2e/chat/echo": REFUSED,
    b"/coder/%2E./chat/echo": REFUSED,
    b"/coder/.%2e/chat/echo": REFUSED,
    b"/coder/..%2fchat/echo": REFUSED,
    b"/coder/%2e%2e%2fchat/echo": REFUSED,
    b"/coder/..%5cchat/echo": REFUSED,
    b"/coder/./../chat/echo": REFUSED,
    b"/coder//../../chat/echo": REFUSED,
    b"/coder/a/../../chat/echo": REFUSED,
    b"/coder/a/..//../chat/echo": REFUSED,
    b"http://a/coder/../chat/echo": REFUSED,
    b"/openai/../coder/echo": REFUSED,
    b"/openai/v1/../../coder/echo": REFUSED,
    b"/v1/%2e%2e/coder/echo": REFUSED,
    b"/coder\\..\\chat\\echo": REFUSED,
    b"/coder/..\\chat/echo": REFUSED,
    b"\\coder\\echo": REFUSED,
    b"/coder/%00": REFUSED,
    b"/coder%00/echo": REFUSED,
    b"/coder/.%00./chat": REFUSED,
    b"/coder#/echo": REFUSED,
    b"coder/echo": REFUSED,
    b"http:/coder/echo": REFUSED,
    b"http:///coder/echo": REFUSED,
    b"http://coder@a/coder/echo": REFUSED,
    b"ws://a/coder/echo": REFUSED,
    b"file:///coder/echo": REFUSED,
    b"*": REFUSED,
}

CHAT = b"POST /openai/v1/chat/completions"
JSON = b"Content-Type: application/json"


def document(body: bytes, *headers: bytes, line: bytes = CHAT) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return request(*(headers or (JSON,)), length, body=body, line=line)


FORM = b"Content-Type: multipart/form-data"
DOCUMENTS: dict[str, tuple[bytes, int, str]] = {
    "cut short": (document(b'{"model": "coder"'), 400, "invalid_json"),
    "cut short in a string": (document(b'{"model": "cod'), 400, "invalid_json"),
    "two documents": (document(b'{"model": "coder"} {}'), 400, "invalid_json"),
    "a comma too many": (document(b'{"model": "coder",}'), 400, "invalid_json"),
    "single quotes": (document(b"{'model': 'coder'}"), 400, "invalid_json"),
    "a control character": (document(b'{"model": "coder", "x": "\n"}'), 400, "invalid_json"),
    "no UTF-8": (document(b'{"model": "coder", "x": "\xff"}'), 400, "invalid_json"),
    "UTF-16": (document('{"model": "coder"}'.encode("utf-16")), 400, "invalid_json"),
    "a list": (document(b'["coder"]'), 400, "invalid_json"),
    "a hundred thousand levels": (
        document(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "model": "coder"}'),
        400,
        "invalid_json",
    ),
    "two models": (document(b'{"model": "coder", "model": "chat"}'), 400, "invalid_json"),
    "two models, one escaped": (
        document(b'{"model": "coder", "mod\\u0065l": "chat"}'),
        400,
        "invalid_json",
    ),
    "nothing": (document(b""), 400, "missing_model"),
    "no model": (document(b'{"x": {"model": "coder"}}'), 400, "missing_model"),
    "a model that is no name": (document(b'{"model": ["coder"]}'), 400, "missing_model"),
    "an unknown model": (document(b'{"model": "gpt-5"}'), 404, "unknown_model"),
    "another letter case": (document(b'{"model": "CODER"}'), 404, "unknown_model"),
    "a model with a blank": (document(b'{"model": "coder "}'), 404, "unknown_model"),
    "a model with a NUL": (document(b'{"model": "coder\\u0000"}'), 404, "unknown_model"),
    "a model of 200 letters": (document(b'{"model": "%b"}' % (b"x" * 200)), 404, "unknown_model"),
    "a model of a megabyte": (
        document(b'{"model": "%b"}' % (b"x" * MIB)),
        400,
        "missing_model",
    ),
    "an unknown model in the query": (
        request(line=b"GET /v1/realtime?model=gpt-5"),
        404,
        "unknown_model",
    ),
    "two models in the query": (
        request(line=b"GET /v1/realtime?model=coder&model=chat"),
        400,
        "bad_request",
    ),
    "a form without a boundary": (document(b"--x--", FORM), 400, "bad_request"),
    "a form without an end": (
        document(
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ncoder',
            FORM + b"; boundary=x",
        ),
        400,
        "bad_request",
    ),
    "compressed": (document(b"\x1f\x8b", JSON, b"Content-Encoding: gzip"), 415, "*"),
}
