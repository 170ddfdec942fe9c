"""One wait for the sockets of all connections: what a message costs should not be what waiting for it costs.

`trio.lowlevel.wait_readable` registers a socket anew for each wait, and wakes a task for each. With one frame per packet
that costs more than receiving. So the sockets stay registered with a selector of our own, Trio waits for the selector,
which is readable itself while one of its sockets is (epoll(7), kqueue(2)), and what has come is taken there and then.
"""

from __future__ import annotations

import selectors
import socket
from typing import Protocol

import trio

__all__ = ["Poller", "Readable"]


class Readable(Protocol):
    """What there is to be told that a socket has something to read."""

    def readable(self) -> bool:
        """There are bytes, or the end. Returns whether to call again when there is more. Must not block, and not raise."""
        ...


class Poller:
    """Calls back where there is something to read. Owned by the server; `run` is a task of its own.

    A socket that nobody attends to is taken out of the selector when it next has something, and put back by the next
    `attend`: nothing spins, and a client that is not read from is held back by TCP.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # By descriptor: who attends to the socket, None while nobody does.
        self._attending: dict[int, Readable | None] = {}

    async def run(self) -> None:
        """Call until cancelled; after that nobody can attend any more."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._selector)
                self._call()
        finally:
            self._attending.clear()
            self._selector.close()

    def attend(self, sock: socket.socket, who: Readable) -> None:
        """Have `who` called whenever there is something to read, or the end, until it returns False, or `ignore`.

        It is called by the poller's task. One at a time for a socket.
        """
        fd = sock.fileno()
        if fd not in self._attending:
            self._selector.register(fd, selectors.EVENT_READ)
        self._attending[fd] = who

    def ignore(self, sock: socket.socket) -> None:
        """Call nobody for this socket."""
        fd = sock.fileno()
        if fd in self._attending:
            self._attending[fd] = None

    def forget(self, sock: socket.socket) -> None:
        """The socket is about to be closed."""
        fd = sock.fileno()
        if self._attending.pop(fd, self) is not self:
            self._selector.unregister(fd)

    def _call(self) -> None:
        attending = self._attending
        for key, _ in self._selector.select(0):
            fd = key.fd
            # One that was called may have closed another one's socket.
            if fd not in attending:
                continue
            who = attending[fd]
            if who is None:
                self._selector.unregister(fd)
                del attending[fd]
            elif not who.readable() and attending.get(fd) is who:
                attending[fd] = None
