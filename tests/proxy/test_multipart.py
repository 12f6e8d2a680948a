"""The `model` field of a form, found in any cutting of it."""

from __future__ import annotations

import pytest

from launcher.errors import LauncherError
from launcher.proxy.json_scan import Scanned
from launcher.proxy.multipart import FormScan, boundary_of

FILE = (
    b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\r\n--XXY\r\n\r\n--X\r\n--\x00\r\n"
)
MODEL = b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
END = b"--XX--\r\n"


def scan(body: bytes, size: int = 1 << 20) -> Scanned:
    scanner = FormScan(b"XX")
    for at in range(0, len(body), size):
        scanner.feed(body[at : at + size])
    return scanner.finish()


@pytest.mark.parametrize("size", [1, 2, 5, 17, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        MODEL + END,
        FILE + MODEL + END,
        MODEL + FILE + END,
        b"a preamble\r\n" + FILE + MODEL + END + b"an epilogue \r\n" + MODEL,
        b'--XX  \r\ncontent-type: text/plain\r\ncontent-disposition: FORM-DATA; Name = "model"\r\n'
        b"\r\nwhisper-1\r\n--XX--",
        b"--XX\r\nContent-Disposition: form-data; name=model; x=y\r\n\r\nwhisper-1\r\n--XX--",
        b"--XX\r\n\r\nno head\r\n" + MODEL + END,
    ],
)
def test_found(body: bytes, size: int) -> None:
    found = scan(body, size)
    assert found.model == "whisper-1"
    assert body[slice(*found.span)] == b"whisper-1"


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        FILE + END,
        END,
        b'--XX\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nx\r\n--XX--',
        b'--XX\r\nContent-Disposition: attachment; name="model"\r\n\r\nx\r\n--XX--',
        b'--XX\r\nX: form-data; name="model"\r\n\r\nx\r\n--XX--',
        b'--XX\r\nContent-Disposition: form-data; filename="model"\r\n\r\nx\r\n--XX--',
    ],
)
def test_no_model(body: bytes, size: int) -> None:
    assert scan(body, size).model is None


@pytest.mark.parametrize("tail", [b"\r\n--XX--", b"--XX--"])
def test_an_empty_model(tail: bytes) -> None:
    found = scan(b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + tail)
    assert found.model == ""


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of the kind",
        MODEL,
        MODEL + b"--XX",
        MODEL + MODEL + END,
        b"--XX\r\n" + b"x" * 20_000,
        b"--XX" + b" " * 20_000,
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"x" * 9000,
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--XX--',
    ],
)
def test_broken(body: bytes, size: int) -> None:
    with pytest.raises(LauncherError) as caught:
        scan(body, size)
    assert caught.value.code == "bad_request"


def test_next_to_nothing_is_kept_of_a_large_part() -> None:
    scanner = FormScan(b"XX")
    scanner.feed(FILE)
    for _ in range(100):
        scanner.feed(b"\r\n--" * 4096)
        assert len(scanner._window) < 10
    scanner.feed(b"\r\n" + MODEL + END)
    assert scanner.finish().model == "whisper-1"


def test_boundaries() -> None:
    assert boundary_of(b"multipart/form-data; boundary=abc") == b"abc"
    assert boundary_of(b'multipart/form-data; charset=x; Boundary="a b;c"; y=z') == b"a b;c"
    assert boundary_of(b"multipart/form-data") is None
    assert boundary_of(b"multipart/form-data; boundary=") is None
