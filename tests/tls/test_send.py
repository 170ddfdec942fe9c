"""`TlsTransport.send_nowait` with a kernel that takes what it likes, alone and with a WebSocket upon it."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests.http.test_send import SIZES, frames_in
from tests.pure.bounds import BOUNDED
from tests.services.certificates import Certificate
from trio_chat.transport.contract import End, Reader, TransportBroken
from trio_chat.transport.tls import TlsTransport
from trio_chat.transport.websocket import WebSocketTransport


class Line:
    """The transport below, and the client at its other end: the kernel takes at most `room` bytes."""

    kind = "kernel"
    peer = "nobody"
    committed = 0

    def __init__(self, trust: ssl.SSLContext) -> None:
        self.room = 1 << 30
        self.ended = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.received = b""
        #: What the client sends after its handshake, before it ends its half.
        self.pieces: list[bytes] = []

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        data = self._outgoing.read()
        assert data
        return data

    def attend(self, reader: Reader) -> None:
        while self.pieces:
            if not reader.received(self.pieces.pop(0)):
                return
        reader.ended(None)

    def ignore(self) -> None:
        pass

    def send_nowait(self, data: bytes) -> int:
        part = data[: self.room]
        self.room -= len(part)
        self._incoming.write(part)
        return len(part)

    def read(self) -> bytes:
        """All that has come so far."""
        try:
            while piece := self.client.read(65536):
                self.received += piece
        except ssl.SSLWantReadError:
            pass
        return self.received

    def say(self, data: bytes) -> bytes:
        """What the client puts on the wire to say that."""
        self.client.write(data)
        return self._outgoing.read()

    def end(self, _: End) -> bool:
        self.ended = True
        return False

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def shown(issued: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def through(trust: ssl.SSLContext, shown: ssl.SSLContext) -> tuple[Line, TlsTransport]:
    """A line and a transport that has done its handshake over it."""
    line = Line(trust)
    transport = TlsTransport(cast(Any, line), shown)
    trio.run(transport.handshake)
    assert line.read() == b""
    return line, transport


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), SIZES),
        st.tuples(st.just("room"), st.integers(0, 200)),
        st.tuples(st.just("room"), st.integers(0, 200_000)),
    ),
    max_size=30,
)


@BOUNDED
@given(steps=STEPS)
def test_whatever_the_kernel_takes_every_byte_comes_once_and_counts_when_it_is_gone(
    trust: ssl.SSLContext, shown: ssl.SSLContext, steps: list[tuple[str, int]]
) -> None:
    line, transport = through(trust, shown)
    line.room = 0
    said = queued = b""
    counted = 0
    for number, (what, value) in enumerate(steps):
        if what == "queue":
            more = (b"%d " % number).ljust(value, b"x")[:value] + b"\n"
            said += more
            queued += more
        else:
            line.room = value
        count = transport.send_nowait(queued)
        queued = queued[count:]
        counted += count
        assert said.startswith(line.read())
        assert counted <= len(line.received), "what was counted has gone out"
        assert transport.committed <= len(queued)
    line.room = 1 << 30
    while queued:
        queued = queued[transport.send_nowait(queued) :]
    assert line.read() == said
    assert not transport.end(End.DRAINING)
    assert line.ended
    assert line.read() == said
    with pytest.raises(TransportBroken):
        transport.send_nowait(b"late\n")


@BOUNDED
@given(steps=STEPS, pings=st.lists(st.integers(0, 30), max_size=10))
def test_with_a_websocket_upon_it_every_frame_comes_once_in_order_and_whole(
    trust: ssl.SSLContext, shown: ssl.SSLContext, steps: list[tuple[str, int]], pings: list[int]
) -> None:
    """Pongs come in between where nothing of what was encrypted stands behind them."""
    line, encrypted = through(trust, shown)
    transport = WebSocketTransport(encrypted, ServerProtocol(state=State.OPEN))
    line.room = 0
    queued = b""
    whole = []
    for number, (what, value) in enumerate(steps):
        if number in pings:
            transport._protocol.receive_data(b"\x89\x84\0\0\0\0ping")
            transport._take_messages()
        if what == "queue":
            frame = (b"%d " % number).ljust(value, b"x")[:value]
            whole.append(frame)
            queued += frame + b"\n"
        else:
            line.room = value
        if queued:
            queued = queued[transport.send_nowait(queued) :]
        texts = [payload for opcode, payload in frames_in(line.read())[0] if opcode == 1]
        assert texts == whole[: len(texts)]
    line.room = 1 << 30
    assert transport.end(End.DRAINING)
    frames, rest = frames_in(line.read())
    assert rest == b""
    assert frames[-1] == (8, b"\x03\xe9draining")
    texts = [payload for opcode, payload in frames if opcode == 1]
    assert texts == whole[: len(texts)]


def test_a_long_queue_goes_out_in_turns(trust: ssl.SSLContext, shown: ssl.SSLContext) -> None:
    line, transport = through(trust, shown)
    assert transport.send_nowait(b"x" * 1_000_000) == 65536
    assert line.read() == b"x" * 65536


async def test_half_an_end_is_still_answered(trust: ssl.SSLContext, shown: ssl.SSLContext) -> None:
    line = Line(trust)
    transport = TlsTransport(cast(Any, line), shown)
    await transport.handshake()
    line.pieces = [line.say(b"question")]
    assert await transport.receive() == b"question"
    assert await transport.receive() == b""
    assert await transport.receive() == b"", "it is the end from then on"
    assert transport.send_nowait(b"answer") == 6
    assert line.read() == b"answer"


async def test_however_it_is_cut_everything_comes_once(trust: ssl.SSLContext, shown: ssl.SSLContext) -> None:
    line = Line(trust)
    transport = TlsTransport(cast(Any, line), shown)
    await transport.handshake()
    said = b"".join(b"%d," % number for number in range(30_000))
    wire = b"".join(line.say(said[start : start + 5000]) for start in range(0, len(said), 5000))
    for size in [1, 4, 5, 30, 70_000, 3, *[10_000] * 100]:
        if wire:
            line.pieces.append(wire[:size])
            wire = wire[size:]
    heard = b""
    while data := await transport.receive():
        heard += data
    assert heard == said


async def test_what_is_no_tls_is_an_end_with_a_reason(shown: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    line = Line(trust)

    async def receive() -> bytes:
        await trio.lowlevel.checkpoint()
        return b"GET / HTTP/1.1\r\n\r\n"

    line.receive = receive  # type: ignore[method-assign]
    transport = TlsTransport(cast(Any, line), shown)
    with pytest.raises(TransportBroken, match="http request"):
        await transport.handshake()
    transport.close()
