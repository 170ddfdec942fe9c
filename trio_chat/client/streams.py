"""What the application iterates over: the messages, and the events beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from trio_chat.client.connection import Link
from trio_chat.client.model import Event, Message
from trio_chat.client.protocol import Protocol

__all__ = ["Events", "Messages"]

T = TypeVar("T")


class _Stream(AsyncIterator[T], ABC, Generic[T]):
    """Values from a protocol, for one task at a time.

    Ends when the chat is closed. Cancelling is safe: nothing is taken. Raises `anyio.BusyResourceError` where another
    task waits already.
    """

    def __init__(self, protocol: Protocol, link: Link) -> None:
        self._protocol = protocol
        self._link = link
        self._busy = False

    async def __anext__(self) -> T:
        if self._busy:
            raise anyio.BusyResourceError("reading from")
        self._busy = True
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            while (value := self._take()) is None:
                if self._protocol.closed:
                    raise StopAsyncIteration
                await self._link.changed.wait()
            await anyio.lowlevel.cancel_shielded_checkpoint()
            return value
        finally:
            self._busy = False

    @abstractmethod
    def _take(self) -> T | None: ...


class Messages(_Stream[Message]):
    """See `Chat.messages`.

    Where logging in again after a reconnect failed, the server's refusal is raised, once and after the messages that came
    before it. Iterating may go on: what comes next, comes after the next login.
    """

    def _take(self) -> Message | None:
        message = self._protocol.take(anyio.current_time())
        self._link.kick()
        if message is None and (refusal := self._protocol.take_refusal()) is not None:
            raise refusal
        return message


class Events(_Stream[Event]):
    """See `Chat.events`."""

    def _take(self) -> Event | None:
        return self._protocol.events.take()
