"""One connection to MySQL or MariaDB, after its handshake: statements, COMMIT, and when it may be used again."""

from __future__ import annotations

import contextlib
import enum
import select
from collections.abc import Sequence
from typing import Final

import trio

from trio_chat.errors import TooLarge
from trio_chat.store.contract import Result, Statement, Value
from trio_chat.store.mysql_handshake import ConnectFailed, Greeted, handshake
from trio_chat.store.mysql_options import MySQLOptions
from trio_chat.store.mysql_protocol import (
    IN_TRANSACTION,
    NO_BACKSLASH_ESCAPES,
    ProtocolError,
    ReplyReader,
    ServerError,
    command,
    render,
)

__all__ = ["Connection", "ConnectionLost", "StatementFailed"]

_RECEIVE: Final = 65536
_QUIT: Final = b"\1\0\0\0\1"

#: STRICT_ALL_TABLES: a value that does not fit is an error, not cut. Being the whole list it also says what is not in
#: it: NO_BACKSLASH_ESCAPES, on which `render` relies, and ANSI_QUOTES. The zone makes UNIX_TIMESTAMP(NOW()) right in the
#: hour that a daylight-saving zone has twice. The two waits (for a row, for a table that is being altered) end before
#: the caller gives up, or the server would go on waiting for it, with the locks it has, for most of a minute or a day.
_SESSION: Final = (
    "SET NAMES utf8mb4, @@SESSION.sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
    "@@SESSION.time_zone = '+00:00', @@SESSION.innodb_lock_wait_timeout = {wait}, "
    "@@SESSION.lock_wait_timeout = {wait}, @@SESSION.autocommit = {autocommit:d}"
)
_ISOLATION: Final = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

#: Errors after which the server closes the connection: shutdown, network trouble, killed, idle for too long.
_LAST_WORDS: Final = frozenset(
    {1053, 1080, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 4031}
)


