"""SQLite: the database of a single node, run by threads of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import outcome
import trio

from trio_chat.errors import StartupError, Unavailable
from trio_chat.store.contract import Dialect, Last, NullViolation, Result, Steps, UniqueViolation, Value, Violation

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

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        self._writer = _ConnectionThread(path, "trio-chat-sqlite-writer", patience)
        self._reader = _ConnectionThread(path, "trio-chat-sqlite-reader", patience)

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, patience: float = 3.0, beside: bool = False) -> AsyncIterator[SQLite]:
        """Open the file, made where it is missing. Raises `StartupError` where that fails or another server has it.

        `beside`: a server may have it, this is only a command that looks or changes a little.
        `patience`, in seconds, is how long a transaction may wait until it is begun. Then it is seen through: it waits a
        little more where another process has the file.
        """
        database = cls(path, patience)
        with contextlib.nullcontext() if beside else _lock(path):
            try:
                _create(path)
                for thread in (database._writer, database._reader):
                    await thread.start()
                yield database
            finally:
                with trio.CancelScope(shield=True):
                    for thread in (database._reader, database._writer):
                        await thread.stop()

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        return await self._writer.call(lambda connection: _run(connection, transaction()))

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        return await self._reader.call(lambda connection: _drive(connection, query()))

    @asynccontextmanager
    async def migration_lock(self) -> AsyncIterator[_Session]:
        """Nobody else has the file: `open` holds its lock."""
        yield _Session(self._writer)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock beside a database's file, which keeps other servers away from it. Raises `StartupError`."""
    try:
        if path.is_dir():
            raise StartupError(
                f"the database {path} is a directory; the URL names a file: sqlite:////DIRECTORY/chat.db"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartupError(f"the database {path} cannot be opened: {reason}") from None
    with os.fdopen(lock):
        try:
            # The kernel drops the lock when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"another server is using the database {path}; a SQLite file serves one node, "
                "several nodes want --database mysql://… and --bus redis://…"
            ) from None
        try:
            yield
        except StartupError:
            # Nothing of ours is left beside a file that is not ours.
            with contextlib.suppress(OSError):
                Path(f"{path}.lock").unlink()
            raise


def _create(path: Path) -> None:
    """Make the file where it is missing, for this user alone; SQLite gives what it puts beside it the same mode."""
    with contextlib.suppress(OSError):  # there already, or SQLite will say what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@attrs.frozen
class _Session:
    _thread: _ConnectionThread

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result:
        def once() -> Steps[Result]:
            return (yield sql, parameters)

        return await self._thread.call(lambda connection: _drive(connection, once()))


class _ConnectionThread:
    """A thread that owns one connection and does one job after the other."""

    def __init__(self, path: Path, name: str, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._connection: sqlite3.Connection | None = None

    async def start(self) -> None:
        self._thread.start()
        try:
            await self._done(_nothing)
        except sqlite3.Error as error:
            raise StartupError(f"the database {self._path} cannot be opened: {error}") from None

    async def stop(self) -> None:
        if self._thread.is_alive():
            self._jobs.put(None)
            await trio.to_thread.run_sync(self._thread.join)

    async def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Have the thread do a job. Raises `Unavailable`, and then it was not done; the same where this is cancelled."""
        with trio.move_on_after(self._patience):
            try:
                return await self._done(job)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING:
                    raise
                raise Unavailable(f"the database cannot be used at present ({error}); nothing was stored") from error
        raise Unavailable(f"the database is busy; nothing was stored in {self._patience:g} s")

    async def _done(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """What the job returned or raised. It can be cancelled until the thread begins it."""
        token = trio.lowlevel.current_trio_token()
        task = trio.lowlevel.current_task()
        # Whoever has it decides: the thread, that the job is done, or a cancellation, that it is not.
        decision = threading.Lock()
        result: outcome.Outcome[T] | None = None

        def work() -> None:
            nonlocal result
            if decision.acquire(blocking=False):
                result = outcome.capture(lambda: job(self._connect()))
                with contextlib.suppress(trio.RunFinishedError):  # nobody is left to be told
                    token.run_sync_soon(trio.lowlevel.reschedule, task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.SUCCEEDED if decision.acquire(blocking=False) else trio.lowlevel.Abort.FAILED

        self._jobs.put(work)
        await trio.lowlevel.wait_task_rescheduled(abort)
        assert result is not None
        return result.unwrap()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_SECONDS)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA fullfsync=ON")  # macOS: to the disk, and not only to its cache
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("PRAGMA cache_size=-32000")
                define_functions(connection, lambda: time.time_ns() // 1_000_000)
            except BaseException:
                connection.close()
                raise
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


_VIOLATIONS: dict[int, type[Violation]] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: UniqueViolation,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: UniqueViolation,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: NullViolation,
}


def execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Value]) -> Result:
    """Run one statement. Raises `Violation`, `sqlite3.Error`."""
    try:
        cursor = connection.execute(sql, parameters)
        return Result(cursor.fetchall(), cursor.rowcount, cursor.lastrowid or 0)
    except sqlite3.IntegrityError as error:
        violation = _VIOLATIONS.get(error.sqlite_errorcode)
        if violation is None:
            raise
        raise violation(str(error)) from None


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
        step = next(steps)
        while True:
            try:
                result = Result()
                for sql, parameters in step.statements if isinstance(step, Last) else (step,):
                    result = execute(connection, sql, parameters)
            except Violation as violation:
                step = steps.throw(violation)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()
