"""What is going on for one connection: tasks in the server's nursery, each there only while it has something to do.

An idle connection has none of them, which is what keeps it small: a task with a nursery of its own takes 3.5 KiB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

__all__ = ["Tasks"]


class Tasks(ABC):
    """Starts them, ends them all together, and says when the last one is over.

    `_nursery` is set by whoever begins; before that nothing is started.
    """

    __slots__ = ("_ending", "_nursery", "_scopes")

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        # It was said that this is to end, and the tasks are cancelled.
        self._ending = False
        # One for each task. A tuple, as an empty one takes no memory.
        self._scopes: tuple[trio.CancelScope, ...] = ()

    def _start(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Have a task do this, unless it is the end. Never blocks."""
        if self._nursery is not None and not self._ending:
            scope = trio.CancelScope()
            self._scopes = (*self._scopes, scope)
            self._nursery.start_soon(self._do, scope, work, arguments, name=work)

    async def _do(
        self, scope: trio.CancelScope, work: Callable[..., Awaitable[None]], arguments: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                await work(*arguments)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self.fail(error)
        except BaseException:
            # Cancelled from outside: it is the server that ends.
            self._stop()
            raise
        finally:
            self._scopes = tuple(each for each in self._scopes if each is not scope)
            self._tell_if_over()

    def _stop(self) -> None:
        """End all tasks, and what they are for. Never blocks."""
        if self._nursery is not None and not self._ending:
            self._ending = True
            for scope in self._scopes:
                scope.cancel()
            self._tell_if_over()

    def _tell_if_over(self) -> None:
        if self._ending and not self._scopes:
            self._all_over()

    @abstractmethod
    def _all_over(self) -> None:
        """It was said that this is to end, and no task is left. Called once; must not block, and not raise."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """A task has failed by a defect: end, and log it. Never blocks."""
