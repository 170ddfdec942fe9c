"""A SQLite file, looked over without changing it: it may be in use, and it may not be there yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import trio

from trio_chat.check.files import check_place, check_private
from trio_chat.check.finding import Finding, note, ok, problem
from trio_chat.check.schema import check_schema
from trio_chat.store.contract import Result, Value

__all__ = ["check_sqlite"]

_PART = "database"
#: RETURNING came with it.
_OLDEST = (3, 35)


async def check_sqlite(path: Path, *, thoroughly: bool) -> list[Finding]:
    """Look at the file, `thoroughly` at every page of it. Cancelling is safe."""
    path = _resolved(path)
    findings = list(_around(path))
    if _readable(path):
        findings += await _inside(path, thoroughly=thoroughly)
    return findings


def _around(path: Path) -> Iterator[Finding]:
    if sqlite3.sqlite_version_info < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        yield problem(_PART, f"SQLite {sqlite3.sqlite_version} is older than {oldest}", "a Python with a newer SQLite")
    if path.is_dir():
        yield problem(_PART, f"{path} is a directory", "the URL names a file: sqlite:////DIRECTORY/chat.db")
        return
    directory = next((each for each in path.parents if each.is_dir()), None)
    if directory is None or not os.access(directory, os.W_OK | os.X_OK):
        yield problem(_PART, f"this user may not write in {directory or path.parent}", "chown it, or another place")
    if directory is not None:
        yield from check_place(_PART, directory)
    if not path.exists():
        yield note(_PART, f"{path} is not there yet: the first start makes it")
    elif not os.access(path, os.R_OK | os.W_OK):
        yield problem(_PART, f"this user may not read and write {path}", "chown it to the server's user")
    else:
        yield from check_private(_PART, path, "messages and password hashes")
        if _in_use(path):
            yield ok(_PART, f"a server has {path} open")


def _resolved(path: Path) -> Path:
    return path.resolve()


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _in_use(path: Path) -> bool:
    """Whether a server holds the lock beside the file."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(lock):
        try:
            # Shared, and gone at once: a server that starts in this moment would be refused.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def _inside(path: Path, *, thoroughly: bool) -> list[Finding]:
    def connect() -> sqlite3.Connection:
        # Where the last server has left nothing beside the file, neither shall we.
        calm = "" if Path(f"{path}-wal").exists() else "&immutable=1"
        return sqlite3.connect(f"{path.as_uri()}?mode=ro{calm}", uri=True, check_same_thread=False)

    def look(connection: sqlite3.Connection) -> list[str]:
        return [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]

    try:
        with contextlib.closing(await trio.to_thread.run_sync(connect)) as connection:
            findings = await check_schema(_Session(connection), sqlite=True)
            if thoroughly:
                damages = await trio.to_thread.run_sync(look, connection)
                findings.append(_integrity(damages))
    except sqlite3.Error as error:
        return [problem(_PART, f"{path} cannot be read: {error}", "a backup, if it is damaged")]
    return findings


def _integrity(damages: list[str]) -> Finding:
    if damages == ["ok"]:
        return ok(_PART, "every page of the file is sound")
    return problem(_PART, f"the file is damaged: {'; '.join(damages)}", "stop the server and restore a backup")


@attrs.frozen
class _Session:
    """What `check_schema` reads by."""

    _connection: sqlite3.Connection

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result:
        rows = await trio.to_thread.run_sync(lambda: self._connection.execute(sql, parameters).fetchall())
        return Result(rows)
