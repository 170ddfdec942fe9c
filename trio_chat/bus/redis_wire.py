"""What the bus says to Redis: commands, the names of its channels there, and the notices between the buses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import hiredis

__all__ = ["INCOMPLETE", "PING", "Answers", "Scope", "Topics", "command"]

PING = b"*1\r\n$4\r\nPING\r\n"

#: hiredis' own sign for an incomplete answer is False, which equals the answer 0.
INCOMPLETE = object()


def command(*words: bytes) -> bytes:
    """A command as it goes over the wire."""
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


class Answers:
    """Redis's answers, as they come complete: integers, bytes, lists, or a `hiredis.ReplyError`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        #: The next answer, or `INCOMPLETE`. Raises `hiredis.ProtocolError`. Not a list of them: an answer that is
        #: dropped at once costs a third less than one that lives until the garbage collector looks at it.
        self.next: Callable[[], Any] = self._reader.gets

    @property
    def incomplete(self) -> int:
        """How many bytes wait for the rest of their answer, about."""
        return self._reader.len()

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)


@attrs.frozen
class Scope:
    """The names in Redis of one deployment; `name` keeps it apart from others, `me` is this bus among its own."""

    name: str
    me: bytes

    def topic(self, channel: str) -> bytes:
        """The name in Redis of a channel."""
        return f"{self.name}:{channel}".encode()

    @property
    def control(self) -> bytes:
        """The name of the channel for notices between the buses; no `topic` equals it."""
        return f"{self.name}!".encode()

    def notice(self, *, gap: bool) -> bytes:
        """The command that says "I am here", or with `gap` "events of mine were lost, look into the database"."""
        return command(b"PUBLISH", self.control, (b"gap " if gap else b"hello ") + self.me)

    def is_gap(self, notice: bytes) -> bool:
        """Whether a notice is about a gap of another bus: our own users were served without Redis."""
        return notice.startswith(b"gap ") and notice != b"gap " + self.me


class Topics:
    """Every topic that is wanted, with its channel; owned by the subscriber's thread, outlives its connections."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._channels: dict[bytes, str] = {}
        #: The channel of a topic; None when it is not wanted (any more). The dictionary's own method: called per event.
        self.channel: Callable[[bytes], str | None] = self._channels.get

    def change(self, changes: Mapping[str, bool]) -> tuple[list[bytes], list[bytes]]:
        """Apply what is wanted (True) and not wanted any more; the topics that are new, and those that are gone."""
        added: list[bytes] = []
        removed: list[bytes] = []
        for channel, wanted in changes.items():
            topic = self._scope.topic(channel)
            if not wanted:
                if self._channels.pop(topic, None) is not None:
                    removed.append(topic)
            elif topic not in self._channels:
                self._channels[topic] = channel
                added.append(topic)
        return added, removed

    def all(self) -> list[bytes]:
        return list(self._channels)
