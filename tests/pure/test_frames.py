"""The frame splitter: frames do not depend on how the bytes arrive, and no sender makes it work hard."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pure.bounds import BOUNDED
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import encode

BLANK = b" \t\r\n\v\f"

#: (frames, overflowed, terminator)
Outcome = tuple[list[bytes], bool, bytes]


def specified(stream: bytes, limit: int) -> Outcome:
    """What the protocol says of a whole stream, one frame after the other."""
    frames: list[bytes] = []
    terminator = b"\n"
    *ended, rest = re.split(rb"(?<=[\n\0])", stream)
    for frame, ender in ((piece[:-1], piece[-1:]) for piece in ended):
        if len(frame) > limit:
            return frames, True, terminator
        if frame.strip(BLANK):
            frames.append(frame)
            terminator = ender
    return frames, len(rest) > limit, terminator


def feed_all(chunks: Iterable[bytes], limit: int = 65536) -> Outcome:
    splitter = FrameSplitter(limit)
    frames = [frame for chunk in chunks for frame in splitter.feed(chunk)]
    return frames, splitter.overflowed, splitter.terminator


@st.composite
def chunked_streams(draw: st.DrawFn) -> list[bytes]:
    """A stream, mostly of terminators and short frames, cut into chunks anywhere."""
    pieces = st.sampled_from(
        [b"\n", b"\0", b"\n", b"\0", b"{}", b" ", b"\r", b"abc", b"\xf0\x9f\x98\x80", b'{"msgid":1}']
    )
    stream = b"".join(draw(st.lists(pieces | st.binary(max_size=6), max_size=30)))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)])]


@BOUNDED
@given(chunked_streams(), st.integers(0, 12))
def test_frames_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes], limit: int) -> None:
    assert feed_all(chunks, limit) == feed_all([b"".join(chunks)], limit) == specified(b"".join(chunks), limit)


@BOUNDED
@given(st.lists(st.text(min_size=1), max_size=8), st.lists(st.sampled_from([b"\n", b"\0"]), min_size=8, max_size=8))
def test_what_is_encoded_comes_out_as_it_went_in(texts: list[str], enders: list[bytes]) -> None:
    sent = [encode({"msgid": 6, "msg": text}) for text in texts]
    stream = b"".join(frame + ender for frame, ender in zip(sent, enders, strict=False))
    assert feed_all([stream])[0] == sent
    assert feed_all(bytes([byte]) for byte in stream)[0] == sent


@pytest.mark.parametrize(
    ("stream", "frames", "terminator"),
    [
        pytest.param(b"", [], b"\n", id="nothing"),
        pytest.param(b"a", [], b"\n", id="not ended yet"),
        pytest.param(b"a\n", [b"a"], b"\n", id="newline"),
        pytest.param(b"a\0", [b"a"], b"\0", id="NUL"),
        pytest.param(b"a\nb\0c\n", [b"a", b"b", b"c"], b"\n", id="mixed"),
        pytest.param(b"a\nb\0c", [b"a", b"b"], b"\0", id="mixed with a rest"),
        pytest.param(b"\n\n\0\0a\0\n\0b\0\n\n", [b"a", b"b"], b"\0", id="empty frames skipped"),
        pytest.param(b"a\0\n", [b"a"], b"\0", id="an empty frame says nothing of the terminator"),
        pytest.param(b"a\0 \r\n\t\n", [b"a"], b"\0", id="nor does a blank one"),
        pytest.param(b"\0\0", [], b"\n", id="only empty frames"),
        pytest.param(b"a\r\nb\r\n", [b"a\r", b"b\r"], b"\n", id="carriage returns are blanks to JSON"),
        pytest.param(b"\xff\n", [b"\xff"], b"\n", id="bytes are not looked into"),
    ],
)
def test_frames_and_the_terminator_that_answers_get(stream: bytes, frames: list[bytes], terminator: bytes) -> None:
    assert feed_all([stream]) == (frames, False, terminator)
    assert feed_all(bytes([byte]) for byte in stream) == (frames, False, terminator)


def test_the_terminator_follows_the_latest_frame() -> None:
    splitter = FrameSplitter(100)
    seen = []
    for chunk in (b"a", b"\0", b"\n", b"b", b"\n", b"c\0d\n", b"e\nf\0", b"unfinished"):
        splitter.feed(chunk)
        seen.append(splitter.terminator)
    assert seen == [b"\n", b"\0", b"\0", b"\0", b"\n", b"\n", b"\0", b"\0"]


@pytest.mark.parametrize("ender", [b"\n", b"\0"], ids=["newline", "NUL"])
@pytest.mark.parametrize(("size", "overflowed"), [(7, False), (8, False), (9, True), (1000, True)], ids=str)
def test_a_frame_may_be_as_large_as_the_limit(size: int, overflowed: bool, ender: bytes) -> None:
    frame = b"x" * size
    expected = ([] if overflowed else [frame], overflowed, b"\n" if overflowed else ender)
    assert feed_all([frame + ender], 8) == expected
    assert feed_all([frame, ender], 8) == expected
    assert feed_all((bytes([byte]) for byte in frame + ender), 8) == expected


def test_a_frame_over_the_limit_need_not_end_to_be_noticed() -> None:
    splitter = FrameSplitter(8)
    assert splitter.feed(b"a\0" + b"x" * 8) == [b"a"]
    assert not splitter.overflowed
    assert splitter.feed(b"x") == []
    assert splitter.overflowed


@pytest.mark.parametrize("ender", [b"\n", b"\0"], ids=["newline", "NUL"])
@pytest.mark.parametrize("too_large", [b"x" * 9, b" " * 9], ids=["text", "blanks"])
def test_what_came_before_a_frame_over_the_limit_counts_and_nothing_after_it(too_large: bytes, ender: bytes) -> None:
    splitter = FrameSplitter(8)
    assert splitter.feed(b"a\0b\0" + too_large + ender + b"c\n") == [b"a", b"b"]
    assert splitter.overflowed
    assert splitter.terminator == b"\0"
    assert splitter.feed(b"d\n") == []
    assert splitter.feed(b"\n") == []
    assert splitter.overflowed
    assert splitter.terminator == b"\0"


# -- cost: a sender chooses how its bytes arrive, and must not be able to make the server work hard -----------------


def _cost(feed: Callable[[int], None], size: int) -> float:
    """The processor time that `feed` takes, in seconds: the least of several tries."""
    tries = []
    for _ in range(5):
        before = time.thread_time()
        feed(size)
        tries.append(time.thread_time() - before)
    return min(tries)


def _byte_by_byte(size: int) -> None:
    splitter = FrameSplitter(size)
    byte = b"x"
    for _ in range(size):
        splitter.feed(byte)
    assert splitter.feed(b"\n") == [byte * size]


def _rest_after_mixed(size: int) -> None:
    splitter = FrameSplitter(size)
    assert splitter.feed(b"a\nb\0" + b"x" * size) == [b"a", b"b"]


def _many_mixed(size: int) -> None:
    splitter = FrameSplitter(size)
    assert len(splitter.feed(b"a\nb\0" * (size // 4))) == size // 2


def _many_empty(size: int) -> None:
    assert FrameSplitter(size).feed(b"\n\0" * (size // 2)) == []


@pytest.mark.parametrize("feed", [_byte_by_byte, _rest_after_mixed, _many_mixed, _many_empty])
def test_cost_grows_with_the_bytes_and_not_with_their_square(feed: Callable[[int], None]) -> None:
    # Eight times the bytes: 8 times the cost if it is linear, 64 times if it is quadratic.
    assert _cost(feed, 65536) < 28 * _cost(feed, 8192)
