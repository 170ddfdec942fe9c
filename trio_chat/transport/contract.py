"""What a connection needs of its network side, whatever carries it."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

__all__ = ["End", "Reader", "Transport", "TransportBroken"]


class TransportBroken(Exception):
    """The other side is gone; nothing more can be sent or received."""


class End(Enum):
    """Why the server ends a connection."""

    DONE = "done"  #: the client ended its half, and was answered
    BROKEN = "broken"  #: the client broke off
    DRAINING = "draining"  #: this server stops; another one, or this one in a moment, is there
    FULL = "full"  #: there are too many connections; later there may be fewer
    TOO_LONG = "too long"  #: a frame was over the limit
    DEAF = "does not read"  #: the client does not take what is sent to it
    LATE = "did not log in"  #: the client took too long to log in, and others wait for its place
    HOARDING = "holds too much memory"  #: memory is short, and this client has much unread or half sent
    SILENT = "silent"  #: the client shows no sign of life
    REVOKED = "login revoked"  #: its login was ended from elsewhere
    FAILED = "failed"  #: a defect of the server, or its sudden end


class Reader(Protocol):
    """What a transport gives its bytes to. Neither method blocks or raises."""

    def received(self, data: bytes) -> bool:
        """Take what has come, at least one byte; returns whether more is wanted now."""
        ...

    def ended(self, failure: Exception | None) -> None:
        """Nothing more comes: the other side has ended its half or, with a `failure`, it broke with that."""
        ...


class Transport(Protocol):
    """A byte stream with one reader, to which anybody in the Trio thread may try to write."""

    @property
    def peer(self) -> str:
        """The client's address, for the log."""
        ...

    @property
    def kind(self) -> str:
        """What carries it: `tcp`, `tls` or `websocket`."""
        ...

    @property
    def committed(self) -> int:
        """How many bytes, of those that `send_nowait` was last offered and did not take, it can only send as they were.

        They must be what the next call begins with. Zero where bytes go out as they are.
        """
        ...

    def attend(self, reader: Reader) -> None:
        """Give all bytes to `reader` as they come, until it wants no more for now, or there are no more. Never blocks.

        So nobody has to be woken for each chunk, and a connection that is idle needs no task. What has come already may
        be given at once. Bytes that nobody attends to wait.
        """
        ...

    def ignore(self) -> None:
        """Give nothing to anybody, until the next `attend`. Never blocks; may be called at any time."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, in place of a reader; empty at the end of the stream. Raises `TransportBroken`. Cancelling is safe."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Hand as much as fits to the kernel and return how much that was. Never blocks. Raises `TransportBroken`.

        What was not taken is offered again by the next call, with more behind it perhaps.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until the kernel takes more. Raises `TransportBroken`. Cancelling is safe."""
        ...

    def end(self, reason: End) -> bool:
        """Tell the other side, as far as it can be told, that nothing more will be sent, and why. Never blocks.

        Returns whether to read on until the other side ends, for a moment: what it has sent and nobody read would make
        the kernel break the connection off, and destroy what was sent last.
        """
        ...

    def close(self) -> None:
        """Close at once; what was not handed to the kernel is lost. May be called again."""
        ...
