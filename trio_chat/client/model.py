"""What a client program sees: messages, people, groups, and where a message stands."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

__all__ = ["Conversation", "Friend", "Group", "Member", "Message", "Page", "Sent", "User"]


@attrs.frozen
class User:
    """Who this client is logged in as."""

    id: int
    name: str


@attrs.frozen
class Friend:
    """A user on one's own list; `online` is kept up to date while connected."""

    id: int
    name: str
    online: bool


@attrs.frozen
class Member:
    """A user in a group; `role` is `creator` or `normal`. `online` is as of the login or of the joining."""

    id: int
    name: str
    online: bool
    role: str


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
    """Where an acknowledged message stands: it is durable, and every member will see it there."""

    conv: str
    seq: int
    ts: int


@attrs.frozen
class Conversation:
    """How far a conversation has come: its last message, and what this account has received and read."""

    conv: str
    last_seq: int
    received_seq: int
    read_seq: int


@attrs.frozen
class Page:
    """A part of a conversation's log, in rising `seq`; `more` says whether the log goes on in the direction asked for."""

    messages: tuple[Message, ...]
    more: bool
