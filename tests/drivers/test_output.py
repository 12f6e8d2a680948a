"""Log framing, last lines and the ring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from launcher.drivers.output import MAX_LINE, Follower, Frames, Ring, clean, demultiplex, last_lines


def frame(data: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300))))
def test_frames_give_their_payloads_in_order(frames: list[tuple[int, bytes]]) -> None:
    sent = b"".join(frame(data, stream) for stream, data in frames)
    assert demultiplex(sent) == b"".join(data for _, data in frames)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert len(demultiplex(data)) <= len(data)
    assert len(last_lines(data, 3)) <= 3


@given(st.lists(st.binary(max_size=60)), st.lists(st.integers(1, 9)))
def test_frames_are_undone_however_they_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    sent, frames, got, at = b"".join(map(frame, payloads)), Frames(), b"", 0
    for cut in [*cuts, len(sent)]:
        got += frames.feed(sent[at : at + cut])
        at += cut
    assert got == b"".join(payloads)


def test_a_cut_last_frame_is_kept() -> None:
    assert demultiplex(frame(b"whole\n") + frame(b"cut here")[:-4]) == b"whole\ncut "


def test_last_lines_skip_blank_ones() -> None:
    assert last_lines(b"a\n\n b \n\r\n\nc", 2) == (" b", "c")
    assert last_lines(b"", 5) == ()


def test_of_a_progress_bar_the_last_picture_counts() -> None:
    assert clean(b"loading 10%\rloading 55%\rloading 99%\r") == "loading 99%"


def test_long_lines_keep_their_end() -> None:
    line = clean(b"a" * 10000 + b"the end")
    assert line.endswith("the end")
    assert len(line) == MAX_LINE + 1


def test_bytes_that_are_no_utf8_are_shown() -> None:
    assert clean(b"caf\xe9") == "caf\N{REPLACEMENT CHARACTER}"


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50)))
def test_the_ring_gives_the_same_lines_however_it_was_fed(data: bytes, cuts: list[int]) -> None:
    told: list[str] = []
    ring = Ring(told.append)
    at = 0
    for cut in [*cuts, len(data)]:
        ring.feed(data[at : at + cut])
        at += cut
    assert ring.tail(1000) == last_lines(data, 500)
    ring.end()
    assert tuple(told[-500:]) == last_lines(data, 500)


def test_the_ring_is_bounded_in_lines_and_bytes() -> None:
    ring = Ring(lambda line: None, max_lines=10, max_bytes=100)
    for i in range(1000):
        ring.feed(b"line %d\n" % i)
    assert len(ring.tail(1000)) == 10
    assert ring.tail(1) == ("line 999",)
    for _ in range(20):
        ring.feed(b"x" * 60 + b"\n")
    assert ring.tail(1000) == ("x" * 60,)


def test_a_line_without_end_does_not_grow() -> None:
    ring = Ring(lambda line: None)
    for _ in range(1000):
        ring.feed(b"z" * 10000)
    assert len(ring._cut.partial) <= 4 * MAX_LINE
    assert len(ring.tail(5)) == 1


class TestFollowing:
    async def test_the_last_lines_and_then_each_that_comes(self) -> None:
        ring = Ring(lambda line: None)
        ring.feed(b"a\nb\nc\nhal")
        lines = ring.follow(2)
        assert [await anext(lines), await anext(lines)] == ["b", "c"]
        ring.feed(b"f\nd")
        assert await anext(lines) == "half"
        ring.end()
        assert [line async for line in lines] == ["d"]
        assert ring._followers == []

    async def test_what_has_ended_ends(self) -> None:
        ring = Ring(lambda line: None)
        ring.feed(b"a\n")
        ring.end()
        assert [line async for line in ring.follow(10)] == ["a"]
        assert [line async for line in ring.follow(0)] == []

    async def test_who_leaves_is_forgotten(self) -> None:
        ring = Ring(lambda line: None)
        ring.feed(b"a\n")
        lines = ring.follow(10)
        await anext(lines)
        await lines.aclose()
        assert ring._followers == []

    async def test_who_is_too_slow_loses_the_oldest_and_is_told_how_many(self) -> None:
        follower = Follower(most=3)
        for number in range(10):
            follower.put(str(number))
        assert await follower.batch() == ["(… 7 lines left out)", "7", "8", "9"]
        follower.put("10")
        follower.end()
        assert await follower.batch() == ["10"]
        assert await follower.batch() == []
