"""The outbox: whatever the kernel takes at a time, bytes keep their order and receipts are due with their last byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.pure.bounds import BOUNDED
from trio_chat.outbox import Outbox, Receipt

TERMINATORS = st.sampled_from([b"\n", b"\0"])
FRAMES = st.binary(min_size=1, max_size=9).map(lambda frame: frame.replace(b"\n", b"n").replace(b"\0", b"0"))


class Sending(RuleBasedStateMachine):
    """Pushes and partial sends in any order, against a model that keeps every byte and the place of every receipt."""

    LIMIT = 30

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(self.LIMIT)
        self.queued: list[bytes] = []  # not taken yet
        self.begun = b""  # taken, not sent yet
        self.sent = b""
        self.pushed: list[bytes] = []
        self.expected: list[tuple[int, Receipt]] = []  # (how many bytes were sent when it is due, receipt)
        self.got: list[Receipt] = []
        self.total = 0

    @rule(frame=FRAMES, receipts=st.integers(0, 2))
    def push(self, frame: bytes, receipts: int) -> None:
        given = tuple((number, "d:1:2", len(self.pushed)) for number in range(receipts))
        self.outbox.push(frame, given)
        self.pushed.append(frame)
        self.queued.append(frame)
        self.total += len(frame) + 1
        self.expected += [(self.total, receipt) for receipt in given]

    @rule(terminator=TERMINATORS, data=st.data())
    def send_all_of_it(self, terminator: bytes, data: st.DataObject) -> None:
        self.begun += b"".join(frame + terminator for frame in self.queued)
        self.queued.clear()
        self.send(self.outbox.take(terminator), data)

    @rule(terminator=TERMINATORS, data=st.data())
    def send_a_frame(self, terminator: bytes, data: st.DataObject) -> None:
        if not self.begun and self.queued:
            self.begun = self.queued.pop(0) + terminator
        self.send(self.outbox.take_frame(terminator), data)

    @rule(terminator=TERMINATORS, whole=st.booleans())
    def take_and_send_nothing(self, terminator: bytes, whole: bool) -> None:
        if whole:
            self.begun += b"".join(frame + terminator for frame in self.queued)
            self.queued.clear()
            assert self.outbox.take(terminator) == self.begun
        else:
            if not self.begun and self.queued:
                self.begun = self.queued.pop(0) + terminator
            assert self.outbox.take_frame(terminator) == self.begun
        assert self.outbox.sent(0) == []

    def send(self, taken: bytes, data: st.DataObject) -> None:
        assert taken == self.begun
        count = data.draw(st.integers(0, len(taken)) | st.just(len(taken)))
        self.sent += taken[:count]
        self.begun = taken[count:]
        due = self.outbox.sent(count)
        self.got += due
        assert self.got == [receipt for place, receipt in self.expected if place <= len(self.sent)]

    @invariant()
    def size_is_what_was_not_sent(self) -> None:
        assert self.outbox.size == self.total - len(self.sent)
        assert bool(self.outbox) == (self.total > len(self.sent))
        assert self.outbox.over == (self.total - len(self.sent) > self.LIMIT)

    @invariant()
    def frames_go_out_whole_and_in_order(self) -> None:
        stream = b"".join(frame + b"\n" for frame in self.pushed)
        assert stream.startswith(self.sent.replace(b"\0", b"\n"))

    def teardown(self) -> None:
        """What is left goes out in the end, and no receipt with it stays behind."""
        self.got += self.outbox.sent(len(self.outbox.take(b"\n")))
        assert self.got == [receipt for _, receipt in self.expected]
        assert not self.outbox
        assert self.outbox.size == 0
        assert self.outbox.take(b"\n") == self.outbox.take_frame(b"\n") == b""


TestSending = Sending.TestCase
TestSending.settings = settings(BOUNDED, max_examples=60, stateful_step_count=20)


@pytest.mark.parametrize("take", [Outbox.take, Outbox.take_frame], ids=["take", "take_frame"])
def test_an_empty_outbox_has_nothing(take: Callable[[Outbox, bytes], bytes]) -> None:
    outbox = Outbox(0)
    assert not outbox
    assert not outbox.over
    assert take(outbox, b"\n") == b""
    assert outbox.sent(0) == []


def test_take_gives_everything_and_take_frame_one_frame() -> None:
    outbox = Outbox(100)
    for frame in (b"one", b"two", b"three"):
        outbox.push(frame)
    assert outbox.take_frame(b"\0") == b"one\0"
    assert outbox.take_frame(b"\0") == b"one\0"
    outbox.sent(4)
    assert outbox.take_frame(b"\0") == b"two\0"
    outbox.sent(1)
    assert outbox.take_frame(b"\n") == b"wo\0", "a frame begun is ended as it was begun"
    assert outbox.take(b"\n") == b"wo\0three\n"


def test_a_frame_is_ended_as_the_client_ends_its_own_when_it_is_taken() -> None:
    outbox = Outbox(100)
    outbox.push(b"one")
    assert outbox.take(b"\n") == b"one\n"
    outbox.push(b"two")
    assert outbox.take(b"\0") == b"one\ntwo\0"


def test_a_receipt_is_due_with_the_last_byte_of_its_frame_the_terminator() -> None:
    outbox = Outbox(100)
    outbox.push(b"ab", ((1, "d:1:2", 1),))
    outbox.push(b"c", ((1, "d:1:2", 2), (1, "g:5", 9)))
    outbox.take(b"\n")
    assert outbox.sent(2) == []
    assert outbox.sent(1) == [(1, "d:1:2", 1)]
    assert outbox.sent(1) == []
    assert outbox.sent(1) == [(1, "d:1:2", 2), (1, "g:5", 9)]
    assert outbox.sent(0) == []


def test_receipts_of_frames_pushed_while_others_were_being_sent() -> None:
    outbox = Outbox(100)
    outbox.push(b"ab")
    outbox.take(b"\n")
    outbox.sent(1)
    outbox.push(b"cd", ((1, "d:1:2", 1),))
    assert outbox.take(b"\n") == b"b\ncd\n"
    assert outbox.sent(4) == []
    assert outbox.sent(1) == [(1, "d:1:2", 1)]


@pytest.mark.parametrize(("limit", "over"), [(7, True), (8, False), (9, False)], ids=str)
def test_it_is_over_when_it_holds_more_than_its_limit_terminators_included(limit: int, over: bool) -> None:
    outbox = Outbox(limit)
    outbox.push(b"abc")
    outbox.push(b"def")
    assert outbox.size == 8
    assert outbox.over is over


@settings(BOUNDED, max_examples=60)
@given(st.lists(FRAMES, min_size=1, max_size=20), st.lists(st.integers(1, 5), min_size=1, max_size=200))
def test_however_little_the_kernel_takes_everything_goes_out(frames: list[bytes], takes: list[int]) -> None:
    outbox = Outbox(0)
    for seq, frame in enumerate(frames):
        outbox.push(frame, ((1, "g:1", seq),))
    out = b""
    due: list[Receipt] = []
    turn = 0
    while outbox:
        data = outbox.take_frame(b"\0")
        assert data.count(b"\0") == 1
        assert data.endswith(b"\0")
        count = min(len(data), takes[turn % len(takes)])
        out += data[:count]
        due += outbox.sent(count)
        assert len(due) == out.count(b"\0")
        turn += 1
    assert out == b"".join(frame + b"\0" for frame in frames)
    assert due == [(1, "g:1", seq) for seq in range(len(frames))]


def test_deliveries_that_were_not_taken_are_dropped_with_their_receipts() -> None:
    outbox = Outbox(100)
    outbox.push(b"one", ((1, "g:1", 1),), delivery=True)
    outbox.push(b"two", ((1, "g:1", 2),), delivery=True)
    assert outbox.take_frame(b"\0") == b"one\0"
    outbox.sent(2)
    outbox.push(b"answer")
    outbox.push(b"three", ((1, "g:1", 3),), delivery=True)
    outbox.drop_deliveries()
    assert outbox.size == len(b"e\0answer\0")
    assert outbox.take_frame(b"\0") == b"e\0", "what was begun is finished"
    assert outbox.sent(2) == [(1, "g:1", 1)]
    outbox.push(b"next", ((2, "g:1", 3),), delivery=True)
    assert outbox.take(b"\n") == b"answer\nnext\n"
    assert outbox.sent(12) == [(2, "g:1", 3)]
    assert not outbox


def test_one_frame_that_is_larger_than_the_limit_is_not_counted() -> None:
    outbox = Outbox(8)
    over = []
    for frame in (b"x" * 20, b"abc", b"def", b"y" * 20):
        outbox.push(frame)
        over.append(outbox.over)
    assert over == [False, False, False, True]
    outbox.take(b"\n")
    over.clear()
    for count in (21, 8, 13):
        outbox.sent(count)
        over.append(outbox.over)
    assert over == [True, True, False], "the second one counts, also when the first has been sent"
    outbox.push(b"x" * 20)
    assert outbox.over is False


def test_a_receipt_without_a_frame_is_due_after_all_that_is_queued() -> None:
    outbox = Outbox(100)
    outbox.mark((1, "g:1", 1))
    assert outbox.sent(0) == [(1, "g:1", 1)]
    outbox.push(b"ab", ((1, "g:1", 2),))
    outbox.mark((1, "g:1", 3))
    outbox.push(b"cd")
    outbox.take(b"\n")
    assert outbox.sent(2) == []
    assert outbox.sent(1) == [(1, "g:1", 2), (1, "g:1", 3)]
