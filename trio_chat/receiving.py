"""What a client sends: read as long as there is room for it, and done in its order.

A request that does not have to wait is done at once, by whoever brought the bytes; one that has to wait for the database
is worked off by a task that is there only as long as such requests are, and those that come after it wait behind it. A
message is in flight until it is answered. Where too much waits the client is not read from.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from trio_chat.errors import RateLimited, RequestError, TooLarge, Unavailable
from trio_chat.meter import Meter
from trio_chat.sending import UNANSWERED, Sender
from trio_chat.session import Dialect
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.transport.proxy import begins_proxied
from trio_chat.wire.messages import KINDS, Kind, Ref, Request, encode, open_envelope

if TYPE_CHECKING:
    from trio_chat.node import Node
    from trio_chat.store.append import Stored

__all__ = ["Pending", "Receiver"]

log = structlog.get_logger(__name__)

#: A client that ends its half is still answered and sent what is queued, for at most this long (seconds).
_LINGER = 5.0
#: So many frames of one connection are taken before others have their turn.
_AT_ONCE = 200
_REPLY = int(Kind.REPLY)
#: Why a connection is refused that begins with a PROXY header which is not expected.
_NOT_TRUSTED = "a PROXY header from an address that is not believed; see the setting proxy_from"


@attrs.frozen
class Pending:
    """A request that has to wait for the database."""

    kind: Kind
    ref: Ref | None
    request: Request


class Receiver(Sender):
    """Both halves of a connection: what is received here is answered by the half that sends.

    How a request is checked and done, `Connection` says.
    """

    __slots__ = (
        "_heard",
        "_in_flight",
        "_much",
        "_over",
        "_room",
        "_storing",
        "_waiting",
        "last_heard",
        "meter",
        "pinged",
    )

    def __init__(self, node: Node, transport: Transport) -> None:
        super().__init__(node, transport)
        # Whether bytes have come; when they last came, or the server listened again: infinity while it does not listen.
        self._heard = False
        self.last_heard = trio.current_time()
        self.pinged = False
        self.meter = None if node.rates is None else Meter(node.rates)
        self._waiting: list[Pending | bytes] = []
        # Messages sent here: those that the writer has, and all that are not answered.
        self._storing = 0
        self._in_flight = 0
        # What has come and is too much to be done at once, and by how many seconds' worth it is over the limits.
        self._much: Sequence[bytes] = ()
        self._over = 0.0
        # Set when what waits becomes less; there while somebody waits for it.
        self._room: trio.Event | None = None

    # -- reading ------------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        """Do what the client has sent; returns whether to read on at once. Called by whoever noticed that there is something.

        Where it is not, a task waits until there is room.
        """
        node = self.node
        if not self._heard:
            self._heard = True
            if begins_proxied(data):
                log.warning("connection refused", peer=self.peer, reason=_NOT_TRUSTED)
                self.close(End.DONE)
                return False
        try:
            self.last_heard = trio.current_time()
            self.pinged = False
            frames = self._splitter.feed(data)
            self._counters.frames += len(frames)
            if self.meter is not None:
                self._over = self.meter.charge(self.last_heard, len(frames), len(data))
            if self._over > 0 or len(frames) > _AT_ONCE:
                # That takes time: it is left to a task.
                self._much = frames
                self._start(self._read_on)
                return False
            for frame in frames:
                self._take(frame)
            if self._splitter.overflowed:
                self._end_too_long()
            node.router.flush()
        except Exception as error:  # noqa: BLE001 - it is logged there
            self.fail(error)
        wanted = not self._splitter.overflowed and not node.writer.full and self._has_room() and not self._ending
        if not wanted:
            self._start(self._read_on)
        return wanted

    def ended(self, failure: Exception | None) -> None:
        """Nothing more comes: the client has ended its half, has broken off, or cannot be understood any more."""
        if failure is None:
            if self._waiting or self._in_flight or self._outbox:
                self._start(self._finish)
            else:
                self.close(self._reason)
        elif isinstance(failure, TransportBroken):
            self.close(End.BROKEN)
        else:
            self.fail(failure)

    async def _read_on(self) -> None:
        """Do what was too much to be done at once, wait until there is room for more, and read on."""
        if self._much:
            await self._take_much()
        if self._splitter.overflowed:
            await self._finish()
        else:
            await self._wait_until_read_on()
            await trio.lowlevel.checkpoint_if_cancelled()
            self._transport.attend(self)

    def _end_too_long(self) -> None:
        limit = self.node.settings.limits.frame
        self._fail(None, None, TooLarge(f"a frame is at most {limit} bytes", limit="frame"))
        self._reason = End.TOO_LONG

    def _has_room(self) -> bool:
        limits = self.node.settings.limits
        return self._in_flight < limits.in_flight and len(self._waiting) < limits.requests

    async def _take_much(self) -> None:
        """Do very many requests, some at a time, as there is room; or, where too many came, what of them is to be done."""
        frames, self._much = self._much, ()
        over, self._over = self._over, 0.0
        if over > 0:
            frames = await self._restrain(frames, over)
        for start in range(0, len(frames), _AT_ONCE):
            if start:
                await trio.lowlevel.checkpoint()
                await self._wait_until_read_on()
            for frame in frames[start : start + _AT_ONCE]:
                self._take(frame)
            self.node.router.flush()
        if self._splitter.overflowed:
            self._end_too_long()

    async def _restrain(self, frames: Sequence[bytes], over: float) -> Sequence[bytes]:
        """Too much has come, by `over` seconds' worth. Returns what is to be done of it.

        A classic client is kept waiting. A modern one is refused, and kept waiting where it sends on regardless: so what
        the refusals cost is bounded too.
        """
        assert self.meter is not None
        limit = self.meter.reached
        # While it is the server that does not listen, the client's silence means nothing.
        self.last_heard = math.inf
        if self.session.dialect is Dialect.CLASSIC:
            self._counters.reached[limit] += 1
            await trio.sleep(over)
            return frames
        kept = []
        for number, frame in enumerate(frames, 1):
            if number % _AT_ONCE == 0:
                self.node.router.flush()
                await trio.lowlevel.checkpoint()
            kind, ref = _kind_and_ref(frame)
            if kind in UNANSWERED:
                kept.append(frame)
            else:
                self._fail(kind, ref, RateLimited(math.ceil(over * 10) / 10, "you send too much", limit=limit))
        self.node.router.flush()
        if over > self.meter.rates.burst:
            await trio.sleep(over - self.meter.rates.burst)
        return kept

    async def _wait_until_read_on(self) -> None:
        """Wait as long as too much of this connection, or of all, awaits its turn or its commit."""
        limits, writer = self.node.settings.limits, self.node.writer
        self.last_heard = math.inf
        while not self._has_room():
            self._counters.reached["requests" if len(self._waiting) >= limits.requests else "in_flight"] += 1
            await self._wait_room()
        if writer.full:
            self._counters.reached["queue"] += 1
            await writer.wait_room()
        self.last_heard = trio.current_time()

    async def _finish(self) -> None:
        """Nothing more is read: answer what the client asked, send what is queued, for a bounded time, and end."""
        with trio.move_on_after(_LINGER):
            while self._waiting:
                await self._wait_room()
            await self.wait_answered()
            self.flush()
            await self.wait_drained(0)
        self.close(self._reason)

    @property
    def held(self) -> int:
        """Bytes that this connection has the server keep: unsent, half received, or waiting for their turn."""
        size = self._outbox.size + self._splitter.pending
        if self._waiting:
            size += sum(len(item) for item in self._waiting if isinstance(item, bytes))
        return size

    # -- requests, one after the other --------------------------------------------------------------------------------

    def _take(self, frame: bytes) -> None:
        """Do a request now, or have it wait for its turn behind those that wait already."""
        if self._waiting:
            # A sign of life is not kept waiting by a slow database.
            if _is_ping(frame):
                self._begin(frame)
            else:
                self._waiting.append(frame)
            return
        pending = self._begin(frame)
        if pending is not None:
            self._waiting.append(pending)
            self._start(self._work_off)

    async def _work_off(self) -> None:
        """Do the requests that wait, one after the other.

        Where the database is away those that came while one waited for it would wait as long again, each, for the same
        answer: they get it at once.
        """
        hopeless = 0
        while self._waiting:
            item = self._waiting[0]
            pending = self._begin(item) if isinstance(item, bytes) else item
            if pending is not None and hopeless:
                self._fail(pending.kind, pending.ref, Unavailable())
            elif pending is not None and not await self._perform(pending):
                hopeless = len(self._waiting)
            hopeless = max(0, hopeless - 1)
            del self._waiting[0]
            self._more_room()
            self.node.router.flush()

    @abstractmethod
    def _begin(self, frame: bytes) -> Pending | None:
        """Check a request and do it, or return it where it has to await something."""

    @abstractmethod
    async def _perform(self, pending: Pending) -> bool:
        """Do a request that awaits something. Returns False where the database was away."""

    # -- messages in flight -------------------------------------------------------------------------------------------

    @property
    def storing(self) -> bool:
        """Whether the writer has messages that were sent here."""
        return self._storing > 0

    async def wait_stored(self) -> None:
        """Wait until every message sent here has been stored or has failed. Cancelling is safe."""
        while self._storing:
            await self._wait_room()

    async def wait_answered(self) -> None:
        """Wait until every message sent here is answered, each in its place. Cancelling is safe."""
        while self._in_flight:
            await self._wait_room()

    async def _wait_room(self) -> None:
        if self._room is None:
            self._room = trio.Event()
        await self._room.wait()

    def _more_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def message_submitted(self) -> None:
        """A message is on its way to the writer. It is in flight until it is answered."""
        self._storing += 1
        self._in_flight += 1

    def message_stored(self, ref: Ref | None, where: Stored) -> bytes | None:
        """The writer has stored a message that was sent here; returns the reply, which a classic client does not get.

        The reply has to be handed to `message_answered`, the absent one too.
        """
        self._storing -= 1
        self._more_room()
        if self.session.dialect is Dialect.CLASSIC:
            return None
        if ref is None:
            return encode({"msgid": _REPLY, "errno": 0, "conv": where.conv, "seq": where.seq, "ts": where.ts})
        return encode({"msgid": _REPLY, "ref": ref, "errno": 0, "conv": where.conv, "seq": where.seq, "ts": where.ts})

    def message_failed(self, ref: Ref | None, error: RequestError) -> None:
        """The writer could not store a message that was sent here."""
        self._storing -= 1
        self.message_answered(None)
        self._fail(Kind.DIRECT, ref, error)

    def message_answered(self, reply: bytes | None) -> None:
        """A message that was sent here has been stored and its place has come, or it needs none: send its reply."""
        self._in_flight -= 1
        self._more_room()
        if reply is not None:
            self.send(reply)


def _is_ping(frame: bytes) -> bool:
    return _kind_and_ref(frame)[0] in {Kind.PING, Kind.PONG}


def _kind_and_ref(frame: bytes) -> tuple[Kind | None, Ref | None]:
    """What a frame is, as far as that can be told."""
    try:
        envelope = open_envelope(frame)
    except RequestError:
        return None, None
    return KINDS.get(envelope.msgid), envelope.ref
