"""What a connection needs of its network side, whatever carries it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Transport", "TransportBroken"]


class TransportBroken(Exception):
    """The other side is gone; nothing more can be sent or received."""


class Transport(Protocol):
    """A byte stream that one task reads, and that anybody in the Trio thread may try to write to."""

    @property
    def peer(self) -> str:
        """The client's address, for the log."""
        ...

    async def receive(self) -> bytes:
        """The next bytes; empty at the end of the stream. Raises `TransportBroken`. Cancelling is safe."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Hand as much as fits to the kernel and return how much that was. Never blocks. Raises `TransportBroken`."""
        ...

    async def wait_writable(self) -> None:
        """Wait until the kernel takes more. Raises `TransportBroken`. Cancelling is safe."""
        ...

    def end(self) -> None:
        """Tell the other side that nothing more will be sent; what it still sends can be read. Never blocks."""
        ...

    def close(self) -> None:
        """Close at once; what was not handed to the kernel is lost. May be called again."""
        ...
