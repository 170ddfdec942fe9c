"""The contract's `Database` for MySQL and MariaDB: two pools of connections, retries, and what an error means.

What a caller may rely on, whatever happens to the network, the server or the caller's own task:

- `run` returned: the transaction is durable.
- It raised `OutcomeUnknown`: COMMIT was sent and its answer did not come.
- It raised anything else, `Cancelled` too: nothing happened. (One exception: where a caller is cancelled and the
  connection is lost during COMMIT at the same time, it is `Cancelled` that it sees.)

For this COMMIT is shielded from the caller's cancellation, with a deadline. Once it is sent the server finishes it in any
case; waiting a moment for the answer tells the caller which of the two happened, and keeps the connection. Before COMMIT
nothing is shielded: a cancelled transaction's connection is closed, and that makes the server roll back.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NoReturn, TypeVar

import attrs
import trio

from trio_chat.errors import StartupError, Unavailable
from trio_chat.store.contract import (
    Dialect,
    Last,
    NullViolation,
    OutcomeUnknown,
    Result,
    Statement,
    Steps,
    UniqueViolation,
    Value,
    Violation,
)
from trio_chat.store.mysql_driver import Connection, ConnectionLost, StatementFailed
from trio_chat.store.mysql_durability import warn_of_weak_durability
from trio_chat.store.mysql_handshake import ConnectFailed
from trio_chat.store.mysql_options import MySQLOptions, parse_url
from trio_chat.store.mysql_pool import QUIT_LIMIT, Pool, PoolStatistics
from trio_chat.store.mysql_protocol import ServerError

__all__ = ["MigrationSession", "MySQL", "MySQLOptions", "ServerError"]

T = TypeVar("T")

#: How often a transaction is tried while the server breaks deadlocks at its expense, and the longest first pause in
#: seconds; it doubles from try to try, and is drawn at random so that the same two do not meet again.
ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 0.005

#: COMMIT gets at least this long, in seconds, even past the deadline: not to know costs more than to wait.
COMMIT_GRACE: Final = 1.0

#: Each statement of a migration, in seconds: a large table takes its time to alter.
MIGRATION_STATEMENT: Final = 3600.0
#: How long a node waits for another one's migration, in seconds.
MIGRATION_LOCK: Final = 60

_VIOLATIONS: Final[dict[int, type[Violation]]] = {
    **dict.fromkeys((1062, 1169, 1586), UniqueViolation),
    1048: NullViolation,
}
#: Deadlock, and waited too long for a lock. On a cluster (Galera) COMMIT too may answer with the first.
_TRY_AGAIN: Final = frozenset({1213, 1205})
#: The server works but cannot serve us now: disk or table full, no memory, too many connections, read-only, interrupted,
#: a right or a table missing while an operator is at work, the cluster (Galera, Group Replication) not ready.
_UNABLE: Final = frozenset({
    *(1021, 1026, 1030, 1037, 1038, 1040, 1041, 1047, 1114, 1142, 1146, 1180),
    *(1203, 1226, 1290, 1317, 1792, 1836, 1969, 3024, 3100),
})  # fmt: skip


class _CommitLost(Exception):
    """COMMIT may have been received, and was not answered. `value` is what the transaction would have returned."""

    value: object = None


class MySQL:
    """A MySQL or MariaDB server as `Database`. Use it within `async with database.open():`."""

    def __init__(self, options: MySQLOptions) -> None:
        self.options = options
        # With autocommit off the first statement begins a transaction: there is no BEGIN to wait for. With it on a read
        # never holds a table's metadata lock.
        self._writers = Pool(options, autocommit=False)
        self._readers = Pool(options, autocommit=True)
        self._dialect: Dialect | None = None

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 3.0, pool: int = 8) -> MySQL:
        """The database of a URL, see `parse_url`. `timeout` in seconds and `pool` are those of `MySQLOptions`."""
        return cls(parse_url(url, timeout=timeout, pool=pool))

    def __repr__(self) -> str:
        return f"<MySQL {self.options.user}@{self.options.place}/{self.options.database}>"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[MySQL]:
        """Connect once, to learn the server's version and how durable it is, and close the connections at the end.

        Raises `StartupError` that says what to do where it cannot be reached or used. Cancelling is safe.
        """
        try:
            await self._greet()
            yield self
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Transactions must have ended before. Shielded, `QUIT_LIMIT` for each at most."""
        await self._writers.aclose()
        await self._readers.aclose()

    @property
    def dialect(self) -> Dialect:
        """Known once the database is open."""
        if self._dialect is None:
            raise RuntimeError("the database is not open")
        return self._dialect

    def statistics(self) -> dict[str, PoolStatistics]:
        """How the connections are used: those for `run` and those for `read`."""
        return {"run": self._writers.statistics(), "read": self._readers.statistics()}

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        """Run a transaction; the contract and the head of this file say what its end means.

        Takes at most `timeout` seconds, or `COMMIT_GRACE` more where COMMIT is on its way. Deadlocks are tried again. An
        error that the transaction raises, and a `ServerError` that a statement meets, roll back and propagate.
        """
        try:
            return await self._within_timeout(self._writers, transaction)
        except _CommitLost as lost:
            cause, value = lost.__cause__, lost.value
        await trio.lowlevel.checkpoint_if_cancelled()  # if the caller is cancelled as well, that is what it has to hear
        raise OutcomeUnknown(value=value) from cause

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        """Run statements that only read, each on its own. Raises `Unavailable`, `ServerError`. Cancelling is safe."""
        return await self._within_timeout(self._readers, query)

    @contextlib.asynccontextmanager
    async def migration_lock(self) -> AsyncIterator[MigrationSession]:
        """A session of its own, outside the pools, while no other node has one: for changing the schema.

        Waits up to `MIGRATION_LOCK` seconds for another node to finish. Raises `StartupError`. Cancelling is safe: the
        lock ends with the session.
        """
        async with self.session() as connection:
            session = MigrationSession(connection, self.options)
            name = f"trio-chat.migrate.{self.options.database}"[:64]  # MySQL's limit
            got = await session.execute("SELECT GET_LOCK(?, ?)", (name, MIGRATION_LOCK))
            if got.rows[0] != (1,):
                raise StartupError(
                    f"another node has been changing the schema of {self!r} for {MIGRATION_LOCK} s: wait for it, or see "
                    f"in SHOW PROCESSLIST who holds the lock {name!r}"
                )
            yield session
            await session.execute("DO RELEASE_LOCK(?)", (name,))

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection outside the pools, with autocommit on. Raises `StartupError`. Cancelling is safe."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            with trio.move_on_after(QUIT_LIMIT, shield=True):
                await connection.quit()

    async def _greet(self) -> None:
        async with self.session() as connection:
            self._dialect = _dialect(connection.version)
            with trio.move_on_after(self.options.timeout), contextlib.suppress(ConnectionLost):
                await warn_of_weak_durability(connection)

    async def _connect(self) -> Connection:
        """A connection outside the pools. Raises `StartupError`."""
        try:
            with trio.fail_after(self.options.timeout):
                return await Connection.open(self.options, autocommit=True, lock_wait=MIGRATION_LOCK)
        except trio.TooSlowError:
            reason = ConnectFailed(f"no answer within {self.options.timeout:g} s")
            raise _startup_error(self.options, reason) from None
        except ConnectFailed as error:
            raise _startup_error(self.options, error) from error

    async def _within_timeout(self, pool: Pool, transaction: Callable[[], Steps[T]]) -> T:
        try:
            return await _until_done(pool, transaction, trio.current_time() + self.options.timeout)
        except trio.TooSlowError:
            cause = TimeoutError(f"{self!r} did not answer within {self.options.timeout:g} s; {pool.statistics()}")
        raise Unavailable from cause


