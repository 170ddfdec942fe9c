"""The router: who is connected to this node, and the delivery of each message to them, in order and once.

It owns the map from users to connections, the last seq delivered here of every conversation that somebody here is in,
and the subscription to the bus. Everything that changes this state is synchronous, so no task ever sees it half-done;
the tasks of `run` only fetch what is missing.

How a message gets here does not matter: from this node's writer, from the bus, or from the log. `arrive` drops what
was delivered already, keeps what is ahead of a hole until the hole is filled from the log, and hands the next one to
every connection. So a lost, late, repeated or reordered hint can cost time, never a message or its order.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import msgspec
import structlog
import trio

from trio_chat.background import as_unavailable
from trio_chat.bus.contract import Bus, Event
from trio_chat.channels import Channels
from trio_chat.doubts import Doubts
from trio_chat.errors import Unavailable
from trio_chat.store.log import Changes, Cursor, MessageLog
from trio_chat.store.presence import StateChange
from trio_chat.wire.conversation import group_conv, parse_conv
from trio_chat.wire.delivery import Delivery, decode_delivery
from trio_chat.wire.messages import Kind, encode

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters
    from trio_chat.sending import Sender
    from trio_chat.services.receipts import Receipts
    from trio_chat.writer import Writer

__all__ = ["LocalAccount", "Router"]

log = structlog.get_logger(__name__)

#: How long a hole may wait for the bus to fill it before the log is read, in seconds.
_HOLE_GRACE = 0.005
#: Messages kept ahead of a hole, per conversation; those beyond it come from the log.
_AHEAD = 1000
_PAGE = 200
#: How many looks at the database back each look begins, and how much earlier still (ms): a transaction that takes
#: long to commit is found by one of the next looks.
_LOOKBACK_LOOKS = 5
_LOOKBACK_MS = 5000

PRESENCE_CHANNEL = "presence"


@attrs.define(eq=False)
class LocalAccount:
    """A user who is connected to this node, over one or more connections.

    `pending` has, for each conversation with messages that the account has not received, the last seq that it has.
    A conversation that is not in it is received to its end. `apart` are those whom the account has blocked, and who have
    blocked it.
    """

    id: int
    name: str
    connections: list[Connection] = attrs.field(factory=list)
    # Dictionaries are used as sets: an empty one takes a quarter of the memory, and there are many accounts.
    groups: dict[int, None] = attrs.field(factory=dict)
    directs: dict[str, None] = attrs.field(factory=dict)
    friends: dict[int, None] = attrs.field(factory=dict)
    apart: AbstractSet[int] = frozenset()
    pending: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Arrival:
    """A message, and where it came from when it was sent here: the connection, and the reply that stands in its place."""

    delivery: Delivery
    origin: Connection | None
    reply: bytes | None


class Router:
    """Owned by the server; its state is touched only from the Trio thread.

    `life` marks what this node says on the bus: no other node says the same, nor did this one before its start.
    """

    def __init__(
        self, messages: MessageLog, bus: Bus, receipts: Receipts, life: str, sweep: float, counters: Counters
    ) -> None:
        self.accounts: dict[int, LocalAccount] = {}
        self.repaired = 0
        # Knows what may be in the log and was not reported here yet; sets itself.
        self.writer: Writer | None = None
        # Told of what the bus or a look says, which has to be read in the database before it counts.
        self.doubts = Doubts()
        self._log = messages
        self._bus = bus
        self._channels = Channels(bus)
        self._receipts = receipts
        self._prefix = life.encode() + b"\n"
        self._sweep = sweep
        self._counters = counters
        self._groups: dict[int, dict[int, LocalAccount]] = {}
        self._watchers: dict[int, dict[int, LocalAccount]] = {}
        self._states: dict[int, StateChange] = {}
        self._heads: dict[str, int] = {}
        self._ahead: dict[str, dict[int, _Arrival]] = {}
        # Conversations whose log is known to be longer than what was delivered here, and up to where.
        self._holes: dict[str, int] = {}
        self._holes_found = trio.Event()
        self._sweep_now = trio.Event()
        # How many connections here want to hear how far others have received.
        self.want_receipts = 0
        # Connections that have something queued; the next `flush` sends it.
        self.dirty: list[Sender] = []
        # When the last message of the hints in hand was stored, by the database's clock (ms).
        self._newest_hint = 0
        # The read marks of the last seconds: up to where, and when that was told here.
        self._marks: dict[tuple[int, str], tuple[int, float]] = {}
        # While a login is loading, how far the conversations went that it may not have seen when it read its own.
        self._loading: Counter[int] = Counter()
        # Who takes what is said on a channel that is not the router's own.
        self._takers: dict[str, Callable[[bytes], None]] = {}
        self._unheard: dict[str, int] = {}

    @property
    def holes(self) -> int:
        """Conversations that wait for a message which is in the log and has not come."""
        return len(self._holes)

    @property
    def bus_up(self) -> bool:
        """Whether hints from the other nodes come at present; without them the log is looked at, within seconds."""
        return self._bus.up

    # -- who is here --------------------------------------------------------------------------------------------------

    @contextmanager
    def loading(self, userid: int) -> Iterator[list[str]]:
        """While a login (or a join) reads the account's state, nothing that arrives is overlooked.

        `attach` (or `joined`) inside takes up what arrived meanwhile. Gives the channels that it wants for as long.
        """
        channels = [f"u:{userid}"]
        self._loading[userid] += 1
        self._channels.want(channels)
        try:
            yield channels
        finally:
            self._channels.unwant(channels)
            self._loading[userid] -= 1
            if not self._loading[userid]:
                del self._loading[userid]
                self._unheard = {conv: seq for conv, seq in self._unheard.items() if self._is_awaited(conv)}

    async def subscribe_groups(self, channels: list[str], groupids: Iterable[int]) -> None:
        """Wait until the bus would bring the groups' messages and the loading users', or is down. Cancelling is safe.

        `channels` are those that `loading` gave; the groups' are added to them.
        """
        groups = [f"g:{groupid}" for groupid in groupids]
        channels += groups
        self._channels.want(groups)
        await self._bus.wait_subscribed()

    def _is_awaited(self, conv: str) -> bool:
        """Whether somebody who is loading may be in a conversation without having read so."""
        parties = parse_conv(conv)
        if parties.groupid is not None:
            return conv not in self._heads and f"g:{parties.groupid}" in self._channels
        return any(party in self._loading for party in parties.users or ())

    def attach(
        self,
        connection: Connection,
        userid: int,
        name: str,
        cursors: Iterable[Cursor],
        friends: Iterable[StateChange],
        apart: Iterable[int] = (),
    ) -> LocalAccount:
        """A connection has logged in: register it, and note where it lags behind what was delivered here."""
        account = self.accounts.get(userid)
        if account is None:
            account = self.accounts[userid] = LocalAccount(userid, name)
            self._channels.want([f"u:{userid}"])
        self.set_apart(userid, set(apart))
        for friend in friends:
            self.watch(account, friend)
        others = list(account.connections)
        account.connections.append(connection)
        known = set()
        # The cursors say which groups he is in: the list of these was read before, and he may have joined one meanwhile.
        for cursor in cursors:
            known.add(cursor.conv)
            groupid = parse_conv(cursor.conv).groupid
            news = groupid is not None and groupid not in account.groups
            if groupid is not None:
                self._enter_group(account, groupid)
            # Where it was not known here that he is in a group his other connections have got nothing of it either.
            self._listen(account, account.connections if news else [connection], cursor)
        # What began, or was joined on another of his connections, while the login was reading.
        for conv, seq in account.pending.items():
            if conv not in known:
                connection.lag[conv] = seq
        for conv, seq in self._unheard.items():
            if conv not in known and conv not in account.pending and self._is_party(conv, userid):
                self._listen(account, [connection], Cursor(conv, 0, 0, seq))
        for other in others:
            other.catch_up()
        return account

    def detach(self, connection: Connection, account: LocalAccount) -> bool:
        """A connection has logged out or ended: forget it, at once. Returns whether it was the account's last here."""
        account.connections.remove(connection)
        self._answer_ahead(connection)
        if account.connections:
            return False
        del self.accounts[account.id]
        for groupid in account.groups:
            members = self._groups[groupid]
            del members[account.id]
            if not members:
                del self._groups[groupid]
                self._forget(group_conv(groupid))
        for conv in account.directs:
            remaining = list(self.listeners(conv))
            if not remaining:
                self._forget(conv)
            for party in remaining:
                # He may have come when it had begun here and nothing in it had arrived: it is his to forget now.
                party.directs[conv] = None
        for friend in account.friends:
            watchers = self._watchers[friend]
            del watchers[account.id]
            if not watchers:
                del self._watchers[friend]
                self._states.pop(friend, None)
        self._channels.unwant([f"u:{account.id}", *(f"g:{groupid}" for groupid in account.groups)])
        return True

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

    def joined(self, userid: int, groupid: int, cursor: Cursor) -> None:
        """A user has become a member of a group; `cursor` says from where on its messages are his to receive."""
        account = self.accounts.get(userid)
        if account is not None and groupid not in account.groups:
            self._enter_group(account, groupid)
            self._listen(account, account.connections, cursor)
            for connection in account.connections:
                connection.catch_up()

    def left(self, userid: int, groupid: int, asker: Connection | None = None) -> None:
        """A user is no member of a group any more: tells his connections, but not the one that asked for it."""
        account = self.accounts.get(userid)
        if account is None or groupid not in account.groups:
            return
        conv = group_conv(groupid)
        del account.groups[groupid]
        account.pending.pop(conv, None)
        frame = encode({"msgid": int(Kind.LEAVE_GROUP), "groupid": groupid})
        for connection in account.connections:
            self._answer_ahead(connection, conv)
            connection.leave(conv)
            if connection is not asker:
                connection.notify(frame)
        members = self._groups[groupid]
        del members[userid]
        if not members:
            del self._groups[groupid]
            self._forget(conv)
        self._channels.unwant([f"g:{groupid}"])

    def _enter_group(self, account: LocalAccount, groupid: int) -> None:
        if groupid not in account.groups:
            self._groups.setdefault(groupid, {})[account.id] = account
            account.groups[groupid] = None
            self._channels.want([f"g:{groupid}"])

    def _listen(self, account: LocalAccount, connections: Sequence[Connection], cursor: Cursor) -> None:
        """Connections of an account take part in a conversation from its cursor on."""
        conv = cursor.conv
        if conv not in self._heads:
            self._heads[conv] = cursor.last_seq
            if conv[0] == "d":
                self._begun_unheard(account, connections, conv)
        if conv[0] == "d":
            account.directs[conv] = None
        head = self._heads[conv]
        self.heard(conv, max(cursor.last_seq, self._unheard.get(conv, 0)))
        if cursor.received != head:
            for connection in connections:
                connection.lag[conv] = cursor.received
        if cursor.received < max(cursor.last_seq, head):
            account.pending.setdefault(conv, cursor.received)

    def _begun_unheard(self, account: LocalAccount, but: Sequence[Connection], conv: str) -> None:
        """An account is the first here to know of a conversation of two: whoever of them is here lags from its beginning."""
        for party in self.listeners(conv):
            party.directs[conv] = None
            if party is not account:
                party.pending.setdefault(conv, 0)
            for connection in party.connections:
                if connection not in but:
                    connection.lag[conv] = 0
                    connection.begun[conv] = None
                    connection.catch_up()

    def watch(self, account: LocalAccount, friend: StateChange) -> None:
        """From now on the account's connections are told when this friend comes or goes.

        He may have come or gone since `friend` was read, or before, unheard of by those who watch him already. The former
        is what `state_of` is for, the latter are told now.
        """
        self.state_changed(friend)
        account.friends[friend.userid] = None
        self._watchers.setdefault(friend.userid, {})[account.id] = account
        self._states.setdefault(friend.userid, friend)

    def state_of(self, account: LocalAccount, friend: int) -> str:
        """What an account that watches a friend here is to know of him."""
        return "offline" if friend in account.apart else self._states[friend].state

    def set_apart(self, userid: int, apart: set[int]) -> None:
        """From these a user is apart, and from nobody else. They are offline to each other, if friends at all."""
        account = self.accounts.get(userid)
        if account is None or account.apart == apart:
            return
        changed = (account.apart ^ apart) & account.friends.keys()
        account.apart = apart
        for friend in changed:
            if self._states[friend].state == "online":
                self._tell_state(account, friend, self.state_of(account, friend))

    # -- delivery -----------------------------------------------------------------------------------------------------

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
            if delivery.is_group or not self._open_direct(conv, delivery.sender, delivery.to):
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
        """Send what was queued on connections since the last flush."""
        if self.dirty:
            dirty = self.dirty.copy()
            self.dirty.clear()
            for connection in dirty:
                connection.flush()

    def listeners(self, conv: str) -> Iterable[LocalAccount]:
        """The accounts here that are in a conversation."""
        parties = parse_conv(conv)
        if parties.groupid is not None:
            return self._groups.get(parties.groupid, {}).values()
        return [self.accounts[party] for party in set(parties.users or ()) if party in self.accounts]

    def online_members(self, groupid: int) -> int:
        """How many members of a group are here."""
        return len(self._groups.get(groupid, ()))

    def _hand_out(self, delivery: Delivery, origin: Connection | None, reply: bytes | None) -> None:
        """Give a conversation's next message to everybody here who is in it, and its reply to where it was sent."""
        conv, seq, sender = delivery.conv, delivery.seq, delivery.sender
        self._heads[conv] = seq
        if self._holes and self._holes.get(conv, seq + 1) <= seq:
            del self._holes[conv]
        answered = origin is None
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

    def _open_direct(self, conv: str, *parties: int) -> bool:
        """Somebody here has got a first message in a conversation of two; returns whether he is here."""
        found = False
        for party in parties:
            if (account := self.accounts.get(party)) is not None:
                account.directs[conv] = None
                found = True
        if found:
            self._heads[conv] = 0
        return found

    def _is_party(self, conv: str, userid: int) -> bool:
        return userid in (parse_conv(conv).users or ())

    # -- presence and read marks --------------------------------------------------------------------------------------

    def state_changed(self, change: StateChange) -> None:
        """A user went online or offline: tell his friends here, unless they know better already."""
        watchers = self._watchers.get(change.userid)
        if not watchers:
            return
        known = self._states.get(change.userid)
        if known is not None and known.changed >= change.changed:
            return
        self._states[change.userid] = change
        if known is not None and known.state == change.state:
            return
        frame = encode({"msgid": int(Kind.PRESENCE), "id": change.userid, "state": change.state})
        for account in watchers.values():
            if change.userid not in account.apart:
                for connection in account.connections:
                    connection.notify(frame)

    def _tell_state(self, account: LocalAccount, friend: int, state: str) -> None:
        frame = encode({"msgid": int(Kind.PRESENCE), "id": friend, "state": state})
        for connection in account.connections:
            connection.notify(frame)

    def publish_states(self, changes: Iterable[StateChange]) -> None:
        """Tell this node's and the other nodes' watchers."""
        events = []
        for change in changes:
            self.state_changed(change)
            events.append((PRESENCE_CHANNEL, self._prefix + encode([change.userid, change.state, change.changed])))
        self.flush()
        self._bus.publish(events)

    def publish_joined(self, userid: int, groupid: int, position: int) -> None:
        """A user has become a member of a group whose log ended at `position`: tell his connections, here and elsewhere."""
        self.joined(userid, groupid, Cursor(group_conv(groupid), position, position, position))
        self._bus.publish([(f"u:{userid}", self._prefix + encode([userid, groupid, position]))])

    def publish_left(self, userid: int, groupid: int, asker: Connection | None = None) -> None:
        """A user is no member of a group any more: tell his connections, here and elsewhere."""
        self.left(userid, groupid, asker)
        self.flush()
        self._bus.publish([(f"u:{userid}", self._prefix + encode([userid, groupid, 0]))])

    def publish_apart(self, *users: int) -> None:
        """Users have come apart, or together again: here and elsewhere it is to be found out."""
        for userid in users:
            self.doubts.apart(userid)
        self._bus.publish([(f"u:{userid}", self._prefix + encode([userid])) for userid in users])

    def publish_read(self, userid: int, conv: str, seq: int) -> None:
        """Tell the others in a conversation, here and on the other nodes, how far a user has read."""
        frame = _read_mark(userid, conv, seq)
        self._read(userid, conv, seq, frame)
        self.flush()
        self._bus.publish(self._to_others(userid, conv, frame))

    def publish_typing(self, userid: int, conv: str) -> None:
        """Tell the others in a conversation, here and on the other nodes, that a user is typing. It is kept nowhere."""
        frame = encode({"msgid": int(Kind.TYPING), "conv": conv, "id": userid})
        self._tell_others(userid, conv, frame)
        self.flush()
        self._bus.publish(self._to_others(userid, conv, frame))

    def publish_delivered(self, moves: Iterable[tuple[int, str, int]]) -> None:
        """Tell the other one in each conversation of two, wherever he is, how far (userid, conv, seq) was received.

        These come by the thousand, and few clients want them: nothing is made for nobody.
        """
        moves = list(moves)
        if self.want_receipts:
            for userid, conv, seq in moves:
                self._tell_others(userid, conv, _receipt(userid, conv, seq), receipts=True)
            self.flush()
        self._bus.publish(
            event for userid, conv, seq in moves for event in self._to_others(userid, conv, _receipt(userid, conv, seq))
        )

    def _to_others(self, userid: int, conv: str, frame: bytes) -> list[Event]:
        parties = parse_conv(conv)
        channels = [f"u:{party}" for party in set(parties.users or ()) if party != userid]
        if parties.groupid is not None:
            channels = [f"g:{parties.groupid}"]
        return [(channel, self._prefix + frame) for channel in channels]

    def _read(self, userid: int, conv: str, seq: int, frame: bytes) -> None:
        """A user has read so far: tell those who are here, once, by whatever way it became known."""
        if self._marks.get((userid, conv), (0, 0.0))[0] >= seq:
            return
        self._marks[userid, conv] = (seq, trio.current_time())
        self._tell_others(userid, conv, frame)

    def _tell_others(self, userid: int, conv: str, frame: bytes, *, receipts: bool = False) -> None:
        """To all who are here; with `receipts` only to those connections that want to hear of receipts."""
        is_direct = conv[0] == "d"
        for account in self.listeners(conv):
            if account.id != userid and not (is_direct and userid in account.apart):
                for connection in account.connections:
                    if connection.receipts or not receipts:
                        connection.notify(frame)

    # -- the bus ------------------------------------------------------------------------------------------------------

    def publish(self, deliveries: Iterable[Delivery]) -> None:
        """Tell the other nodes of new messages: one publish for a group, one for each of two users."""
        self._bus.publish(self._hints(deliveries))

    def _hints(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        # A generator: the bus of a node that is alone does not even look.
        prefix = self._prefix
        for delivery in deliveries:
            payload = prefix + delivery.modern()
            if delivery.is_group:
                yield f"g:{delivery.to}", payload
            else:
                yield f"u:{delivery.to}", payload
                if delivery.sender != delivery.to:
                    yield f"u:{delivery.sender}", payload

    def receive(self, events: list[Event]) -> None:
        """Hints from the bus. A broken one is logged and dropped: the log will show what it said."""
        prefix = self._prefix
        self._newest_hint = 0
        for channel, payload in events:
            if payload.startswith(prefix):
                continue
            body = payload[payload.find(b"\n") + 1 :]
            try:
                self._take_hint(channel, body)
            except (msgspec.MsgspecError, LookupError, RecursionError, TypeError, ValueError) as error:
                log.warning("bus event not understood", channel=channel, error=str(error))
        if self._newest_hint:
            self._counters.bus_delay.observe(max(0.0, time.time() - self._newest_hint / 1000))
        self.flush()

    def _take_hint(self, channel: str, body: bytes) -> None:
        if body.startswith(b'{"msgid":26,'):
            read = msgspec.json.decode(body)
            self._read(read["id"], read["conv"], read["seq"], body)
        elif body.startswith((b'{"msgid":30,', b'{"msgid":34,')):
            told = msgspec.json.decode(body)
            self._tell_others(told["id"], told["conv"], body, receipts=told["msgid"] == Kind.DELIVERED)
        elif body.startswith(b"{"):
            delivery = decode_delivery(body)
            self._newest_hint = delivery.ts
            self.arrive(delivery)
        elif channel == PRESENCE_CHANNEL:
            userid, state, changed = msgspec.json.decode(body, type=tuple[int, str, int])
            self.state_changed(StateChange(userid, state, changed))
        elif channel in self._takers:
            self._takers[channel](body)
        else:
            userid, *group = msgspec.json.decode(body, type=list[int])
            if group:
                self.doubts.membership(userid, group[0])
            else:
                self.doubts.apart(userid)

    def take_hints(self, channel: str, take: Callable[[bytes], None]) -> None:
        """From `run` on, what other nodes say on a channel goes to `take`, which never blocks; it begins with no `{`."""
        self._takers[channel] = take

    def publish_hint(self, channel: str, body: bytes) -> None:
        """Say something to those of the other nodes that take it. Never blocks."""
        self._bus.publish([(channel, self._prefix + body)])

    def missed(self) -> None:
        """The bus may have lost events: look into the database at once."""
        self._sweep_now.set()

    # -- what fetches from the database -------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fill holes and look for what the bus lost, until cancelled. Cancelling is safe."""
        self._channels.want([PRESENCE_CHANNEL, *self._takers])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fill_holes)
            nursery.start_soon(self._look_regularly)
            task_status.started()

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

    async def _look_regularly(self) -> None:
        looks: deque[int] = deque(maxlen=_LOOKBACK_LOOKS)
        while True:
            with trio.move_on_after(self._sweep):
                await self._sweep_now.wait()
            self._sweep_now = trio.Event()
            if not self.accounts:
                looks.clear()
                continue
            try:
                with as_unavailable("look for what the bus lost"):
                    if not looks:
                        looks.append(await self._log.now())
                    changes = await self._log.changes(looks[0] - _LOOKBACK_MS)
                    looks.append(changes.now)
                    await self._apply(changes)
            except Unavailable:
                continue

    async def _apply(self, changes: Changes) -> None:
        for conv, seq in changes.heads:
            if conv not in self._heads and conv[0] == "d":
                self._open_direct(conv, *(parse_conv(conv).users or ()))
            self.heard(conv, seq)
        for userid, state, changed in changes.states:
            self.state_changed(StateChange(userid, state, changed))
        for userid, conv, seq in changes.marks:
            if conv in self._heads:
                self._read(userid, conv, seq, _read_mark(userid, conv, seq))
        for userid, conv in changes.departures:
            groupid = parse_conv(conv).groupid
            if groupid is not None:
                self.left(userid, groupid)
        for pair in changes.blocks:
            for userid in pair:
                self.doubts.apart(userid)
        # What no look will find any more need not be known.
        horizon = trio.current_time() - 2 * (self._sweep * _LOOKBACK_LOOKS + _LOOKBACK_MS / 1000)
        self._marks = {mark: told for mark, told in self._marks.items() if told[1] > horizon}
        self.flush()
        for groupid, userid in changes.joins:
            account = self.accounts.get(userid)
            if account is not None and groupid not in account.groups:
                with self.loading(userid):
                    cursor = await self._log.cursor(userid, group_conv(groupid))
                    if cursor is not None:
                        self.joined(userid, groupid, cursor)

    def statistics(self) -> Iterator[tuple[str, int]]:
        """How much of everything there is, by name."""
        yield "accounts", len(self.accounts)
        yield "conversations", len(self._heads)
        yield "holes", len(self._holes)
        yield "repaired", self.repaired


def _receipt(userid: int, conv: str, seq: int) -> bytes:
    return encode({"msgid": int(Kind.DELIVERED), "conv": conv, "seq": seq, "id": userid})


def _read_mark(userid: int, conv: str, seq: int) -> bytes:
    return encode({"msgid": int(Kind.READ), "conv": conv, "seq": seq, "id": userid})
