"""What a client gets: answers, notices and messages, queued in its outbox and handed to the kernel without waiting.

A task that writes is there only while the kernel does not take all of it, or while a client wants one frame at a time.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import structlog
import trio

from trio_chat.outbox import Outbox, Receipt
from trio_chat.session import Dialect, Session
from trio_chat.tasks import Tasks
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.wire import classic
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind, Ref, answer_kind, encode

if TYPE_CHECKING:
    from trio_chat.errors import RequestError
    from trio_chat.node import Node
    from trio_chat.router import LocalAccount

__all__ = ["UNANSWERED", "Sender", "take_leave"]

log = structlog.get_logger(__name__)

#: How long bytes that a client does not expect any more are read, so that closing does not destroy the last answer.
_DISCARD = 1.0
#: Nobody waits for what becomes of these.
UNANSWERED = {Kind.RECEIVED, Kind.PONG}
_EVERYDAY = {End.DONE, End.TOO_LONG, End.BROKEN, End.DRAINING, End.FAILED}
#: The backlog fills the outbox up to this part of its limit: what is new meanwhile finds room beside it.
_BACKLOG_SHARE = 4


class Sender(Tasks, ABC):
    """The half of a connection that sends, and what makes it give up: a client that has gone, or does not read.

    Whose messages are delivered says `account`, how they are written the session's dialect. What becomes of the receipts
    of what the kernel has taken, `Connection` says.
    """

    #: There may be very many connections, most of them idle: a dictionary each would be a fifth of their memory.
    __slots__ = (
        "_counters",
        "_dirty",
        "_drained",
        "_next_frame_at",
        "_outbox",
        "_reason",
        "_splitter",
        "_transport",
        "_writing",
        "account",
        "node",
        "peer",
        "session",
    )

    def __init__(self, node: Node, transport: Transport) -> None:
        super().__init__()
        limits = node.settings.limits
        self.node = node
        self.session = Session()
        self.account: LocalAccount | None = None
        self.peer = transport.peer
        self._transport = transport
        self._counters = node.counters
        # What it has learnt of how the client's frames end holds for those to it too.
        self._splitter = FrameSplitter(limits.frame)
        self._outbox = Outbox(limits.outbox)
        # There while somebody waits for what is queued to become less.
        self._drained: trio.Event | None = None
        self._writing = False
        self._dirty = False
        self._next_frame_at = 0.0
        self._reason = End.DONE

    # -- what it gets -------------------------------------------------------------------------------------------------

    def answer(self, kind: Kind, ref: Ref | None, fields: dict[str, Any]) -> None:
        """Send the one answer to a request."""
        frame: dict[str, Any] = {"msgid": int(kind)}
        if ref is not None:
            frame["ref"] = ref
        frame.update(fields)
        self.send(encode(frame))

    def succeed(self, ref: Ref | None, fields: dict[str, Any]) -> None:
        """REPLY to a request that has succeeded; a classic client expects none."""
        if self.session.dialect is Dialect.MODERN:
            self.answer(Kind.REPLY, ref, {"errno": 0, **fields})

    def _fail(self, kind: Kind | None, ref: Ref | None, error: RequestError) -> None:
        self._counters.rejected[error.error] += 1
        if error.limit:
            self._counters.reached[error.limit] += 1
        if kind is Kind.LOGIN:
            self._counters.logins[error.error] += 1
        if kind in UNANSWERED:
            return
        fields = error.fields()
        if self.session.dialect is Dialect.CLASSIC and kind is Kind.REGISTER and error.errno == 1:
            fields = {"errno": 1}
        self.answer(answer_kind(kind), ref, fields)

    def send(self, frame: bytes, receipts: tuple[Receipt, ...] = (), *, delivery: bool = False) -> None:
        """Queue a frame, without its terminator; the router's next `flush` sends it. Never blocks.

        Where the outbox is full the connection is closed: its client does not read. A `delivery` that is still queued
        when the account logs out is dropped.
        """
        outbox = self._outbox
        outbox.push(frame, receipts, delivery=delivery)
        if outbox.size > outbox.limit and outbox.over:
            self.flush()
            if outbox.over:
                self._counters.reached["outbox"] += 1
                self.close(End.DEAF)
        if not self._dirty:
            self.queue()

    def queue(self) -> None:
        """Have the router's next `flush` send what is queued until then, in its turn. Never blocks."""
        self._dirty = True
        self.node.router.dirty.append(self)

    def notify(self, frame: bytes) -> None:
        """Queue a frame of a kind that only modern clients know."""
        if self.session.dialect is Dialect.MODERN:
            self.send(frame)

    def deliver(self, delivery: Delivery) -> None:
        """Queue a message of a conversation."""
        self._counters.delivered += 1
        if self.session.dialect is Dialect.MODERN:
            # Such a client knows by LOGOUT's REPLY what was sent to whom.
            self.send(delivery.modern())
            return
        assert self.account is not None
        if delivery.is_own(self.account.id):
            # It is not sent back, and is received in its turn.
            self._outbox.mark((self.account.id, delivery.conv, delivery.seq))
            self._receive(self._outbox.sent(0))
            return
        parts = classic.split_delivery(delivery, classic.BUFFER - 1) if self.paced else [delivery.classic()]
        receipt = (self.account.id, delivery.conv, delivery.seq)
        for number, part in enumerate(parts, 1):
            self.send(part, (receipt,) if number == len(parts) else (), delivery=True)

    # -- how it is sent -----------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""
        return self._outbox.size

    @property
    def paced(self) -> bool:
        """Whether this is one of the existing clients, which want each frame alone and small."""
        return self.session.dialect is Dialect.CLASSIC and self._splitter.terminator == b"\0"

    def flush(self) -> None:
        """Hand what is queued to the kernel; what it does not take is left to a task. Never blocks."""
        self._dirty = False
        outbox = self._outbox
        if self._writing or not outbox.size or self._ending:
            return
        if not self.paced:
            self._send_some(outbox.take(self._splitter.terminator))
            if not outbox.size:
                return
        self._writing = True
        self._start(self._write)

    async def _write(self) -> None:
        """Send what is queued as the kernel takes it, and for a paced client frame by frame."""
        stall = 2 * self.node.settings.heartbeat
        try:
            while self._outbox and not self._ending:
                terminator = self._splitter.terminator
                if self.paced:
                    await trio.sleep_until(self._next_frame_at)
                    data = self._outbox.take_frame(terminator)
                    self._next_frame_at = trio.current_time() + self.node.settings.pace
                else:
                    data = self._outbox.take(terminator)
                if not self._send_some(data):
                    with trio.move_on_after(stall) as patience:
                        await self._transport.wait_writable()
                    if patience.cancelled_caught:
                        self.close(End.DEAF)
        except TransportBroken:
            self.close(End.BROKEN)
        finally:
            self._writing = False

    def _send_some(self, data: bytes) -> int:
        try:
            count = self._transport.send_nowait(data)
        except TransportBroken:
            self.close(End.BROKEN)
            return len(data)
        if count:
            if receipts := self._outbox.sent(count):
                self._receive(receipts)
            self._less_queued()
        return count

    @abstractmethod
    def _receive(self, receipts: list[Receipt]) -> None:
        """The kernel has taken what gives these receipts. Never blocks."""

    def _less_queued(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def wait_drained(self, size: int | None = None) -> None:
        """Wait until at most `size` bytes are queued, or the connection ends. Cancelling is safe.

        Without a `size`: until there is room for more of the backlog.
        """
        if size is None:
            size = self._outbox.limit // _BACKLOG_SHARE
        while self._outbox.size > size and not self._ending:
            self.flush()
            if self._outbox.size > size and not self._ending:
                if self._drained is None:
                    self._drained = trio.Event()
                await self._drained.wait()

    # -- its end ------------------------------------------------------------------------------------------------------

    def close(self, reason: End) -> None:
        """End the connection now; what is queued is lost here and comes again after the next login. Never blocks."""
        if not self._ending:
            # A client that ends or breaks off is everyday life, one that the server gives up on is worth a line.
            say = log.debug if reason in _EVERYDAY else log.info
            say("closing a connection", reason=reason.value, peer=self.peer, user=self.account and self.account.id)
            self._reason = reason
            self._transport.ignore()
            self._stop()
            self.node.departures.add(self)

    def fail(self, error: Exception) -> None:
        """End the connection because of a defect of the server, and log it. Never blocks."""
        log.error("connection failed", peer=self.peer, user=self.account and self.account.id, exc_info=error)
        self.close(End.FAILED)


async def take_leave(transport: Transport, reason: End) -> None:
    """Say why this is the end, and see to it that the client can hear it. Cancelling is safe."""
    if transport.end(reason):
        with trio.move_on_after(_DISCARD), contextlib.suppress(TransportBroken):
            while await transport.receive():
                pass
