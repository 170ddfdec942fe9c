"""Hints: what is told at once, to those who are here and by the bus to the other nodes; no message depends on one.

What this node says goes out on the channels `g:GROUP` and `u:USER`, where another node listens, and on those of its parts.
What another node says is taken by its sort: a message arrives, presence and the like are told, and what would change who
may read what is only a doubt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
import structlog

from trio_chat.bus.contract import Bus, Event
from trio_chat.channels import Channels
from trio_chat.doubts import Doubts
from trio_chat.look import Look
from trio_chat.router import Router, read_mark
from trio_chat.store.log import Cursor
from trio_chat.store.presence import StateChange
from trio_chat.wire.conversation import group_conv, parse_conv
from trio_chat.wire.delivery import Delivery, decode_delivery
from trio_chat.wire.messages import Kind, encode

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters

__all__ = ["Hints"]

log = structlog.get_logger(__name__)

PRESENCE_CHANNEL = "presence"


class Hints:
    """What nodes tell each other beside the log. All of it is synchronous.

    `life` marks what this node says on the bus: no other node says the same, nor did this one before its start.
    """

    def __init__(
        self, router: Router, look: Look, doubts: Doubts, bus: Bus, channels: Channels, life: str, counters: Counters
    ) -> None:
        self._router = router
        # Called for each message that another node tells of.
        self._arrive = router.arrive
        self._look = look
        self._doubts = doubts
        self._bus = bus
        self._channels = channels
        self._prefix = life.encode() + b"\n"
        self._counters = counters
        # When the last message of the hints in hand was stored, by the database's clock (ms).
        self._newest_hint = 0
        # Who takes what is said on a channel that is not for the router.
        self._takers: dict[str, Callable[[bytes], None]] = {}
        channels.want([PRESENCE_CHANNEL])

    # -- what this node says ------------------------------------------------------------------------------------------

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

    def publish_states(self, changes: Iterable[StateChange]) -> None:
        """Tell this node's and the other nodes' watchers."""
        changes = list(changes)
        for change in changes:
            self._router.state_changed(change)
        self._router.flush()
        self._bus.publish(
            (PRESENCE_CHANNEL, self._prefix + encode([change.userid, change.state, change.changed]))
            for change in changes
        )

    def publish_joined(self, userid: int, groupid: int, position: int) -> None:
        """A user has become a member of a group whose log ended at `position`: tell his connections, here and elsewhere."""
        self._router.joined(userid, groupid, Cursor(group_conv(groupid), position, position, position))
        self.publish_membership(userid, groupid)

    def publish_left(self, userid: int, groupid: int, asker: Connection | None = None) -> None:
        """A user is no member of a group any more: tell his connections, here and elsewhere."""
        self._router.left(userid, groupid, asker)
        self._router.flush()
        self.publish_membership(userid, groupid)

    def publish_membership(self, userid: int, groupid: int) -> None:
        """A user has joined or left a group: elsewhere it is to be found out which."""
        self._bus.publish([(f"u:{userid}", self._prefix + encode([userid, groupid]))])

    def publish_apart(self, *users: int) -> None:
        """Users have come apart, or together again: here and elsewhere it is to be found out."""
        for userid in users:
            self._doubts.apart(userid)
        self._bus.publish([(f"u:{userid}", self._prefix + encode([userid])) for userid in users])

    def publish_read(self, userid: int, conv: str, seq: int) -> None:
        """Tell the others in a conversation, here and on the other nodes, how far a user has read."""
        frame = read_mark(userid, conv, seq)
        self._router.tell_read(userid, conv, seq, frame)
        self._router.flush()
        self._bus.publish(self._to_others(userid, conv, frame))

    def publish_typing(self, userid: int, conv: str) -> None:
        """Tell the others in a conversation, here and on the other nodes, that a user is typing. It is kept nowhere."""
        frame = encode({"msgid": int(Kind.TYPING), "conv": conv, "id": userid})
        self._router.tell_others(userid, conv, frame)
        self._router.flush()
        self._bus.publish(self._to_others(userid, conv, frame))

    def publish_delivered(self, moves: Iterable[tuple[int, str, int]]) -> None:
        """Tell the other one in each conversation of two, wherever he is, how far (userid, conv, seq) was received.

        These come by the thousand, and few clients want them: nothing is made for nobody.
        """
        moves = list(moves)
        if self._router.want_receipts:
            for userid, conv, seq in moves:
                self._router.tell_others(userid, conv, _receipt(userid, conv, seq), receipts=True)
            self._router.flush()
        self._bus.publish(
            event for userid, conv, seq in moves for event in self._to_others(userid, conv, _receipt(userid, conv, seq))
        )

    def _to_others(self, userid: int, conv: str, frame: bytes) -> list[Event]:
        parties = parse_conv(conv)
        channels = [f"u:{party}" for party in set(parties.users or ()) if party != userid]
        if parties.groupid is not None:
            channels = [f"g:{parties.groupid}"]
        return [(channel, self._prefix + frame) for channel in channels]

    # -- what other nodes say -----------------------------------------------------------------------------------------

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
        self._router.flush()

    def _take_hint(self, channel: str, body: bytes) -> None:
        if body.startswith(b'{"msgid":26,'):
            read = msgspec.json.decode(body)
            self._router.tell_read(read["id"], read["conv"], read["seq"], body)
        elif body.startswith((b'{"msgid":30,', b'{"msgid":34,')):
            told = msgspec.json.decode(body)
            self._router.tell_others(told["id"], told["conv"], body, receipts=told["msgid"] == Kind.DELIVERED)
        elif body.startswith(b"{"):
            delivery = decode_delivery(body)
            self._newest_hint = delivery.ts
            self._arrive(delivery)
        elif channel == PRESENCE_CHANNEL:
            userid, state, changed = msgspec.json.decode(body, type=tuple[int, str, int])
            self._router.state_changed(StateChange(userid, state, changed))
        elif channel in self._takers:
            self._takers[channel](body)
        else:
            userid, *group = msgspec.json.decode(body, type=list[int])
            if group:
                self._doubts.membership(userid, group[0])
            else:
                self._doubts.apart(userid)

    def missed(self) -> None:
        """The bus may have lost events: look into the database at once."""
        self._look.at_once()

    # -- channels of other parts --------------------------------------------------------------------------------------

    def take_hints(self, channel: str, take: Callable[[bytes], None]) -> None:
        """What other nodes say on a channel goes to `take`, which never blocks; it begins with no `{`."""
        self._takers[channel] = take
        self._channels.want([channel])

    def publish_hint(self, channel: str, body: bytes) -> None:
        """Say something to those of the other nodes that take it. Never blocks."""
        self._bus.publish([(channel, self._prefix + body)])


def _receipt(userid: int, conv: str, seq: int) -> bytes:
    return encode({"msgid": int(Kind.DELIVERED), "conv": conv, "seq": seq, "id": userid})
