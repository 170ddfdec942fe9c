"""What a client program sees: messages, people, groups, where a message stands, and what happens beside the messages.

Events tell of the latest state, messages are a log. So events may be merged and, in a flood, dropped (`chat.friends`,
`chat.user` and `chat.connected` always hold the truth), while a message is never.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime

import attrs

from trio_chat.errors import ChatError

__all__ = [
    "Connected",
    "Conversation",
    "Disconnected",
    "Event",
    "EventQueue",
    "ExportPage",
    "Friend",
    "Group",
    "Login",
    "Member",
    "Message",
    "Page",
    "Person",
    "PresenceChanged",
    "ReadBy",
    "ReceivedBy",
    "RemovedFrom",
    "Sent",
    "SignedOut",
    "TypingBy",
    "User",
]


@attrs.frozen
class User:
    """An account: who this client is logged in as, or somebody else."""

    id: int
    name: str


@attrs.frozen
class Friend:
    """A user on one's own list; `online` is kept up to date while connected."""

    id: int
    name: str
    online: bool


@attrs.frozen
class Person:
    """A user that was asked for; `online` is as of the answer."""

    id: int
    name: str
    online: bool


@attrs.frozen
class Member:
    """A user in a group; `role` is `creator` or `normal`. `online` is as of the login, of the joining, or of the answer.

    How far somebody has received and read the group is known from `group_info` only, elsewhere `None`.
    """

    id: int
    name: str
    online: bool
    role: str
    received_seq: int | None = None
    read_seq: int | None = None


@attrs.frozen
class Group:
    """A group one is in."""

    id: int
    name: str
    description: str
    members: tuple[Member, ...] = ()


@attrs.frozen
class Message:
    """One message of a conversation.

    `conv` names the conversation and `seq` the place in it (1, 2, 3 … without holes, the same for everyone). `ts` is
    the server's time in milliseconds since the epoch; `time` is the text that the sender's program or the server chose
    to show. `sender` and `name` say who wrote it, `mine` whether that is the account logged in here. `key` is what the
    sender's program made it repeatable with.
    """

    conv: str
    seq: int
    ts: int
    sender: int
    name: str
    text: str
    time: str
    key: str | None = None
    mine: bool = False

    @property
    def is_group(self) -> bool:
        """Whether it was said in a group."""
        return self.conv.startswith("g:")

    @property
    def group(self) -> int | None:
        """The group's id, or `None` where the conversation is between two users."""
        return int(self.conv[2:]) if self.is_group else None

    @property
    def sent_at(self) -> datetime:
        """When the server stored it, in UTC; the server's clock, not the sender's text (`time`)."""
        return datetime.fromtimestamp(self.ts / 1000, UTC)


@attrs.frozen
class Sent:
    """Where an acknowledged message stands: it is durable, and every member will see it there.

    `conv`, `seq` and `ts` are those of `Message`.
    """

    conv: str
    seq: int
    ts: int


@attrs.frozen
class Conversation:
    """How far a conversation has come: the `seq` of its last message, and up to which this account has received and read.

    In a conversation of two also the other one; in a group, and with oneself, these are `None`.
    """

    conv: str
    last_seq: int
    received_seq: int
    read_seq: int
    peer_received_seq: int | None = None
    peer_read_seq: int | None = None


@attrs.frozen
class Login:
    """Where this account is logged in, or can log itself in again without the password.

    `client` is what the program there calls itself, `address` from where it last logged in, `current` whether it is this
    one. Times are in milliseconds since the epoch by the server's clock, 0 where it does not know.
    """

    id: str
    created: int
    used: int
    expires: int
    client: str
    address: str
    current: bool


@attrs.frozen
class ExportPage:
    """A part of all that the server has of this account. `more` says whether there is another behind it.

    `profile` is in the first page only: the account, its friends, groups, conversations and logins, as they are on the wire.
    """

    profile: Mapping[str, object] | None
    messages: tuple[Message, ...]
    more: bool


@attrs.frozen
class Page:
    """A part of a conversation's log, in rising `seq`; `more` says whether the log goes on in the direction asked for.

    Or what a search found, the newest first.
    """

    messages: tuple[Message, ...]
    more: bool


@attrs.frozen
class Connected:
    """The client is connected, and logged in again where it was logged in before.

    `server` and `node` are what the server calls itself.
    """

    server: str
    node: str


@attrs.frozen
class Disconnected:
    """The connection is lost (`reason`); the client goes on trying to connect."""

    reason: str


@attrs.frozen
class SignedOut:
    """The server refused to log this client in again: `login` is needed. Unacknowledged messages have failed with `error`."""

    error: ChatError


@attrs.frozen
class PresenceChanged:
    """A friend went online or offline."""

    id: int
    online: bool


@attrs.frozen
class ReadBy:
    """A member (`user`) has read a conversation up to `seq`."""

    conv: str
    seq: int
    user: int


@attrs.frozen
class ReceivedBy:
    """The other one (`user`) in a conversation of two has received it up to `seq`. Comes with `Options.receipts` only."""

    conv: str
    seq: int
    user: int


@attrs.frozen
class TypingBy:
    """A member (`user`) is writing in a conversation. It is not told when that ends: show it for some six seconds."""

    conv: str
    user: int


@attrs.frozen
class RemovedFrom:
    """One is not in the group (its id) any more: removed by its creator, or left on another of one's devices."""

    group: int


Event = Connected | Disconnected | SignedOut | PresenceChanged | ReadBy | ReceivedBy | TypingBy | RemovedFrom


def _subject(event: Event) -> Hashable:
    match event:
        case PresenceChanged():
            return PresenceChanged, event.id
        case ReadBy() | ReceivedBy() | TypingBy():
            return type(event), event.conv, event.user
        case RemovedFrom():
            return RemovedFrom, event.group
        case Connected() | Disconnected():
            return "connection"
        case SignedOut():
            return "account"


class EventQueue:
    """Events that the application has not taken yet, oldest first.

    A newer event replaces the older one on the same subject and goes to the end; over `limit` the oldest is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: OrderedDict[Hashable, Event] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        subject = _subject(event)
        self._events.pop(subject, None)
        self._events[subject] = event
        if len(self._events) > self._limit:
            self._events.popitem(last=False)

    def take(self) -> Event | None:
        """The oldest event, or `None` where there is none."""
        return self._events.popitem(last=False)[1] if self._events else None
