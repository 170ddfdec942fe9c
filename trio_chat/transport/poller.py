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


class _Attention:
    """A task that attends to a socket. An object, as it is smaller than closures, and there are many."""

    __slots__ = ("_all", "_callback", "_fd", "_task")

    def __init__(self, all_: dict[int, _Attention | None], fd: int, callback: Callable[[], bool]) -> None:
        self._all = all_
        self._fd = fd
        self._callback = callback
        self._task = trio.lowlevel.current_task()

    def call(self) -> None:
        """There is something to read."""
        if not self._callback() and self._end():
            trio.lowlevel.reschedule(self._task)

    def abort(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._end()
        return trio.lowlevel.Abort.SUCCEEDED

    def _end(self) -> bool:
        """Nobody attends any more; False where that was so already."""
        if self._all.get(self._fd) is not self:
            return False
        self._all[self._fd] = None
        return True


class Poller:
    """Calls back where there is something to read. Owned by the server; `run` is a task of its own.

    A socket that nobody attends to is taken out of the selector when it next has something, and put back by the next
    `attend`: nothing spins, and a client that is not read from is held back by TCP.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # By descriptor: who attends to the socket, None while nobody does.
        self._callbacks: dict[int, _Attention | None] = {}

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
        attention = self._callbacks[fd] = _Attention(self._callbacks, fd, callback)
        await trio.lowlevel.wait_task_rescheduled(attention.abort)

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
            if fd not in callbacks:
                continue
            attention = callbacks[fd]
            if attention is None:
                self._selector.unregister(fd)
                del callbacks[fd]
            else:
                attention.call()