@attrs.frozen
class MigrationSession:
    """What changes the schema: statements one by one, each committed at once."""

    _connection: Connection
    _options: MySQLOptions

    async def execute(self, sql: str, params: Sequence[Value] = ()) -> Result:
        """Run one statement, for at most `MIGRATION_STATEMENT` seconds.

        Raises `Violation`, `ServerError`, and `StartupError` where the connection is lost. Cancelling closes the
        connection; what the server does with a statement that it has begun is unknown then.
        """
        try:
            with trio.fail_after(MIGRATION_STATEMENT):
                return await self._connection.execute(sql, params)
        except ServerError as error:
            _raise(error)
        except (ConnectionLost, trio.TooSlowError) as error:
            reason = str(error) or f"no answer within {MIGRATION_STATEMENT:g} s"
            raise StartupError(f"lost the database at {self._options.place} while migrating: {reason}") from error


async def _until_done(pool: Pool, transaction: Callable[[], Steps[T]], deadline: float) -> T:
    """Run a transaction, again where the server asks for it or where a pooled connection turned out to be dead.

    Raises `trio.TooSlowError` after the deadline. Whatever waits has it for itself: most transactions wait
    once, and to set a deadline costs as much as to send a statement.
    """
    stale = False
    cause: Exception | None = None
    for attempt in range(ATTEMPTS):
        connection, new = None if stale else pool.take_nowait(), False
        if connection is None:
            try:
                with trio.fail_at(deadline):
                    connection, new = await pool.take(fresh=stale)
            except ConnectFailed as error:
                raise Unavailable from error
        try:
            return await _once(connection, transaction, deadline)
        except ConnectionLost as error:
            if new:
                raise Unavailable from error
            stale = True  # restarted, or idle for too long: nothing was stored, and a new connection will tell
            continue
        except ServerError as error:
            if error.errno not in _TRY_AGAIN:
                _raise(error)
            cause = error
        finally:
            pool.give_back(connection)
        await trio.sleep(random.uniform(0, FIRST_PAUSE * 2**attempt))  # noqa: S311 - a pause is no secret
    raise Unavailable from cause


