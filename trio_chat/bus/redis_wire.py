"""What the bus says to Redis, the names of its channels there, and when a connection to it is dead."""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import hiredis
import trio

from trio_chat.bus.redis_settings import RedisLimits

__all__ = [
    "INCOMPLETE",
    "PING",
    "Answers",
    "Broken",
    "Heartbeat",
    "Scope",
    "Topics",
    "command",
    "describe",
]

PING = b"*1\r\n$4\r\nPING\r\n"

#: How a notice begins that events were lost.
GAP = b"gap "

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
    """The names in Redis of one deployment; `name` keeps it apart from others, `me` (hexadecimal) is this bus among its own."""

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
        return command(b"PUBLISH", self.control, (GAP if gap else b"hello ") + self.me)

    def is_mine(self, notice: bytes) -> bool:
        """Whether this bus has said it. A gap of one's own matters to nobody here: our users were served without Redis."""
        return notice.endswith(b" " + self.me)

    def listeners(self) -> bytes:
        """The command that asks how many buses listen to notices; its answer is a list of the channel and a number."""
        return command(b"PUBSUB", b"NUMSUB", self.control)


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


class Broken(Exception):
    """The connection is of no use any more; the text says why."""


class Heartbeat:
    """Notices a peer that has stopped answering.

    It counts turns of the loop instead of reading a clock: after this process itself has stood still (suspended, or
    busy for seconds) the answers that wait in the socket are read before the peer is called dead.
    """

    def __init__(self, limits: RedisLimits) -> None:
        self._patience = max(1, math.ceil(limits.silence_seconds / limits.ping_seconds))
        self._silent = 0

    def heard(self) -> None:
        """The peer has sent something."""
        self._silent = 0

    def tick(self) -> bool:
        """To be called every `ping_seconds`; True asks for a PING. Raises `Broken` when the peer stayed silent."""
        self._silent += 1
        if self._silent > self._patience:
            raise Broken("no answer to PING in time")
        return self._silent == 1


def describe(error: BaseException) -> str:
    """One short line that says what was wrong, the same for the same cause, without passwords."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, (trio.TooSlowError, TimeoutError)):
        return "no answer in time"
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, socket.gaierror)) and error.errno:
        return os.strerror(error.errno)  # error.strerror may be Trio's own text, with the address once more
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
