"""One wait for the sockets of all connections: what a message costs should not be what waiting for it costs.

`trio.lowlevel.wait_readable` registers a socket anew for each wait, and wakes a task for each. With one frame per packet
that costs more than receiving. So the sockets stay registered with a selector of our own, Trio waits for the selector,
which is readable itself while one of its sockets is (epoll(7), kqueue(2)), and what has come is taken there and then.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import Protocol

import trio

__all__ = ["Poller", "Readable"]


#: So many are called before other tasks have their turn.
_AT_ONCE = 500


class Readable(Protocol):
    """What there is to be told that a socket has something to read."""

    def readable(self) -> bool:
        """There are bytes, or the end. Returns False where nobody wants them now. Must not block, and not raise."""
        ...


class Poller:
    """Calls where there is something to read. Owned by the server; `run` is a task of its own.

    A socket with something that nobody wants is taken out of the selector, and put back by the next `attend`: nothing
    spins, and a client that is not read from is held back by TCP.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    async def run(self) -> None:
        """Call until cancelled; after that nobody can attend any more."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._selector)
                await self._call()
        finally:
            self._selector.close()

    def attend(self, sock: socket.socket, who: Readable) -> None:
        """Have `who`, the same for a socket as long as that is open, called whenever there is something to read."""
        fd = sock.fileno()
        if fd not in self._selector.get_map():
            self._selector.register(fd, selectors.EVENT_READ, who)

    def forget(self, sock: socket.socket) -> None:
        """The socket is about to be closed."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock.fileno())

    async def _call(self) -> None:
        events = self._selector.select(0)
        for start in range(0, len(events), _AT_ONCE):
            if start:
                await trio.lowlevel.checkpoint()
            for key, _ in events[start : start + _AT_ONCE]:
                if not key.data.readable():
                    self._set_aside(key)

    def _set_aside(self, key: selectors.SelectorKey) -> None:
        # It may have been closed since it had something, and another one may have its number.
        if self._selector.get_map().get(key.fd) is key:
            self._selector.unregister(key.fd)