async def _once(connection: Connection, transaction: Callable[[], Steps[T]], deadline: float) -> T:
    steps = transaction()
    try:
        value = await _drive(connection, steps, deadline)
    except Exception as error:  # noqa: BLE001 - raised again below; while it is handled nothing should wait
        failure = error
    else:
        return value
    finally:
        steps.close()
    if connection.in_transaction:
        with trio.move_on_at(deadline), contextlib.suppress(ServerError, ConnectionLost):
            await connection.rollback()
    raise failure


async def _drive(connection: Connection, steps: Steps[T], deadline: float) -> T:
    """Run the statements that `steps` yields, to its end, and commit."""
    committed = False
    lost: _CommitLost | None = None
    answer: Result | Violation
    try:
        step = next(steps)
        while not committed:
            if isinstance(step, Last):
                try:
                    answer = await _commit(connection, deadline, step.statements)
                except _CommitLost as error:
                    answer, lost = Result(), error
                committed = isinstance(answer, Result)
            else:
                answer = await _execute(connection, deadline, *step)
            step = steps.send(answer) if isinstance(answer, Result) else steps.throw(answer)
        raise RuntimeError("a transaction went on after its last statement")
    except StopIteration as stop:
        value: T = stop.value
    if not committed and connection.in_transaction:
        try:
            await _commit(connection, deadline)
        except _CommitLost as error:
            lost = error
    if lost is not None:
        lost.value = value
        raise lost
    return value


async def _execute(connection: Connection, deadline: float, sql: str, params: Sequence[Value]) -> Result | Violation:
    with trio.move_on_at(deadline):
        try:
            return await connection.execute(sql, params)
        except ServerError as error:
            if error.errno in _VIOLATIONS:
                return _violation(error)  # the server has undone this statement only: the transaction may go on
            raise
    raise trio.TooSlowError


async def _commit(connection: Connection, deadline: float, last: Sequence[Statement] = ()) -> Result | Violation:
    """Commit, after the `last` statements where there are any. Raises `_CommitLost`; anything else: nothing happened."""
    await trio.lowlevel.checkpoint_if_cancelled()  # the last moment at which nothing happens
    doubt: Exception | None = TimeoutError("COMMIT was not answered in time")
    with trio.CancelScope(deadline=max(deadline, trio.current_time() + COMMIT_GRACE), shield=True):
        try:
            await connection.commit(last)
            doubt = None
        except StatementFailed as error:
            if error.errno in _VIOLATIONS:
                return _violation(error)
            raise
        except ServerError as error:
            if error.errno in _TRY_AGAIN:
                raise  # rolled back
            doubt = error
        except ConnectionLost as error:
            if not error.sent:
                raise
            doubt = error
    if doubt is not None:
        raise _CommitLost from doubt
    return Result()


def _violation(error: ServerError) -> Violation:
    violation = _VIOLATIONS[error.errno](error.message)
    violation.__cause__ = error
    return violation


def _raise(error: ServerError) -> NoReturn:
    if error.errno in _VIOLATIONS:
        raise _violation(error)
    if error.errno in _UNABLE:
        raise Unavailable from error
    raise error


def _dialect(version: str) -> Dialect:
    maria = "mariadb" in version.lower()
    # MariaDB from 10 on may announce itself as "5.5.5-10.11.6-MariaDB", for the sake of old replicas.
    numbers = re.match(r"(\d+)\.(\d+)", version.removeprefix("5.5.5-") if maria else version)
    release = tuple(map(int, numbers.groups())) if numbers else (0, 0)
    return Dialect(
        name="mariadb" if maria else "mysql",
        for_update=" FOR UPDATE",
        # It also turns errors other than a duplicate into warnings, for example a value that is too long into a cut one.
        insert_ignore="INSERT IGNORE INTO",
        returning=maria and release >= (10, 5),
        now_ms="CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    )


def _startup_error(options: MySQLOptions, error: ConnectFailed) -> StartupError:
    """What an operator can do about a failed connection. The server's own texts never have the password."""
    match error.errno:
        case 1045 | 1698:
            text = f"refuses the user {options.user!r}: {error}. Check the user and the password in the database URL"
        case 1044 | 1049:
            text = (
                f"has no database {options.database!r} for the user {options.user!r}: {error}. Create it (CREATE DATABASE "
                f"{options.database} CHARACTER SET utf8mb4) and grant the user all rights on it"
            )
        case 0:
            text = f"cannot be reached: {error}. Check that it runs, and host, port and TLS in the database URL"
        case _:
            text = f"refuses the connection: {error}"
    return StartupError(f"the database at {options.place} {text}")
