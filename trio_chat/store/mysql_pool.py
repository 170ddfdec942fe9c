"""A bounded pool of connections that keeps only those of which nothing is in doubt."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from trio_chat.store.mysql_driver import Connection
from trio_chat.store.mysql_handshake import ConnectFailed
from trio_chat.store.mysql_options import MySQLOptions

__all__ = ["QUIT_LIMIT", "Pool", "PoolStatistics"]

#: How long saying good-bye to the server may take, in seconds.
QUIT_LIMIT: Final = 1.0


@attrs.frozen
class PoolStatistics:
    """How many connections are `idle` and `used`, and how many tasks are `waiting` for one."""

    idle: int
    used: int
    waiting: int


class Pool:
    """At most `options.pool` connections, all with autocommit on or all with it off.

    Who finds them all used waits, first come first served; the caller's deadline bounds the wait, and so the queue. There
    are no tasks: a connection that the server closed is noticed when it is next taken.
    """

    def __init__(self, options: MySQLOptions, *, autocommit: bool) -> None:
        self._options = options
        self._autocommit = autocommit
        self._slots = trio.Semaphore(options.pool)
        self._idle: list[Connection] = []  # the last one used is taken first, so that a calm pool has few warm ones
        self._closed = False

    def statistics(self) -> PoolStatistics:
        used = self._options.pool - self._slots.value
        return PoolStatistics(len(self._idle), used, self._slots.statistics().tasks_waiting)

    def take_nowait(self) -> Connection | None:
        """An idle connection for the calling task alone, or None where there is none. `give_back` must follow."""
        if self._idle and not self._closed and self._slots.value:
            connection = self._idle[-1]
            if not connection.hung_up:
                self._slots.acquire_nowait()
                return self._idle.pop()
        return None

    async def take(self, *, fresh: bool = False) -> tuple[Connection, bool]:
        """Like `take_nowait`, once there is one; and whether it has just been made. `give_back` must follow.

        With `fresh` it is made in any case, and the idle ones are closed: who asks has found one of them dead. Raises
        `ConnectFailed`. No limit of time: the caller sets a deadline. Cancelling is safe.
        """
        if self._closed:
            raise ConnectFailed("the pool is closed")
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not fresh and not connection.hung_up:
                    return connection, False
                connection.close()
            # A lock wait ends before the transaction's deadline, or the server would keep waiting after we have gone.
            lock_wait = self._options.timeout - 1
            return await Connection.open(self._options, autocommit=self._autocommit, lock_wait=lock_wait), True
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """End the use of a connection. Kept where it is ready for the next transaction, closed where it is not."""
        if connection.ready and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        self._slots.release()

    async def aclose(self) -> None:
        """Close the idle connections, each within `QUIT_LIMIT`; those in use are closed when they are given back."""
        self._closed = True
        while self._idle:
            with trio.move_on_after(QUIT_LIMIT, shield=True):
                await self._idle.pop().quit()
