"""The top level of a JSON body, found in any cutting of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LauncherError
from launcher.proxy.model_scan import JsonScan, Scanned


def scan(body: bytes, size: int = 1 << 20) -> Scanned:
    scanner = JsonScan()
    for at in range(0, len(body), size):
        scanner.feed(body[at : at + size])
    return scanner.finish()


BODIES = [
    (b'{"model":"m"}', "m", b'"m"', False),
    (b'  { "stream" : true , "model" : "a\\"b" } \n', 'a"b', b'"a\\"b"', True),
    (b'{"x":{"model":"no","stream":true},"model":"m","stream":false}', "m", b'"m"', False),
    (b'{"x":[{"model":"no"},["}"],"\\\\"],"mo\\u0064el":"m"}', "m", b'"m"', False),
    (b'{"messages":["\\"model\\": \\"no\\""],"model":"\xc3\xa9"}', "é", '"é"'.encode(), False),
    (b'{"model":"a/\\u00e9"}', "a/é", b'"a/\\u00e9"', False),
    (b'{"a":1.5e3,"b":-0,"c":null,"d":false,"model":"m"}', "m", b'"m"', False),
    (b'{"stream":"true","model":"m"}', "m", b'"m"', False),
    (b'\xef\xbb\xbf{"model":"m"}', "m", b'"m"', False),
    (b'{"x":{"a\\\\":{}},"model":"m","y":[]}', "m", b'"m"', False),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(("body", "model", "span", "stream"), BODIES)
def test_found(body: bytes, model: str, span: bytes, stream: bool, size: int) -> None:
    found = scan(body, size)
    assert found.model == model
    assert body[slice(*found.span)] == span
    assert found.stream is stream


@pytest.mark.parametrize(
    "body", [b"{}", b'{"model":null}', b'{"model":5}', b'{"model":{"a":"b"}}', b'{"x":"model"}']
)
def test_no_model(body: bytes) -> None:
    assert scan(body).model is None


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b'"model"',
        b"nonsense",
        b'{"model":"m"',
        b'{"model":"m',
        b'{"model":"m"}}',
        b'{"model":"m"} {}',
        b'{"model" "m"}',
        b'{"model":"m",}',
        b'{,"model":"m"}',
        b'{"model":tru}',
        b'{"model":}',
        b'{"a":01}',
        b"{model:1}",
        b'{"a":[}',
        b'{"a":{"b":1]}',
        b'{"a":' + b"[" * 2000,
        b'{"model":"\xff"}',
        b'{"model":"\\x"}',
    ],
)
def test_broken(body: bytes, size: int) -> None:
    with pytest.raises(LauncherError) as caught:
        scan(body, size)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","x":{},"m\\u006fdel":"b"}',
        b'{"model":1,"model":"b"}',
    ],
)
def test_two_models_are_one_too_many(body: bytes) -> None:
    with pytest.raises(LauncherError, match="more than one") as caught:
        scan(body)
    assert caught.value.code == "invalid_json"


def test_a_key_or_an_id_without_end_is_nobodys() -> None:
    long = b"m" * 100_000
    assert scan(b'{"' + long + b'":1,"model":"' + long + b'"}', 1000).model is None
    scanner = JsonScan()
    scanner.feed(b'{"model":"')
    for _ in range(100):
        scanner.feed(long)
    assert len(scanner._token) < 10_000


def test_an_id_is_encoded_for_its_place() -> None:
    assert JsonScan().encode('Qwen/"é"') == '"Qwen/\\"é\\""'.encode()


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    before=st.dictionaries(st.text().filter(lambda key: key != "model"), Json, max_size=3),
    model=st.text(min_size=1),
    after=st.dictionaries(st.text().filter(lambda key: key not in ("model", "stream")), Json),
    ascii_only=st.booleans(),
    size=st.integers(1, 40),
)
def test_any_document_in_any_cutting(
    before: dict[str, object],
    model: str,
    after: dict[str, object],
    ascii_only: bool,
    size: int,
) -> None:
    document = {**before, "model": model, **after}
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    found = scan(body, size)
    assert found.model == model
    assert json.loads(body[slice(*found.span)]) == model
    assert found.stream is (document.get("stream") is True)