class ConnectionLost(Exception):
    """The connection is of no use any more. `sent` says whether the server may have got the last command."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(reason)


class StatementFailed(ServerError):
    """The server refused a statement before the last one of a command, and has not run those after it."""


class _State(enum.Enum):
    READY = enum.auto()  # nothing pending: may go to another transaction
    OPEN = enum.auto()  # in step, in a transaction
    BUSY = enum.auto()  # a command was sent, and its answer not read to the end
    CLOSED = enum.auto()


class Connection:
    """One session, owned by one task at a time.

    A command that ends in any way but a whole answer (cancelled, lost, not understood) closes the socket at once, which
    makes the server roll back. So whoever holds a connection may drop it anywhere: `ready` says whether it can be used
    again, and if it cannot, `close`.
    """

    def __init__(self, greeted: Greeted, *, autocommit: bool) -> None:
        self.version = greeted.version
        self._stream = greeted.stream
        self._socket = greeted.socket
        self._autocommit = autocommit
        self._state = _State.READY
        self._status = 0
        self._largest = 0  # the server's limit for a command, in bytes
        self._poll = select.poll()
        self._poll.register(greeted.socket.fileno(), select.POLLIN)

    @classmethod
    async def open(cls, options: MySQLOptions, *, autocommit: bool, lock_wait: float) -> Connection:
        """Connect, log in and set up the session, which waits for locks up to `lock_wait` seconds (at least one).

        No limit of time: the caller sets a deadline. Raises `ConnectFailed`. Cancelling is safe.
        """
        self = cls(await handshake(options), autocommit=autocommit)
        try:
            await self._set_up(autocommit=autocommit, lock_wait=lock_wait)
        except BaseException:
            self.close()
            raise
        return self

    async def _set_up(self, *, autocommit: bool, lock_wait: float) -> None:
        try:
            ((self._largest,),) = (await self._ask(b"SELECT @@max_allowed_packet")).rows
            await self._ask(_ISOLATION.encode())
            await self._ask(_SESSION.format(wait=max(1, int(lock_wait)), autocommit=autocommit).encode())
        except (ServerError, ConnectionLost) as error:
            raise ConnectFailed(str(error), getattr(error, "errno", 0)) from error
        if self._status & NO_BACKSLASH_ESCAPES:
            raise ConnectFailed("the server does not let us set the SQL mode")
        self._state = _State.READY

    @property
    def ready(self) -> bool:
        """Whether it may go to the next transaction: in step, and neither we nor the server have one open."""
        return self._state is _State.READY and not self._status & IN_TRANSACTION

    @property
    def in_transaction(self) -> bool:
        """Whether there may be something to commit or to roll back, and the connection can still do it."""
        return self._state is _State.OPEN

    @property
    def hung_up(self) -> bool:
        """Whether the server closed an idle connection: between two commands it says nothing but good-bye."""
        return bool(self._poll.poll(0))

    async def execute(self, sql: str, params: Sequence[Value] = ()) -> Result:
        """Run one statement.

        Raises `ServerError` where the server refuses it, `TypeError` and `TooLarge` before anything is sent (the
        connection stays usable after these), and `ConnectionLost`. Cancelling closes the connection.
        """
        return await self._ask(self._fitting(render(sql, params)))

    async def commit(self, last: Sequence[Statement] = ()) -> None:
        """Make the transaction durable, in the same round trip after the `last` statements where there are any.

        Raises `ConnectionLost`, `ServerError`, and `StatementFailed` where one of these was refused and nothing was
        committed: the transaction is still open then. Cancelling closes the connection.
        """
        # The server stops at the first error: COMMIT is done only where all the others were.
        query = b";".join([*(render(*statement) for statement in last), b"COMMIT"])
        await self._ask(self._fitting(query), len(last) + 1)
        self._state = _State.READY

    async def rollback(self) -> None:
        """Undo the transaction. Raises `ServerError` and `ConnectionLost`. Cancelling closes it, which undoes it too."""
        await self._ask(b"ROLLBACK")
        self._state = _State.READY

    def close(self) -> None:
        """Close the socket at once; the server rolls back what was open. May be called again."""
        self._state = _State.CLOSED
        self._socket.close()

    async def quit(self) -> None:
        """Close, and tell the server, so that it does not log a client that vanished. The caller sets a deadline."""
        try:
            if self._state is _State.READY:
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._stream.send_all(_QUIT)
        finally:
            self.close()

    def _fitting(self, query: bytes) -> bytes:
        if len(query) + 10 >= self._largest:
            raise TooLarge(f"a statement of {len(query)} bytes; the database takes less than {self._largest}")
        return query

    async def _ask(self, query: bytes, answers: int = 1) -> Result:
        if self._state not in {_State.READY, _State.OPEN}:
            raise ConnectionLost(f"the connection is {self._state.name.lower()}", sent=False)
        packets, sequence = command(query)
        reader = ReplyReader(sequence, answers)
        self._state = _State.BUSY
        try:
            await self._send(packets)
            result = await self._receive(reader)
        except ServerError as error:
            if error.errno in _LAST_WORDS:
                self.close()
                raise ConnectionLost(str(error), sent=True) from error
            self._state = self._between
            if reader.answered < answers - 1:
                raise StatementFailed(error.errno, error.message) from None
            raise
        except BaseException:
            self.close()
            raise
        self._status = reader.status
        self._state = self._between
        return result

    async def _send(self, packets: bytes) -> None:
        try:
            await self._stream.send_all(packets)
        except trio.BrokenResourceError as error:
            # A command of which only a part arrived is never run: nothing happened.
            raise ConnectionLost(f"the connection broke: {error.__cause__}", sent=False) from error

    async def _receive(self, reader: ReplyReader) -> Result:
        result = None
        while result is None:
            try:
                data = await self._stream.receive_some(_RECEIVE)
                if data:
                    result = reader.feed(bytes(data))
            except (trio.BrokenResourceError, ProtocolError) as error:
                raise ConnectionLost(f"the connection broke: {error.__cause__ or error}", sent=True) from error
            if not data:
                raise ConnectionLost("the server closed the connection", sent=True)
        return result

    @property
    def _between(self) -> _State:
        return _State.READY if self._autocommit else _State.OPEN
