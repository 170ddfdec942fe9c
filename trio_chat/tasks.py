"""A connection's task; and in it, only while there is something to do, a nursery for what is going on.

A task that waits takes 1.5 KiB, a nursery that is open 2 more: there may be very many connections, most of them idle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

__all__ = ["Tasks"]

_Work = tuple[Callable[..., Awaitable[None]], tuple[object, ...]]


class Tasks:
    """Starts what has something to wait for, and ends it all together."""

    __slots__ = ("_ending", "_idle", "_nursery", "_work")

    def __init__(self) -> None:
        # It was said that this is to end, and what is going on is cancelled.
        self._ending = False
        # What is to be begun. A tuple, as an empty one takes no memory.
        self._work: tuple[_Work, ...] = ()
        # There while something is going on.
        self._nursery: trio.Nursery | None = None
        # The task, while it has nothing to do.
        self._idle: trio.lowlevel.Task | None = None

    async def _do_work(self) -> None:
        """Do what was started. Raises what it raises, in a group. Cancelling ends all of it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for work, arguments in self._work:
                    nursery.start_soon(work, *arguments)
                self._work = ()
        finally:
            # It knows the task, and so all of this: what a connection had queued would stay until the next garbage collection.
            self._nursery = None

    def _start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Have a task do this, unless it is the end. Never blocks."""
        if self._ending:
            return
        # A nursery whose last child has ended takes no other one.
        if self._nursery is not None and self._nursery.child_tasks:
            self._nursery.start_soon(work, *arguments)
        else:
            self._work = (*self._work, (work, arguments))
            self.wake()

    def _stop(self) -> None:
        """End all that is going on; where the task is idle somebody has to wake it. Never blocks."""
        self._ending = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def wake(self) -> None:
        """Have the task see what there is to do. Never blocks; does nothing where it is not idle."""
        if self._idle is not None:
            idle, self._idle = self._idle, None
            trio.lowlevel.reschedule(idle)

    def _abort(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._idle = None
        return trio.lowlevel.Abort.SUCCEEDED
