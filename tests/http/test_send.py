"""`WebSocketTransport.send_nowait` with a kernel that takes what it likes."""

from __future__ import annotations

import random
import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests.http.raw import masked
from tests.pure.bounds import BOUNDED
from trio_chat.transport.contract import End, TransportBroken
from trio_chat.transport.websocket import WebSocketTransport


class Kernel:
    """The transport below: takes at most `room` bytes."""

    kind = "kernel"
    committed = 0
    peer = "nobody"

    def __init__(self) -> None:
        self.taken = b""
        self.room = 0
        self.calls = 0
        self.ended = False

    def send_nowait(self, data: bytes) -> int:
        self.calls += 1
        part = data[: self.room]
        self.room -= len(part)
        self.taken += part
        return len(part)

    def end(self, _: End) -> bool:
        self.ended = True
        return False


def transport_on(kernel: Kernel) -> WebSocketTransport:
    return WebSocketTransport(cast(Any, kernel), ServerProtocol(state=State.OPEN))


def frames_in(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames, and what is left."""
    frames = []
    while len(data) >= 2:
        size, head = data[1], 2
        if size == 126:
            if len(data) < 4:
                break
            size, head = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            if len(data) < 10:
                break
            size, head = struct.unpack("!Q", data[2:10])[0], 10
        if len(data) < head + size:
            break
        assert data[0] & 0xF0 == 0x80
        frames.append((data[0] & 0x0F, data[head : head + size]))
        data = data[head + size :]
    return frames, data


SIZES = st.sampled_from([0, 1, 5, 124, 125, 126, 127, 500, 65535, 65536, 70000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), SIZES),
        st.tuples(st.just("room"), st.integers(0, 200)),
        st.tuples(st.just("room"), st.integers(0, 200_000)),
        st.tuples(st.just("ping"), st.integers(0, 125)),
    ),
    max_size=40,
)


@BOUNDED
@given(STEPS)
def test_whatever_the_kernel_takes_every_frame_goes_out_once_and_counts_when_it_is_whole(
    steps: list[tuple[str, int]],
) -> None:
    kernel = Kernel()
    transport = transport_on(kernel)
    queued = b""
    whole: list[bytes] = []
    counted = 0
    for number, (what, value) in enumerate(steps):
        if what == "queue":
            frame = (b"%d " % number).ljust(value, b"x")[:value]
            whole.append(frame)
            queued += frame + b"\n"
        elif what == "ping":
            transport._protocol.receive_data(b"\x89" + bytes([0x80 | value]) + b"\0\0\0\0" + b"p" * value)
            assert transport._take_messages() == b""
        else:
            kernel.room = value
        if queued:
            calls = kernel.calls
            count = transport.send_nowait(queued)
            assert kernel.calls == calls + 1, "one system call for all"
            queued = queued[count:]
            counted += count
        texts = [payload for opcode, payload in frames_in(kernel.taken)[0] if opcode == 1]
        assert texts == whole[: len(texts)]
        # What was counted has gone out; of what has gone out only what a later call finished is not counted.
        assert counted <= sum(len(text) + 1 for text in texts)
    kernel.room = 1 << 30
    # A pong that there was no room for goes with what is sent next.
    whole.append(b"the last")
    queued += b"the last\n"
    while queued:
        queued = queued[transport.send_nowait(queued) :]
    frames, rest = frames_in(kernel.taken)
    assert [payload for opcode, payload in frames if opcode == 1] == whole
    assert rest == b""
    assert transport.end(End.DRAINING)
    assert frames_in(kernel.taken)[0][-1] == (8, b"\x03\xe9draining")
    assert kernel.ended
    with pytest.raises(TransportBroken):
        transport.send_nowait(b"late\n")


def test_a_flood_of_pings_holds_some_pongs() -> None:
    kernel = Kernel()
    transport = transport_on(kernel)
    for number in range(1000):
        transport._protocol.receive_data(b"\x89\x84\0\0\0\0%04d" % number)
        transport._take_messages()
    kernel.room = 1 << 30
    transport._protocol.receive_data(b"\x89\x84\0\0\0\0last")
    transport._take_messages()
    frames, rest = frames_in(kernel.taken)
    assert frames[-1] == (10, b"last")
    assert len(frames) < 1000
    assert len(kernel.taken) <= 4096
    assert rest == b""


def test_a_long_queue_goes_out_in_turns() -> None:
    kernel = Kernel()
    kernel.room = 1 << 30
    transport = transport_on(kernel)
    queued = b"".join(b"x" * 1000 + b"\n" for _ in range(1000))
    count = transport.send_nowait(queued)
    assert 200_000 < count < 300_000


def test_the_close_code_gets_through_behind_a_frame_that_has_begun() -> None:
    kernel = Kernel()
    transport = transport_on(kernel)
    kernel.room = 10
    assert transport.send_nowait(b"x" * 100 + b"\n") == 0
    kernel.room = 1 << 30
    assert transport.end(End.SILENT)
    assert [opcode for opcode, _ in frames_in(kernel.taken)[0]] == [1, 8]
    transport._inner.close = lambda: None  # type: ignore[method-assign]
    transport.close()


MESSAGES = st.lists(st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), max_size=300), max_size=10)


@BOUNDED
@given(MESSAGES, st.randoms(use_true_random=False))
def test_however_it_is_cut_every_message_comes_once_and_whole(messages: list[str], choose: random.Random) -> None:
    data = b""
    for message in messages:
        rest = message.encode()
        opcode = 1
        while choose.random() < 0.5:
            size = choose.randint(0, len(rest))
            data += masked(opcode, rest[:size], fin=False)
            rest, opcode = rest[size:], 0
            if choose.random() < 0.3:
                data += masked(9, b"ping")
        data += masked(opcode, rest)
    kernel = Kernel()
    kernel.room = 1 << 30
    transport = transport_on(kernel)
    received = b""
    while data:
        size = choose.randint(1, len(data))
        transport._protocol.receive_data(data[:size])
        received += transport._take_messages()
        data = data[size:]
    assert received == b"".join(message.encode() + b"\n" for message in messages)
    assert {opcode for opcode, _ in frames_in(kernel.taken)[0]} <= {10}
