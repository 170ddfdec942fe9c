"""What happens beside the messages: people come and go, others read, the connection is lost and is back.

Events tell of the latest state, messages are a log. So events may be merged and, in a flood, dropped (`chat.friends`,
`chat.user` and `chat.connected` always hold the truth), while a message is never.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs

from trio_chat.errors import ChatError

__all__ = ["Connected", "Disconnected", "Event", "EventQueue", "PresenceChanged", "ReadBy", "SignedOut"]


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


Event = Connected | Disconnected | SignedOut | PresenceChanged | ReadBy


def _subject(event: Event) -> Hashable:
    match event:
        case PresenceChanged():
            return PresenceChanged, event.id
        case ReadBy():
            return ReadBy, event.conv, event.user
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
