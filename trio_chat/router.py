"""The router: who is connected to this node, in which conversations they are, and what they are told of each other.

It owns the map from users to connections, the last seq delivered here of every conversation that somebody here is in
(`Fanout`, which delivers), and the subscription to the bus. Everything that changes this state is synchronous, so no task
ever sees it half-done; the task of `run` only fetches what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import attrs
import trio

from trio_chat.bus.contract import Bus
from trio_chat.channels import Channels
from trio_chat.fanout import Fanout
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.presence import StateChange
from trio_chat.wire.conversation import group_conv, parse_conv
from trio_chat.wire.messages import Kind, encode

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.services.receipts import Receipts

__all__ = ["LocalAccount", "Router", "read_mark"]


@attrs.define(eq=False, weakref_slot=False)
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


class Router(Fanout):
    """Owned by the server; its state is touched only from the Trio thread."""

    def __init__(self, messages: MessageLog, bus: Bus, channels: Channels, receipts: Receipts) -> None:
        super().__init__(messages, channels, receipts)
        self._bus = bus
        self._watchers: dict[int, dict[int, LocalAccount]] = {}
        self._states: dict[int, StateChange] = {}
        # How many connections here want to hear how far others have received.
        self.want_receipts = 0
        # The read marks of the last seconds: up to where, and when that was told here.
        self._marks: dict[tuple[int, str], tuple[int, float]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fill holes, and send to very many in turns, until cancelled. Cancelling is safe."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush_many)
            task_status.started()
            await self._fill_holes()

    @property
    def bus_up(self) -> bool:
        """Whether hints from the other nodes come at present; without them the log is looked at, within seconds."""
        return self._bus.up

    def statistics(self) -> Iterator[tuple[str, int]]:
        """How much of everything there is, by name."""
        yield "accounts", len(self.accounts)
        yield "conversations", len(self._heads)
        yield "holes", len(self._holes)
        yield "repaired", self.repaired

    # -- who is here --------------------------------------------------------------------------------------------------

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

    def moves(self, userid: int) -> int:
        """Rises, inside of `loading`, with what becomes known here of a user's memberships and blocks: who has read them
        in the database while it rose may have read what was no longer so, and reads again.
        """
        return self._moves[userid]

    async def find_membership(self, userid: int, groupid: int) -> bool:
        """Read whether a user is in a group, and remember that here. Raises `Unavailable`; cancelling is safe."""
        with self.loading(userid):
            while True:
                moves = self.moves(userid)
                cursor = await self._log.cursor(userid, group_conv(groupid))
                if self.moves(userid) == moves:
                    break
            if cursor is not None:
                self.joined(userid, groupid, cursor)
            else:
                self.left(userid, groupid)
        self.flush()
        return cursor is not None

    def joined(self, userid: int, groupid: int, cursor: Cursor) -> None:
        """A user has become a member of a group; `cursor` says from where on its messages are his to receive."""
        self._moved(userid)
        account = self.accounts.get(userid)
        if account is not None and groupid not in account.groups:
            self._enter_group(account, groupid)
            self._listen(account, account.connections, cursor)
            for connection in account.connections:
                connection.catch_up()

    def left(self, userid: int, groupid: int, asker: Connection | None = None) -> None:
        """A user is no member of a group any more: tells his connections, but not the one that asked for it."""
        self._moved(userid)
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

    def _moved(self, userid: int) -> None:
        if userid in self._loading:
            self._moves[userid] += 1

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

    async def subscribe_groups(self, channels: list[str], groupids: Iterable[int]) -> None:
        """Wait until the bus would bring the groups' messages and the loading users', or is down. Cancelling is safe.

        `channels` are those that `loading` gave; the groups' are added to them.
        """
        groups = [f"g:{groupid}" for groupid in dict.fromkeys(groupids)]
        channels += groups
        self._channels.want(groups)
        await self._bus.wait_subscribed()

    def listeners(self, conv: str) -> Iterable[LocalAccount]:
        """The accounts here that are in a conversation."""
        parties = parse_conv(conv)
        if parties.groupid is not None:
            return self._groups.get(parties.groupid, {}).values()
        return [self.accounts[party] for party in set(parties.users or ()) if party in self.accounts]

    def online_members(self, groupid: int) -> int:
        """How many members of a group are here."""
        return len(self._groups.get(groupid, ()))

    def _is_party(self, conv: str, userid: int) -> bool:
        return userid in (parse_conv(conv).users or ())

    # -- what they are told of each other -----------------------------------------------------------------------------

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
        self._moved(userid)
        account = self.accounts.get(userid)
        if account is None or account.apart == apart:
            return
        changed = (account.apart ^ apart) & account.friends.keys()
        account.apart = apart
        for friend in changed:
            if self._states[friend].state == "online":
                self._tell_state(account, friend, self.state_of(account, friend))

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

    def tell_read(self, userid: int, conv: str, seq: int, frame: bytes) -> None:
        """A user has read so far: tell those who are here, once, by whatever way it became known."""
        if self._marks.get((userid, conv), (0, 0.0))[0] >= seq:
            return
        self._marks[userid, conv] = (seq, trio.current_time())
        self.tell_others(userid, conv, frame)

    def tell_others(self, userid: int, conv: str, frame: bytes, *, receipts: bool = False) -> None:
        """To all who are here; with `receipts` only to those connections that want to hear of receipts."""
        is_direct = conv[0] == "d"
        for account in self.listeners(conv):
            if account.id != userid and not (is_direct and userid in account.apart):
                for connection in account.connections:
                    if connection.receipts or not receipts:
                        connection.notify(frame)

    def forget_marks(self, before: float) -> None:
        """Read marks that were told before this time (of Trio's clock) need not be known any more."""
        self._marks = {mark: told for mark, told in self._marks.items() if told[1] > before}


def read_mark(userid: int, conv: str, seq: int) -> bytes:
    """What others in a conversation are told of how far a user has read."""
    return encode({"msgid": int(Kind.READ), "conv": conv, "seq": seq, "id": userid})
