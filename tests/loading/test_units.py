"""Durations, sizes, numbers, names and lists as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config import ModelSpec, Secret
from launcher.core.policy import POLICIES
from launcher.core.types import Priority, Wake
from launcher.loading import units


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
    assert units.seconds(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "m", "10x", "10m5", "-5s", -5, True, None, [], "1e3", "inf", math.inf, math.nan]
)
def test_what_is_no_duration(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        units.seconds(raw)


@pytest.mark.parametrize("raw", [0, "0", "never", "Never", "0s"])
def test_never(raw: object) -> None:
    assert units.seconds_or_never(raw) == math.inf
    assert units.seconds_or_none(raw) is None


def test_a_duration_that_may_not_be_zero() -> None:
    assert units.positive_seconds("1s") == 1
    with pytest.raises(ValueError, match="above zero"):
        units.positive_seconds(0)


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
    assert units.size(raw) == expected


@pytest.mark.parametrize("raw", ["", "GiB", "24XB", "24iB", -1, 1.5, "1.5", True, None, "0.3B"])
def test_what_is_no_size(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number or a size"):
        units.size(raw)


@given(st.integers(min_value=0, max_value=2**53))
def test_a_whole_number_is_its_own_size(number: int) -> None:
    assert units.size(number) == units.size(str(number)) == number


def test_needs_are_sorted_and_without_zeros() -> None:
    raw = {"vram": "9GiB", "gpu": 1, "ram": 0}
    assert units.needs(raw) == (("gpu", 1), ("vram", 9 * 1024**3))
    assert units.needs({}) == ()


@pytest.mark.parametrize("raw", [1, "gpu", ["gpu"], {"gpu": "much"}, {"GPU 0": 1}, {"gpu": -1}])
def test_what_are_no_needs(raw: object) -> None:
    with pytest.raises(ValueError, match=r"expected|resource"):
        units.needs(raw)


@pytest.mark.parametrize(("raw", "expected"), [(8000, 8000), ("8000", 8000), (" 80 ", 80)])
def test_ports(raw: object, expected: int) -> None:
    assert units.port(raw) == expected


@pytest.mark.parametrize("raw", [0, 65536, -1, "http", 80.0, True, None, "٣"])
def test_what_is_no_port(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a port"):
        units.port(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(True, True), ("true", True), ("1", True), ("ON", True), (False, False), ("no", False)],
)
def test_booleans(raw: object, expected: bool) -> None:
    assert units.boolean(raw) is expected


@pytest.mark.parametrize("raw", [1, 0, "maybe", None, ""])
def test_what_is_no_boolean(raw: object) -> None:
    with pytest.raises(ValueError, match="true or false"):
        units.boolean(raw)


def test_numbers_above_zero() -> None:
    assert units.positive("3") == 3
    with pytest.raises(ValueError, match="above zero"):
        units.positive(0)


def test_lists_of_strings() -> None:
    assert units.texts("a, b,,c ") == ("a", "b", "c")
    assert units.texts(["a, b", "c"]) == ("a, b", "c")
    for raw in (3, [3], [""]):
        with pytest.raises(ValueError, match="expected"):
            units.texts(raw)


def test_secrets() -> None:
    assert units.secret(" sk-1\n") == Secret("sk-1")
    assert units.secret("") is None
    assert units.secrets("a,b\nc\n") == (Secret("a"), Secret("b"), Secret("c"))
    assert units.secrets(["a", "", "a"]) == (Secret("a"),)
    for raw in (3, ["two\nlines"], ["naïve"], ["a\tb"]):
        with pytest.raises(ValueError, match="expected"):
            units.secrets(raw)


def test_container_names() -> None:
    assert units.container("coder-fast_1.x") == "coder-fast_1.x"
    for raw in ("", "-x", "a b", "a/b", "../x", 3):
        with pytest.raises(ValueError, match="name of a container"):
            units.container(raw)


def test_commands() -> None:
    assert units.command(["run", "--x", ""]) == ("run", "--x", "")
    for raw in ("run --x", [], [""], ["run", 3]):
        with pytest.raises(ValueError, match="expected a list"):
            units.command(raw)
    with pytest.raises(ValueError, match="NUL"):
        units.command(["run", "a\0b"])


def test_variables() -> None:
    assert units.variables({"A": "x", "B": 3}) == (("A", "x"), ("B", "3"))
    for raw in ([], {"A=B": "x"}, {"A": True}, {"A": ["x"]}, {"A": "\0"}):
        with pytest.raises(ValueError, match=r"expected|name of a variable|NUL"):
            units.variables(raw)


def test_models() -> None:
    raw = ["coder", {"id": "gpt-4o", "upstream": "Qwen/Qwen2.5-7B"}, {"id": "x"}]
    assert units.models(raw) == (
        ModelSpec("coder"),
        ModelSpec("gpt-4o", "Qwen/Qwen2.5-7B"),
        ModelSpec("x"),
    )
    assert units.models("a, org/b") == (ModelSpec("a"), ModelSpec("org/b"))
    for wrong in (3, [""], ["a\nb"], [{"upstream": "x"}], [{"id": "a", "name": "b"}], [{"id": 3}]):
        with pytest.raises(ValueError, match="expected"):
            units.models(wrong)


def test_words() -> None:
    assert units.auth("passthrough") == "passthrough"
    with pytest.raises(ValueError, match='"inject" or "passthrough"'):
        units.auth("none")
    for name in POLICIES:
        assert units.policy(name) == name
    assert units.priority(" Batch ") is Priority.BATCH
    assert units.wake("if-idle") is Wake.IF_IDLE
    with pytest.raises(ValueError, match=r'expected "interactive", "normal" or "batch"$'):
        units.priority("urgent")
    with pytest.raises(ValueError, match=r'expected "always", "if-idle" or "never"$'):
        units.wake(1)
    assert units.text(" x ") == "x"
    with pytest.raises(ValueError, match="isn't empty"):
        units.text(" ")
    assert units.state_file("none") == units.state_file("") == ""
    assert units.state_file("/x/y.db") == "/x/y.db"
    with pytest.raises(ValueError, match="expected a path"):
        units.state_file(3)
