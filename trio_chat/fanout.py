"""The fan-out: each message to everybody here who is in its conversation, in order and once.

How a message gets here does not matter: from this node's writer, from the bus, or from the log. `arrive` drops what
was delivered already, keeps what is ahead of a hole until the hole is filled from the log, and hands the next one to
every connection. So a lost, late, repeated or reordered hint can cost time, never a message or its order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from trio_chat.background import as_unavailable
from trio_chat.channels import Channels
from trio_chat.errors import Unavailable
from trio_chat.store.log import MessageLog
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import Delivery

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.router import LocalAccount
    from trio_chat.sending import Sender
    from trio_chat.services.receipts import Receipts
    from trio_chat.writer import Writer

__all__ = ["Fanout"]

log = structlog.get_logger(__name__)

#: How long a hole may wait for the bus to fill it before the log is read, in seconds.
_HOLE_GRACE = 0.005
#: Messages kept ahead of a hole, per conversation; those beyond it come from the log.
_AHEAD = 1000
_PAGE = 200
#: Connections that are sent to in one go. Each is a system call; 10,000 members would be 50 ms in which nothing else is done.
_AT_ONCE = 64


@attrs.define(eq=False)
class _Arrival:
    """A message, and where it came from when it was sent here: the connection, and the reply that stands in its place."""

    delivery: Delivery
    origin: Connection | None
    reply: bytes | None


class Fanout:
    """What `Router` knows of conversations: how far each was delivered here, and what waits for its place.

    All of it is synchronous but the filling of holes. Who is here, and in which conversations, `Router` says.
    """

    def __init__(self, messages: MessageLog, channels: Channels, receipts: Receipts) -> None:
        self.accounts: dict[int, LocalAccount] = {}
        self.repaired = 0
        # Knows what may be in the log and was not reported here yet; sets itself.
        self.writer: Writer | None = None
        # Connections that have something queued, in the order in which `flush` sends it.
        self.dirty: deque[Sender] = deque()
        # There are more of them than are sent to at once, until when is this event set.
        self._many = trio.Event()
        self._log = messages
        self._channels = channels
        self._receipts = receipts
        self._groups: dict[int, dict[int, LocalAccount]] = {}
        self._heads: dict[str, int] = {}
        self._ahead: dict[str, dict[int, _Arrival]] = {}
        # Conversations whose log is known to be longer than what was delivered here, and up to where.
        self._holes: dict[str, int] = {}
        self._holes_found = trio.Event()
        # While a login is loading, how far the conversations went that it may not have seen when it read its own.
        self._loading: Counter[int] = Counter()
        # And how often something became known here meanwhile of their memberships and blocks.
        self._moves: Counter[int] = Counter()
        self._unheard: dict[str, int] = {}

    @property
    def holes(self) -> int:
        """Conversations that wait for a message which is in the log and has not come."""
        return len(self._holes)

    # -- a message arrives --------------------------------------------------------------------------------------------

    def head(self, conv: str) -> int | None:
        """The last seq of a conversation that was delivered here; None where nobody here is in it."""
        return self._heads.get(conv)

    def arrive(self, delivery: Delivery, origin: Connection | None = None, reply: bytes | None = None) -> None:
        """A message that is in the log has become known here, by whatever way. Never blocks; see `flush`."""
        conv = delivery.conv
        head = self._heads.get(conv)
        if self._loading and self._is_awaited(conv):
            self._unheard[conv] = max(self._unheard.get(conv, 0), delivery.seq)
        if head is None:
            if delivery.is_group or not self.open_direct(conv, delivery.sender, delivery.to):
                if origin is not None:
                    origin.message_answered(reply)
                return
            head = 0
        if delivery.seq == head + 1:
            self._hand_out(delivery, origin, reply)
            if self._ahead and conv in self._ahead:
                self._hand_out_ahead(conv)
        elif delivery.seq > head:
            ahead = self._ahead.setdefault(conv, {})
            if origin is not None or len(ahead) < _AHEAD:
                known = ahead.get(delivery.seq)
                if known is None or known.origin is None:
                    ahead[delivery.seq] = _Arrival(delivery, origin, reply)
            self.heard(conv, delivery.seq)
        elif origin is not None and origin.lag.get(conv, delivery.seq) < delivery.seq:
            # A login was quicker to read it than the writer to hear of its commit: the origin is still on its way there.
            origin.own[conv, delivery.seq] = reply
        elif origin is not None:
            # The log was quicker than the writer's own report of the commit.
            origin.message_answered(reply)

    def heard(self, conv: str, seq: int) -> None:
        """The log of a conversation is known to reach `seq`: fetch what is missing here."""
        if seq > self._heads.get(conv, seq) and seq > self._holes.get(conv, 0):
            self._holes[conv] = seq
            self._holes_found.set()

    def flush(self) -> None:
        """Send what was queued on connections since the last flush; where these are many, some now and the rest soon."""
        if self.dirty and not self._many.is_set():
            self._flush_some()
            if self.dirty:
                self._many.set()

    def _flush_some(self) -> None:
        dirty = self.dirty
        for _ in range(min(len(dirty), _AT_ONCE)):
            dirty.popleft().flush()

    async def _flush_many(self) -> None:
        """Send to very many in turns: meanwhile the next messages are read, and the database is asked to store them."""
        while True:
            await self._many.wait()
            await trio.lowlevel.checkpoint()
            self._flush_some()
            if not self.dirty:
                self._many = trio.Event()

    def _hand_out(self, delivery: Delivery, origin: Connection | None, reply: bytes | None) -> None:
        """Give a conversation's next message to everybody here who is in it, and its reply to where it was sent."""
        conv, seq, sender = delivery.conv, delivery.seq, delivery.sender
        self._heads[conv] = seq
        if self._holes and self._holes.get(conv, seq + 1) <= seq:
            del self._holes[conv]
        answered = origin is None
        if origin is not None:
            # Before the others, who may be very many: the next message can then be stored while they are sent this one.
            origin.queue()
        for account in self._recipients(delivery):
            if account.id != sender:
                account.pending.setdefault(conv, seq - 1)
            elif conv not in account.pending:
                self._receipts.move(sender, conv, seq, own=True)
            for connection in account.connections:
                try:
                    lags = connection.lag and conv in connection.lag
                    if connection is origin:
                        answered = True
                        if lags:
                            connection.own[conv, seq] = reply
                        else:
                            self.reply_in_place(connection, delivery, reply)
                    elif not lags:
                        connection.deliver(delivery)
                except Exception as error:  # noqa: BLE001 - it is logged there
                    # All others still get it; this one after its next login.
                    connection.fail(error)
        if not answered and origin is not None:
            # It has ended meanwhile.
            origin.message_answered(reply)

    def reply_in_place(self, connection: Connection, delivery: Delivery, reply: bytes | None) -> None:
        """On the connection that sent a message its reply takes the message's place; a classic one gets nothing.

        Except that a classic message to oneself comes back.
        """
        connection.message_answered(reply)
        if reply is None and delivery.sender == delivery.to and not delivery.is_group:
            connection.deliver(delivery)

    def _hand_out_ahead(self, conv: str) -> None:
        ahead = self._ahead[conv]
        while (arrival := ahead.pop(self._heads[conv] + 1, None)) is not None:
            self._hand_out(arrival.delivery, arrival.origin, arrival.reply)
        if not ahead:
            del self._ahead[conv]

    def _recipients(self, delivery: Delivery) -> Iterable[LocalAccount]:
        if delivery.is_group:
            return self._groups.get(delivery.to, {}).values()
        sender, receiver = self.accounts.get(delivery.sender), self.accounts.get(delivery.to)
        if sender is None or sender is receiver:
            return () if receiver is None else (receiver,)
        return (sender,) if receiver is None else (sender, receiver)

    def open_direct(self, conv: str, *parties: int) -> bool:
        """Somebody here has got a first message in a conversation of two; returns whether he is here."""
        found = False
        for party in parties:
            if (account := self.accounts.get(party)) is not None:
                account.directs[conv] = None
                found = True
        if found:
            self._heads[conv] = 0
        return found

    def _answer_ahead(self, origin: Connection, conv: str | None = None) -> None:
        """Whoever leaves, or leaves a conversation, is told now of his messages whose place has not come.

        They are in the log.
        """
        for ahead in self._ahead.values() if conv is None else [self._ahead.get(conv, {})]:
            for seq, arrival in ahead.items():
                if arrival.origin is origin:
                    origin.message_answered(arrival.reply)
                    ahead[seq] = _Arrival(arrival.delivery, None, None)

    def _forget(self, conv: str) -> None:
        self._heads.pop(conv, None)
        self._holes.pop(conv, None)
        self._ahead.pop(conv, None)

    # -- while somebody logs in ---------------------------------------------------------------------------------------

    @contextmanager
    def loading(self, *userids: int) -> Iterator[list[str]]:
        """While logins (or a join) read these accounts' state, nothing that arrives is overlooked.

        `attach` (or `joined`) inside takes up what arrived meanwhile. Gives the channels that are wanted for as long.
        """
        channels = [f"u:{userid}" for userid in userids]
        self._loading.update(userids)
        self._channels.want(channels)
        try:
            yield channels
        finally:
            self._channels.unwant(channels)
            for userid in userids:
                self._loading[userid] -= 1
                if not self._loading[userid]:
                    del self._loading[userid]
                    self._moves.pop(userid, None)
            self._unheard = {conv: seq for conv, seq in self._unheard.items() if self._is_awaited(conv)}

    def _is_awaited(self, conv: str) -> bool:
        """Whether somebody who is loading may be in a conversation without having read so."""
        parties = parse_conv(conv)
        if parties.groupid is not None:
            return conv not in self._heads and f"g:{parties.groupid}" in self._channels
        return any(party in self._loading for party in parties.users or ())

    # -- holes --------------------------------------------------------------------------------------------------------

    async def _fill_holes(self) -> None:
        while True:
            await self._holes_found.wait()
            self._holes_found = trio.Event()
            await trio.sleep(_HOLE_GRACE)
            try:
                with as_unavailable("fill holes"):
                    for conv in list(self._holes):
                        await self._fill(conv)
            except Unavailable:
                await trio.sleep(0.25)
                self._holes_found.set()

    async def _fill(self, conv: str) -> None:
        while (target := self._holes.get(conv)) is not None and (head := self._heads.get(conv)) is not None:
            if head >= target:
                del self._holes[conv]
                return
            page = await self._log.after(conv, head, _PAGE)
            for delivery in page:
                arrival = self._ahead.get(conv, {}).pop(delivery.seq, None)
                if arrival is not None:
                    self.arrive(arrival.delivery, arrival.origin, arrival.reply)
                elif self.writer is not None and self.writer.may_have_stored(conv, delivery.sender):
                    # Perhaps this node's own, seen here before its commit was answered: only the writer knows
                    # which connection's reply stands in its place.
                    await self.writer.wait_reported()
                    break
                else:
                    self.repaired += 1
                    self.arrive(delivery)
            self.flush()
            if not page:
                log.error("log is shorter than was heard", conv=conv, head=head, heard=target)
                self._holes.pop(conv, None)
                return
