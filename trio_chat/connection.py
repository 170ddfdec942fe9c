"""One client: what it sends is read, checked against the session's table, and done; what it gets is queued and sent.

A connection runs in a nursery of its own. Its reader is there always; a task that works off requests which wait for the
database, one that writes what the kernel did not take at once, and one that brings what was missed are started when
there is something to do and end when it is done. Whatever happens, `_end` forgets the connection: it is synchronous, so
no cancellation can come in between.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import attrs
import structlog
import trio

from trio_chat.backlog import catch_up
from trio_chat.commands import COMMANDS, DEAF
from trio_chat.errors import (
    Internal,
    LoginRevoked,
    RateLimited,
    RequestError,
    ShuttingDown,
    TooLarge,
    Unavailable,
    UnknownKind,
)
from trio_chat.meter import Meter
from trio_chat.outbox import Outbox, Receipt
from trio_chat.services.tokens import Origin
from trio_chat.session import Dialect, Identity, Session
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.transport.proxy import begins_proxied
from trio_chat.wire import classic
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import KINDS, Kind, Ref, Request, answer_kind, decode, encode, open_envelope

if TYPE_CHECKING:
    from trio_chat.node import Node
    from trio_chat.router import LocalAccount
    from trio_chat.store.append import Stored

__all__ = ["Connection", "turn_away"]

log = structlog.get_logger(__name__)

#: A client that ends its half is still answered and sent what is queued, for at most this long (seconds).
_LINGER = 5.0
#: How long bytes that a client does not expect any more are read, so that closing does not destroy the last answer.
_DISCARD = 1.0
#: How often, in seconds, others are told that a client is typing, and in how many conversations it can type at a time.
_TYPING_PAUSE = 3.0
_TYPING_IN = 20
#: So many frames of one connection are taken before others have their turn.
_AT_ONCE = 200
_REPLY = int(Kind.REPLY)
#: Why a connection is refused that begins with a PROXY header which is not expected.
_NOT_TRUSTED = "a PROXY header from an address that is not believed; see the setting proxy_from"
#: Nobody waits for what becomes of these.
_UNANSWERED = {Kind.RECEIVED, Kind.PONG}
#: The backlog fills the outbox up to this part of its limit: what is new meanwhile finds room beside it.
_BACKLOG_SHARE = 4


@attrs.frozen
class _Pending:
    """A request that has to wait for the database."""

    kind: Kind
    ref: Ref | None
    request: Request


class Connection:
    """A client's session, outbox and place in the conversations.

    `lag` has, for each conversation in which this connection is behind (or, after a join, ahead of) what the node has
    delivered, the last seq that it was handed; in all others it is where the node is. `begun` has those of them in which it
    was handed something. `own` has the replies to messages sent here in a conversation that lags: each waits for its place.
    """

    #: There may be very many connections, most of them idle: a dictionary each would be a fifth of their memory.
    __slots__ = (
        "_catching_up",
        "_counters",
        "_dirty",
        "_drained",
        "_ended",
        "_ending",
        "_in_flight",
        "_much",
        "_next_frame_at",
        "_nursery",
        "_outbox",
        "_over",
        "_reason",
        "_room",
        "_splitter",
        "_storing",
        "_transport",
        "_typing",
        "_waiting",
        "_writing",
        "account",
        "begun",
        "client",
        "epoch",
        "lag",
        "last_heard",
        "meter",
        "network",
        "node",
        "own",
        "peer",
        "pinged",
        "prefetched",
        "receipts",
        "session",
        "token",
    )

    def __init__(self, node: Node, transport: Transport) -> None:
        limits = node.settings.limits
        self.node = node
        self.session = Session()
        self.account: LocalAccount | None = None
        self.token: str | None = None
        self.lag: dict[str, int] = {}
        self.begun: dict[str, None] = {}
        self.own: dict[tuple[str, int], bytes | None] = {}
        self.prefetched: list[Delivery] = []
        # When bytes last came, or the server listened again; infinity while it does not listen.
        self.last_heard = trio.current_time()
        self.pinged = False
        # What the client calls itself, and how often all logins of its account had been ended when it logged in.
        self.client = ""
        self.epoch = 0
        # Whether the client wants to hear how far others have received.
        self.receipts = False
        self.peer = transport.peer
        # Set by the doorkeeper once it has counted the connection there.
        self.network = ""
        self.meter = None if node.rates is None else Meter(node.rates)
        self._transport = transport
        self._counters = node.counters
        self._splitter = FrameSplitter(limits.frame)
        self._outbox = Outbox(limits.outbox)
        self._nursery: trio.Nursery | None = None
        self._waiting: list[_Pending | bytes] = []
        # Messages sent here: those that the writer has, and all that are not answered.
        self._storing = 0
        self._in_flight = 0
        # What has come and is too much to be done at once, and by how many seconds' worth it is over the limits.
        self._much: list[bytes] = []
        self._over = 0.0
        # Set when that becomes less; there while somebody waits for it.
        self._room: trio.Event | None = None
        self._drained: trio.Event | None = None
        self._writing = False
        self._dirty = False
        # It was said that the connection is to end, and its tasks are cancelled.
        self._ending = False
        self._catching_up: trio.CancelScope | None = None
        self._next_frame_at = 0.0
        # When this client last said in which conversation it is typing.
        self._typing: dict[str, float] = {}
        self._reason = End.DONE
        self._ended: trio.Event | None = None

    # -- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until it or the server ends the connection. Never raises but `Cancelled`."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._read()
                    await self._finish()
                finally:
                    # From here on the nursery may close, and whoever delivers must start nothing in it.
                    self._ending = True
                nursery.cancel_scope.cancel()
            self._forget()
            await self._take_leave()
        except Exception:
            self._reason = End.FAILED
            log.exception("connection failed", peer=self.peer, user=self.account and self.account.id)
        finally:
            self._end()

    def close(self, reason: End) -> None:
        """End the connection now; what is queued is lost here and comes again after the next login. Never blocks."""
        if self._nursery is not None and not self._ending:
            # A client that breaks off is everyday life, one that the server gives up on is worth a line.
            say = log.debug if reason in {End.BROKEN, End.DRAINING} else log.info
            say("closing a connection", reason=reason.value, peer=self.peer, user=self.account and self.account.id)
            self._reason = reason
            self._ending = True
            self._nursery.cancel_scope.cancel()

    def end_login(self) -> None:
        """The login here was revoked: say so, as far as the client can still be told, and end the connection. Never blocks."""
        self._fail(None, None, LoginRevoked())
        self.flush()
        self.close(End.REVOKED)

    def dismiss(self, reason: End, error: RequestError) -> None:
        """Say why, and end the connection. Never blocks."""
        self.answer(Kind.REPLY, None, error.fields())
        if not self._writing and self._nursery is not None:
            self._send_some(self._outbox.take(self._splitter.terminator))
        self.close(reason)

    async def wait_ended(self) -> None:
        """Wait until the connection is closed and forgotten. Cancelling is safe."""
        if self in self.node.connections:
            self._ended = self._ended or trio.Event()
            await self._ended.wait()

    async def _take_leave(self) -> None:
        """Say why this is the end, and see to it that the client can hear it."""
        if self._transport.end(self._reason):
            with trio.move_on_after(_DISCARD), contextlib.suppress(TransportBroken):
                while await self._transport.receive():
                    pass

    def _forget(self) -> None:
        self._ending = True
        self.want_receipts(wanted=False)
        self.log_out()
        self.session.close()
        self._less_queued()

    def _end(self) -> None:
        self._forget()
        self._transport.close()
        if self in self.node.connections:
            del self.node.connections[self]
            kind = self._transport.kind
            self._counters.connections[kind] -= 1
            self._counters.closed[kind, self._reason.value] += 1
            self.node.doorkeeper.leave(self)
        if self._ended is not None:
            self._ended.set()

    def want_receipts(self, *, wanted: bool) -> None:
        """Whether the client wants to hear how far others have received."""
        self.node.router.want_receipts += wanted - self.receipts
        self.receipts = wanted

    def log_in(self, identity: Identity, account: LocalAccount, token: str | None) -> None:
        """LOGIN has succeeded: the router knows the connection."""
        self.session.logged_in(identity)
        self._counters.logins["ok"] += 1
        self.account = account
        self.token = token
        self.node.doorkeeper.recognise(self, account.id)

    def log_out(self) -> None:
        """Forget who this is; the user is offline if this was his last connection. Never blocks."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        account, self.account, self.token = self.account, None, None
        self.lag.clear()
        self.begun.clear()
        for reply in self.own.values():
            self.message_answered(reply)
        self.own.clear()
        self._typing.clear()
        self.prefetched.clear()
        # Whoever logs in here next must not see them; they come again.
        self._outbox.drop_deliveries()
        if account is not None:
            self.node.doorkeeper.unmask(self)
            if self.node.router.detach(self, account):
                self.node.presence.left(account.id)

    def leave(self, conv: str) -> None:
        """The account is not in a conversation any more: forget where this connection was in it. Never blocks."""
        self.lag.pop(conv, None)
        self.begun.pop(conv, None)
        for place in [place for place in self.own if place[0] == conv]:
            self.message_answered(self.own.pop(place))

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read and do requests until the client ends its half, breaks off, or sends what ends the connection."""
        try:
            first = await self._transport.receive()
            if begins_proxied(first):
                log.warning("connection refused", peer=self.peer, reason=_NOT_TRUSTED)
                return
            listening = bool(first)
            if first:
                self._received(first)
            while listening:
                if self._much:
                    await self._take_much()
                if self._splitter.overflowed:
                    break
                await self._wait_until_read_on()
                listening = await self._transport.feed(self._received)
        except TransportBroken:
            self.close(End.BROKEN)
            await trio.lowlevel.checkpoint()

    def _received(self, data: bytes) -> bool:
        """Do what the client has sent; returns whether to read on at once. Called by whoever noticed that there is something."""
        node = self.node
        try:
            self.last_heard = trio.current_time()
            self.pinged = False
            frames = self._splitter.feed(data)
            self._counters.frames += len(frames)
            if self.meter is not None:
                self._over = self.meter.charge(self.last_heard, len(frames), len(data))
            if self._over > 0 or len(frames) > _AT_ONCE:
                # That takes time: it is left to this connection's own task.
                self._much = frames
                return False
            for frame in frames:
                self._take(frame)
            if self._splitter.overflowed:
                self._end_too_long()
            node.router.flush()
        except Exception as error:  # noqa: BLE001 - it is logged there
            self.fail(error)
        return not self._splitter.overflowed and not node.writer.full and self._has_room()

    def _end_too_long(self) -> None:
        limit = self.node.settings.limits.frame
        self._fail(None, None, TooLarge(f"a frame is at most {limit} bytes", limit="frame"))
        self._reason = End.TOO_LONG

    def _has_room(self) -> bool:
        limits = self.node.settings.limits
        return self._in_flight < limits.in_flight and len(self._waiting) < limits.requests

    def fail(self, error: Exception) -> None:
        """End the connection because of a defect of the server, and log it. Never blocks."""
        log.error("connection failed", peer=self.peer, user=self.account and self.account.id, exc_info=error)
        self.close(End.FAILED)

    async def _take_much(self) -> None:
        """Do very many requests, some at a time, as there is room; or, where too many came, what of them is to be done."""
        frames, self._much = self._much, []
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

    async def _restrain(self, frames: list[bytes], over: float) -> list[bytes]:
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
            if kind in _UNANSWERED:
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
        """The client has ended its half: answer what it asked, send what is queued, for a bounded time."""
        with trio.move_on_after(_LINGER):
            while self._waiting:
                await self._wait_room()
            await self.wait_answered()
            self.flush()
            await self.wait_drained(0)

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
            assert self._nursery is not None
            self._nursery.start_soon(self._work_off)

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

    def _begin(self, frame: bytes) -> _Pending | None:
        """Check a request and do it, or return it where it has to await something."""
        kind: Kind | None = None
        ref: Ref | None = None
        try:
            envelope = open_envelope(frame)
            ref = envelope.ref
            kind = KINDS.get(envelope.msgid)
            if kind is None:
                raise UnknownKind
            if self.node.draining and kind not in DEAF:
                raise ShuttingDown
            self.session.check(kind)
            request = decode(kind, frame)
            now = COMMANDS[kind].now
            if now is not None and now(self, request, ref):
                return None
            return _Pending(kind, ref, request)
        except RequestError as error:
            self._fail(kind, ref, error)
            return None

    async def _perform(self, pending: _Pending) -> bool:
        """The one place where a failure becomes an answer. Returns False where the database was away."""
        kind, ref = pending.kind, pending.ref
        try:
            self.session.check(kind)
            later = COMMANDS[kind].later
            assert later is not None
            await later(self, pending.request, ref)
        except RequestError as error:
            self._fail(kind, ref, error)
            return not isinstance(error, Unavailable)
        except Exception:
            log.exception("request failed", kind=kind.name, peer=self.peer, user=self.account and self.account.id)
            self._fail(kind, ref, Internal())
        return True

    # -- answering ----------------------------------------------------------------------------------------------------

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
        if kind in _UNANSWERED:
            return
        fields = error.fields()
        if self.session.dialect is Dialect.CLASSIC and kind is Kind.REGISTER and error.errno == 1:
            fields = {"errno": 1}
        self.answer(answer_kind(kind), ref, fields)

    @property
    def origin(self) -> Origin:
        """Where a login on this connection comes from, as its owner is shown it."""
        host = self.peer.rpartition(":")[0] if self.peer.count(":") == 1 or self.peer.startswith("[") else self.peer
        return Origin(self.client, host.strip("[]")[:64])

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

    # -- sending ------------------------------------------------------------------------------------------------------

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

    def may_tell_typing(self, conv: str) -> bool:
        """Whether the others are to be told that somebody types here: at most once in a while for a conversation."""
        now = trio.current_time()
        if conv in self._typing or len(self._typing) >= _TYPING_IN:
            self._typing = {each: since for each, since in self._typing.items() if now - since < _TYPING_PAUSE}
            if conv in self._typing or len(self._typing) >= _TYPING_IN:
                return False
        self._typing[conv] = now
        return True

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""
        return self._outbox.size

    @property
    def held(self) -> int:
        """Bytes that this connection has the server keep: unsent, half received, or waiting for their turn."""
        size = self._outbox.size + self._splitter.pending
        if self._waiting:
            size += sum(len(item) for item in self._waiting if isinstance(item, bytes))
        return size

    @property
    def paced(self) -> bool:
        """Whether this is one of the existing clients, which want each frame alone and small."""
        return self.session.dialect is Dialect.CLASSIC and self._splitter.terminator == b"\0"

    def flush(self) -> None:
        """Hand what is queued to the kernel; what it does not take is left to a task. Never blocks."""
        self._dirty = False
        outbox = self._outbox
        if self._writing or not outbox.size or self._nursery is None or self._ending:
            return
        if not self.paced:
            self._send_some(outbox.take(self._splitter.terminator))
            if not outbox.size:
                return
        self._writing = True
        self._nursery.start_soon(self._write)

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

    def _receive(self, receipts: list[Receipt]) -> None:
        for userid, conv, seq in receipts:
            if self.account is not None and self.account.id == userid:
                self.node.chat.received(self, self.account, conv, seq)
            else:
                # The account has logged out since the frame was begun.
                self.node.receipts.move(userid, conv, seq)

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

    def catch_up(self) -> None:
        """Bring what this connection lags behind, in a task of its own. Never blocks."""
        if self.lag and self._catching_up is None and self._nursery is not None and not self._ending:
            self._catching_up = trio.CancelScope()
            self._nursery.start_soon(self._catch_up, self._catching_up)

    async def _catch_up(self, scope: trio.CancelScope) -> None:
        with scope:
            while self.lag:
                try:
                    await catch_up(self)
                except Unavailable:
                    await trio.sleep(0.25)
        if self._catching_up is scope:
            self._catching_up = None

    # -- heartbeat ----------------------------------------------------------------------------------------------------

    def check_alive(self, now: float) -> None:
        """Ping a modern client that was silent for a heartbeat, close it after two. Never blocks."""
        heartbeat = self.node.settings.heartbeat
        if self.session.dialect is not Dialect.MODERN:
            return
        silence = now - self.last_heard
        if silence >= 2 * heartbeat:
            self.close(End.SILENT)
        elif silence >= heartbeat and not self.pinged:
            self.pinged = True
            self.send(encode({"msgid": int(Kind.PING)}))


async def turn_away(transport: Transport, refusal: RateLimited) -> None:
    """End a connection that there is no room for. Never raises but `Cancelled`."""
    frame = encode({"msgid": int(Kind.REPLY), **refusal.fields()})
    try:
        with contextlib.suppress(TransportBroken):
            transport.send_nowait(frame + b"\n")
            if transport.end(End.FULL):
                with trio.move_on_after(_DISCARD):
                    while await transport.receive():
                        pass
    finally:
        transport.close()


def _is_ping(frame: bytes) -> bool:
    return _kind_and_ref(frame)[0] in {Kind.PING, Kind.PONG}


def _kind_and_ref(frame: bytes) -> tuple[Kind | None, Ref | None]:
    """What a frame is, as far as that can be told."""
    try:
        envelope = open_envelope(frame)
    except RequestError:
        return None, None
    return KINDS.get(envelope.msgid), envelope.ref
