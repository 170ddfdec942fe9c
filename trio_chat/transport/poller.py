"""One wait for the sockets of all connections: what a message costs should not be what waiting for it costs.

`trio.lowlevel.wait_readable` registers a socket anew for each wait, and wakes a task for each. With one frame per packet
that costs more than receiving. So the sockets stay registered with a selector of our own, Trio waits for the selector,
which is readable itself while one of its sockets is (epoll(7), kqueue(2)), and what has come is taken there and then.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

import trio

__all__ = ["Poller"]


class Poller:
    """Calls back where there is something to read. Owned by the server; `run` is a task of its own.

    A socket that nobody attends to is taken out of the selector when it next has something, and put back by the next
    `attend`: nothing spins, and a client that is not read from is held back by TCP.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # By descriptor: what to call, None while nobody attends to the socket.
        self._callbacks: dict[int, Callable[[], bool] | None] = {}

    async def run(self) -> None:
        """Call back until cancelled; after that nobody can attend any more."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._selector)
                self._call()
        finally:
            self._callbacks.clear()
            self._selector.close()

    async def attend(self, sock: socket.socket, callback: Callable[[], bool]) -> None:
        """Have `callback` called whenever there is something to read, or the end, until it returns False.

        It is called by the poller's task: it must not block, and not raise. One task per socket. Cancelling is safe:
        after that it is not called any more.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        fd = sock.fileno()
        if fd not in self._callbacks:
            self._selector.register(fd, selectors.EVENT_READ)
        task = trio.lowlevel.current_task()

        def call() -> bool:
            if callback():
                return True
            if self._callbacks.get(fd) is call:
                self._callbacks[fd] = None
                trio.lowlevel.reschedule(task)
            return False

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if self._callbacks.get(fd) is call:
                self._callbacks[fd] = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._callbacks[fd] = call
        await trio.lowlevel.wait_task_rescheduled(abort)

    def forget(self, sock: socket.socket) -> None:
        """The socket is about to be closed. Nobody may be attending to it."""
        fd = sock.fileno()
        if self._callbacks.pop(fd, self) is not self:
            self._selector.unregister(fd)

    def _call(self) -> None:
        callbacks = self._callbacks
        for key, _ in self._selector.select(0):
            fd = key.fd
            # One callback may have closed another one's socket.
            callback = callbacks.get(fd, self._closed)
            if callback is None:
                self._selector.unregister(fd)
                del callbacks[fd]
            else:
                callback()

    @staticmethod
    def _closed() -> bool:
        return False
