"""SQLite: the database of a single node, run by threads of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import outcome
import trio

from trio_chat.errors import StartupError, Unavailable
from trio_chat.store.contract import Dialect, Result, Steps, UniqueViolation, Value

__all__ = ["DIALECT", "SQLite", "define_functions", "execute"]

T = TypeVar("T")

DIALECT = Dialect(
    name="sqlite", for_update="", insert_ignore="INSERT OR IGNORE INTO", returning=True, now_ms="now_ms()"
)

#: How long a statement waits for another process that holds the file, in seconds: a backup, an inspecting shell.
_BUSY_SECONDS = 2.0

#: What may be over soon: a busy file, a full disk. Everything else is a defect.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}


class SQLite:
    """A `Database` in one file, in WAL mode with `synchronous=FULL`: what is committed survives a loss of power.

    One thread owns the connection that writes and another the one that reads, each with a queue of its own: a long
    read never delays a commit. Made by `open`.
    """

    dialect = DIALECT

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _ConnectionThread(path, "trio-chat-sqlite-writer")
        self._reader = _ConnectionThread(path, "trio-chat-sqlite-reader")

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[SQLite]:
        """Open the file, made where it is missing. Raises `StartupError` where that fails or another server has it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(f"the database {path} cannot be opened: {error.strerror}") from None
        database = cls(path)
        try:
            try:
                # The kernel drops the lock when the process ends, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartupError(
                    f"another server is using the database {path}; a SQLite file serves one node, "
                    "several nodes want --database mysql://… and --bus redis://…"
                ) from None
            try:
                for thread in (database._writer, database._reader):
                    await thread.start()
                yield database
            finally:
                with trio.CancelScope(shield=True):
                    for thread in (database._reader, database._writer):
                        await thread.stop()
        finally:
            os.close(lock)

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        return await self._writer.call(lambda connection: _run(connection, transaction()))

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        return await self._reader.call(lambda connection: _drive(connection, query()))

    @asynccontextmanager
    async def migration_lock(self) -> AsyncIterator[_Session]:
        """Nobody else has the file: `open` holds its lock."""
        yield _Session(self._writer)


@attrs.frozen
class _Session:
    _thread: _ConnectionThread

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result:
        def once() -> Steps[Result]:
            return (yield sql, parameters)

        return await self._thread.call(lambda connection: _drive(connection, once()))


class _ConnectionThread:
    """A thread that owns one connection and does one job after the other."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._connection: sqlite3.Connection | None = None

    async def start(self) -> None:
        self._thread.start()
        try:
            await self.call(_nothing)
        except sqlite3.Error as error:
            raise StartupError(f"the database {self._path} cannot be opened: {error}") from None

    async def stop(self) -> None:
        if self._thread.is_alive():
            self._jobs.put(None)
            await trio.to_thread.run_sync(self._thread.join)

    async def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Have the thread do a job. Where this is cancelled the job still happens as a whole, unless it had not begun."""
        token = trio.lowlevel.current_trio_token()
        task = trio.lowlevel.current_task()
        cancelled = False
        result: outcome.Outcome[T] | None = None

        def work() -> None:
            nonlocal result
            if cancelled:
                return
            result = outcome.capture(lambda: job(self._connect()))
            with contextlib.suppress(trio.RunFinishedError):  # nobody is left to be told
                token.run_sync_soon(wake)

        def wake() -> None:
            if not cancelled:
                trio.lowlevel.reschedule(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            nonlocal cancelled
            cancelled = True
            return trio.lowlevel.Abort.SUCCEEDED

        self._jobs.put(work)
        await trio.lowlevel.wait_task_rescheduled(abort)
        assert result is not None
        try:
            return result.unwrap()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING:
                raise
            raise Unavailable(f"the database cannot be used at present ({error}); nothing was stored") from error

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_SECONDS)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA cache_size=-32000")
            define_functions(connection, lambda: time.time_ns() // 1_000_000)
            self._connection = connection
        return self._connection

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        if self._connection is not None:
            self._connection.close()


def define_functions(connection: sqlite3.Connection, now_ms: Callable[[], int]) -> None:
    """Give a connection what the statements take for granted; `now_ms` is the database's clock."""
    connection.create_function("GREATEST", 2, max, deterministic=True)
    connection.create_function("now_ms", 0, now_ms)


def execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Value]) -> Result:
    """Run one statement. Raises `UniqueViolation`, `sqlite3.Error`."""
    try:
        cursor = connection.execute(sql, parameters)
        return Result(cursor.fetchall(), cursor.rowcount, cursor.lastrowid or 0)
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode not in {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}:
            raise
        raise UniqueViolation(str(error)) from None


def _nothing(_: sqlite3.Connection) -> None:
    pass


def _run(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = _drive(connection, steps)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return value


def _drive(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Give a transaction's statements to SQLite, one after the other."""
    try:
        statement = next(steps)
        while True:
            sql, parameters = statement
            try:
                result = execute(connection, sql, parameters)
            except UniqueViolation as violation:
                statement = steps.throw(violation)
            else:
                statement = steps.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()
