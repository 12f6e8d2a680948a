"""Durations, sizes, numbers, names and lists as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config import QUIET, Health, Listen, ModelSpec, Secret, values
from launcher.core.policy import POLICIES
from launcher.core.types import Priority, Wake


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("10 min", 600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("2 days", 172800.0),
        ("10M", 600.0),
        (0, 0.0),
    ],
)
def test_durations(raw: object, expected: float) -> None:
    assert values.seconds(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "m", "10x", "10m5", "-5s", -5, True, None, [], "1e3", "inf", math.inf, math.nan]
)
def test_bad_durations_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        values.seconds(raw)


@pytest.mark.parametrize("raw", [0, "0", "never", "Never", "0s"])
def test_never(raw: object) -> None:
    assert values.seconds_or_never(raw) == math.inf
    assert values.seconds_or_none(raw) is None


def test_a_duration_that_may_not_be_zero() -> None:
    assert values.positive_seconds("1s") == 1
    with pytest.raises(ValueError, match="above zero"):
        values.positive_seconds(0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("7B", 7),
        ("24GiB", 24 * 1024**3),
        ("24 gib", 24 * 1024**3),
        ("24GB", 24 * 1000**3),
        ("24g", 24 * 1024**3),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("64M", 64 * 1024**2),
        ("1kB", 1000),
        ("2TiB", 2 * 1024**4),
    ],
)
def test_sizes(raw: object, expected: int) -> None:
    assert values.size(raw) == expected


@pytest.mark.parametrize("raw", ["", "GiB", "24XB", "24iB", -1, 1.5, "1.5", True, None, "0.3B"])
def test_bad_sizes_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number or a size"):
        values.size(raw)


@given(st.integers(min_value=0, max_value=2**53))
def test_a_whole_number_is_its_own_size(number: int) -> None:
    assert values.size(number) == values.size(str(number)) == number


def test_needs_are_sorted_and_without_zeros() -> None:
    raw = {"vram": "9GiB", "gpu": 1, "ram": 0}
    assert values.needs(raw) == (("gpu", 1), ("vram", 9 * 1024**3))
    assert values.needs({}) == ()


@pytest.mark.parametrize("raw", [1, "gpu", ["gpu"], {"gpu": "much"}, {"GPU 0": 1}, {"gpu": -1}])
def test_bad_needs_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"expected|resource"):
        values.needs(raw)


@pytest.mark.parametrize(("raw", "expected"), [(8000, 8000), ("8000", 8000), (" 80 ", 80)])
def test_ports(raw: object, expected: int) -> None:
    assert values.port(raw) == expected


@pytest.mark.parametrize("raw", [0, 65536, -1, "http", 80.0, True, None, "٣"])
def test_bad_ports_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a port"):
        values.port(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(True, True), ("true", True), ("1", True), ("ON", True), (False, False), ("no", False)],
)
def test_booleans(raw: object, expected: bool) -> None:
    assert values.boolean(raw) is expected


@pytest.mark.parametrize("raw", [1, 0, "maybe", None, ""])
def test_bad_booleans_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="true or false"):
        values.boolean(raw)


def test_numbers_above_zero() -> None:
    assert values.positive("3") == 3
    with pytest.raises(ValueError, match="above zero"):
        values.positive(0)


def test_lists_of_strings() -> None:
    assert values.texts("a, b,,c ") == ("a", "b", "c")
    assert values.texts(["a, b", "c"]) == ("a, b", "c")
    for raw in (3, [3], [""]):
        with pytest.raises(ValueError, match="expected"):
            values.texts(raw)


def test_secrets() -> None:
    assert values.secret(" sk-1\n") == Secret("sk-1")
    assert values.secret("") is None
    assert values.secrets("a,b\nc\n") == (Secret("a"), Secret("b"), Secret("c"))
    assert values.secrets(["a", "", "a"]) == (Secret("a"),)
    for raw in (3, ["two\nlines"], ["naïve"], ["a\tb"]):
        with pytest.raises(ValueError, match="expected"):
            values.secrets(raw)


def test_container_names() -> None:
    assert values.container("coder-fast_1.x") == "coder-fast_1.x"
    for raw in ("", "-x", "a b", "a/b", "../x", 3):
        with pytest.raises(ValueError, match="name of a container"):
            values.container(raw)


def test_commands() -> None:
    assert values.command(["run", "--x", ""]) == ("run", "--x", "")
    for raw in ("run --x", [], [""], ["run", 3]):
        with pytest.raises(ValueError, match="expected a list"):
            values.command(raw)
    with pytest.raises(ValueError, match="NUL"):
        values.command(["run", "a\0b"])


def test_variables() -> None:
    assert values.variables({"A": "x", "B": 3}) == (("A", "x"), ("B", "3"))
    for raw in ([], {"A=B": "x"}, {"A": True}, {"A": ["x"]}, {"A": "\0"}):
        with pytest.raises(ValueError, match=r"expected|name of a variable|NUL"):
            values.variables(raw)


def test_models() -> None:
    raw = ["coder", {"id": "gpt-4o", "upstream": "Qwen/Qwen2.5-7B"}, {"id": "x"}]
    assert values.models(raw) == (
        ModelSpec("coder"),
        ModelSpec("gpt-4o", "Qwen/Qwen2.5-7B"),
        ModelSpec("x"),
    )
    assert values.models("a, org/b") == (ModelSpec("a"), ModelSpec("org/b"))
    for wrong in (3, [""], ["a\nb"], [{"upstream": "x"}], [{"id": "a", "name": "b"}], [{"id": 3}]):
        with pytest.raises(ValueError, match="expected"):
            values.models(wrong)


def test_words() -> None:
    assert values.auth("passthrough") == "passthrough"
    with pytest.raises(ValueError, match='"inject" or "passthrough"'):
        values.auth("none")
    for name in POLICIES:
        assert values.policy(name) == name
    assert values.priority(" Batch ") is Priority.BATCH
    assert values.wake("if-idle") is Wake.IF_IDLE
    with pytest.raises(ValueError, match=r'expected "interactive", "normal" or "batch"$'):
        values.priority("urgent")
    with pytest.raises(ValueError, match=r'expected "always", "if-idle" or "never"$'):
        values.wake(1)
    assert values.text(" x ") == "x"
    with pytest.raises(ValueError, match="isn't empty"):
        values.text(" ")
    assert values.state_file("none") == values.state_file("") == ""
    assert values.state_file("/x/y.db") == "/x/y.db"
    with pytest.raises(ValueError, match="expected a path"):
        values.state_file(3)


def test_health() -> None:
    assert values.health("/ready?full=1") == Health("http", "/ready?full=1")
    assert values.health("docker").kind == "docker"
    assert values.health("tcp").kind == "tcp"
    for raw in ("health", "", "/a b", "/a\r\nX: y", 3, "/é"):
        with pytest.raises(ValueError, match="expected a path"):
            values.health(raw)


def test_quiet_paths() -> None:
    assert values.quiet(["/ws", "default"]) == ("/ws", *QUIET)
    assert values.quiet([]) == ()


@pytest.mark.parametrize(
    ("raw", "expected"), [("/v2/coder", "/v2/coder"), ("/a/", "/a"), ("/~x.y", "/~x.y")]
)
def test_prefixes(raw: str, expected: str) -> None:
    assert values.prefix(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "/", "a", "/a//b", "/a/../b", "/%61", "/a?b", "/a\\b", "/.", 3]
)
def test_bad_prefixes_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a path prefix"):
        values.prefix(raw)


def test_host_names() -> None:
    assert values.host_names("Comfy.LAN, b.lan.") == ("comfy.lan", "b.lan")
    for raw in ("comfy.lan:80", "http://x", "*.lan", "-x", "a..b", "", 3):
        with pytest.raises(ValueError, match="host name"):
            values.host_name(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0.0.0.0:8000", Listen("0.0.0.0", 8000)),
        (":8000", Listen("0.0.0.0", 8000)),
        ("*:8000", Listen("0.0.0.0", 8000)),
        ("8000", Listen("0.0.0.0", 8000)),
        (8000, Listen("0.0.0.0", 8000)),
        ("[::1]:8000", Listen("::1", 8000)),
        ("localhost:0", Listen("localhost", 0)),
        ("unix:/run/l.sock", Listen(unix_path="/run/l.sock")),
    ],
)
def test_addresses_to_listen_on(raw: object, expected: Listen) -> None:
    assert values.listen_on(raw) == expected


@pytest.mark.parametrize(
    "raw", ["localhost", "", "::1:8000", "unix:x", "a:b", "a:70000", "u@h:1", "h:1/x", True, -1]
)
def test_where_nobody_can_listen(raw: object) -> None:
    with pytest.raises(ValueError, match='expected "host:port"'):
        values.listen_on(raw)


def test_several_addresses() -> None:
    both = (Listen("0.0.0.0", 80), Listen(unix_path="/x"))
    assert values.listens(":80,unix:/x") == values.listens([":80", "unix:/x"]) == both
    for raw in ([], "", 1.5):
        with pytest.raises(ValueError, match="expected"):
            values.listens(raw)


def test_where_a_backend_answers() -> None:
    for raw in ("127.0.0.1:8000", "[::1]:80", "gpu-box:80", "unix:/run/x.sock"):
        assert values.address(raw) == raw
    for wrong in ("", ":80", "gpu-box", "http://x:80", "unix:x", "a:0", 3):
        with pytest.raises(ValueError, match="expected"):
            values.address(wrong)


def test_networks() -> None:
    assert values.networks("10.0.0.1/8, ::1") == ("10.0.0.0/8", "::1/128")
    for raw in ("proxy", ["10.0.0.0/33"]):
        with pytest.raises(ValueError, match="expected networks"):
            values.networks(raw)


def test_engines() -> None:
    assert values.engine("/var/run/docker.sock") == "unix:///var/run/docker.sock"
    assert values.engine("tcp://10.0.0.2:2375") == "tcp://10.0.0.2:2375"
    for raw in ("docker.sock", "unix://docker.sock", "ssh://x", "tcp://", 3):
        with pytest.raises(ValueError, match="expected"):
            values.engine(raw)


def test_host_headers_schemes_and_base_paths() -> None:
    assert values.host_header("backend") == "backend"
    assert values.scheme("https") == "https"
    assert values.base_path("/") == ""
    assert values.base_path("/x/") == "/x"
    for parse, raw in (
        (values.host_header, "route"),
        (values.scheme, "ftp"),
        (values.base_path, "x"),
    ):
        with pytest.raises(ValueError, match="expected"):
            parse(raw)
