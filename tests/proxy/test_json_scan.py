"""The top level of a JSON body, found in any cutting of it, and by one parse of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from launcher.errors import LauncherError
from launcher.proxy.body import ANYWHERE, model_of, model_of_json, span_of_model
from launcher.proxy.json_scan import _TO_BRACKET, MOST_KEYS, JsonScan, Scanned


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


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_brackets_match_at_any_depth(size: int) -> None:
    for depth in range(1, 12):
        opened, closed = b'[{"a\\"]":' * depth, b"}]" * depth
        whole = opened + b'"}"' + closed
        assert scan(b'{"x":%b,"model":"m"}' % whole, size).model == "m"
        for at in range(len(closed)):
            wrong = closed[:at] + (b"]" if closed[at] == 0x7D else b"}") + closed[at + 1 :]
            with pytest.raises(LauncherError, match="brackets don't match"):
                scan(b'{"x":%b"}"%b,"model":"m"}' % (opened, wrong), size)


def test_what_is_nested_a_little_is_skipped_as_a_whole() -> None:
    """A step of the interpreter per bracket is dear where there are millions."""
    body = b'[[[["a"]]]],{"a":[{"b":{}}]},' * 1000
    match = _TO_BRACKET.match(body)
    assert match is not None
    assert match.end() == len(body)


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_only_so_many_keys_are_read(size: int) -> None:
    most = b'"a":1,' * (MOST_KEYS - 1) + b'"model":"m"}'
    assert scan(b"{" + most, size).model == "m"
    with pytest.raises(LauncherError, match="more than 10000 keys") as caught:
        scan(b'{"b":1,' + most, size)
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


# -- the whole body at once ------------------------------------------------------------------


@pytest.mark.parametrize(("body", "model", "span", "stream"), BODIES)
def test_one_parse_finds_the_same(body: bytes, model: str, span: bytes, stream: bool) -> None:
    found = whole(body)
    assert (found.model, body[slice(*found.span)], found.stream) == (model, span, stream)


def whole(body: bytes) -> Scanned:
    """What one parse finds, its span looked up as it is where the model is renamed."""
    found = model_of_json(body)
    return found._replace(span=span_of_model(body)) if found.span == ANYWHERE else found


def outcome(find: Callable[[], Scanned]) -> Scanned | tuple[int, str]:
    """What was found, or the refusal; the span of what isn't there is of no use."""
    try:
        found = find()
    except LauncherError as error:
        return error.status, error.code
    return found if found.model is not None else found._replace(span=(0, 0))


blank = st.sampled_from(["", " ", "\n", "\t\r"])
names = st.sampled_from(["model", "stream", "mode", "models", "x", "", 'model":"', "é"])
texts = names | st.text(max_size=5) | st.sampled_from(['"model":"m"', "\\", '\\"model\\":'])


def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string, some of its characters escaped that needn't be."""
    out = []
    for char in text:
        plain = json.dumps(char, ensure_ascii=draw(st.booleans()))[1:-1]
        long = "".join(f"\\u{unit:04x}" for unit in _units(char))
        out.append(long if draw(st.integers(0, 5)) == 0 else plain)
    return '"' + "".join(out) + '"'


def _units(char: str) -> list[int]:
    raw = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


scalars = st.sampled_from(["null", "true", "false", "0", "-1.5e3", "NaN", "1", "tru", "01", ""])


@st.composite
def values(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 5 if depth else 3))
    if kind <= 1:
        return draw(scalars)
    if kind <= 3:
        return spelled(draw, draw(texts))
    if kind == 4:
        inner = draw(st.lists(values(depth - 1), max_size=3))
        return "[" + ",".join(inner) + "]"
    return draw(objects(depth - 1))


@st.composite
def objects(draw: st.DrawFn, depth: int = 3) -> str:
    """Members with duplicates, nested ones, and here and there a value that is none."""
    members = []
    for _ in range(draw(st.integers(0, 4))):
        gaps = [draw(blank) for _ in range(4)]
        key = spelled(draw, draw(names))
        members.append(f"{gaps[0]}{key}{gaps[1]}:{gaps[2]}{draw(values(depth))}{gaps[3]}")
    return "{" + ",".join(members) + draw(blank) + "}"


@settings(suppress_health_check=[HealthCheck.too_slow])
@example(b'{"model":"a","x":{"model":"b"}}')
@example(b'{"x":{"model":"b"}}')
@example(b'{"model":"a","\\u006dodel":"b"}')
@example(b'{"model":"a","mode\\u006C":"b"}')
@example(b'{"x":"\\"model\\":\\"no\\"","model":"m"}')
@example(b'{"x":"model","model" : "m"}')
@example(b'{"model":"m","stream":false,"stream":true}')
@example(b'{"model":"m","stream":true,"s\\u0074ream":false}')
@example(b'{"model":"m","x":NaN}')
@example(b'{"model":"a\\ud83d"}')
@example(b'{"model":"\xff"}')
@example(b'{"model":"m","x":1}}')
@example(b'{"x":"\\\\","model":"m"}')
@example(b'["model"]')
@given(objects().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_one_parse_and_the_scan_agree(body: bytes) -> None:
    assert outcome(lambda: whole(body)) == outcome(lambda: model_of(body, JsonScan()))


def test_one_parse_reads_no_more_keys_than_the_scan() -> None:
    most = b'"a%d":1,' * MOST_KEYS % tuple(range(MOST_KEYS))
    with pytest.raises(LauncherError, match="more than 10000 keys"):
        whole(b"{" + most + b'"model":"m"}')
