"""One wait for the sockets of all connections: what a message costs should not be what waiting for it costs.

`trio.lowlevel.wait_readable` registers a socket anew for each wait. With one frame per packet that, and the turn of the
event loop for each socket, cost more than receiving. So the sockets stay registered with a selector of our own, and
Trio waits for the selector, which is readable itself while one of its sockets is (epoll(7), kqueue(2)).
"""

from __future__ import annotations

import selectors
import socket

import trio

__all__ = ["Poller"]


class Poller:
    """Wakes the tasks that wait for their sockets. Owned by the server; `run` is a task of its own.

    A socket whose task is busy elsewhere is taken out of the selector when it next has something, and put back by the
    next wait: nothing spins, and a client that is not read from is held back by TCP.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # By descriptor: the task that waits for the socket, None while it does something else.
        self._waiting: dict[int, trio.lowlevel.Task | None] = {}

    async def run(self) -> None:
        """Wake tasks until cancelled; after that nobody can wait any more."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._selector)
                self._wake()
                # They read in the next turn of the event loop; before that their sockets would still be readable.
                await trio.lowlevel.checkpoint()
        finally:
            self._waiting.clear()
            self._selector.close()

    async def wait_readable(self, sock: socket.socket) -> None:
        """Wait until there is something to read, or the end. One task per socket. Cancelling is safe."""
        await trio.lowlevel.checkpoint_if_cancelled()
        fd = sock.fileno()
        if fd not in self._waiting:
            self._selector.register(fd, selectors.EVENT_READ)
        self._waiting[fd] = trio.lowlevel.current_task()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if fd in self._waiting:
                self._waiting[fd] = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def forget(self, sock: socket.socket) -> None:
        """The socket is about to be closed. Nobody may be waiting for it."""
        fd = sock.fileno()
        if self._waiting.pop(fd, self) is not self:
            self._selector.unregister(fd)

    def _wake(self) -> None:
        waiting = self._waiting
        for key, _ in self._selector.select(0):
            fd = key.fd
            task = waiting[fd]
            if task is None:
                self._selector.unregister(fd)
                del waiting[fd]
            else:
                waiting[fd] = None
                trio.lowlevel.reschedule(task)
