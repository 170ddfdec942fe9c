"""The systems under test: a real server process on each kind of database, with its accounts and connections."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio

from bench.generator import BenchmarkError, Link
from bench.workloads import Workload
from trio_chat.services.accounts import AccountService
from trio_chat.services.passwords import Passwords
from trio_chat.store.accounts import Accounts
from trio_chat.store.groups import Groups
from trio_chat.store.mysql import MySQL
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.process import ServiceProcess, accepts, free_port
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.messages import Kind

__all__ = ["MariaDBSystem", "Running", "SQLiteSystem", "System", "connect_links", "prepare"]

_REPOSITORY = Path(__file__).resolve().parent.parent
#: A buffer pool and a log that hold a run: what is measured is committing, not a small cache.
_MARIADB_OPTIONS = ("--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M")


@attrs.frozen
class Account:
    id: int
    token: str


@attrs.frozen
class Running:
    """A server that is ready, with accounts (and, where a group was asked for, the id of the one they are all in)."""

    port: int
    pids: dict[str, int]
    accounts: list[Account]
    groupid: int


class System:
    """A database and a bus. `fresh` makes an empty database for each run and yields its URL."""

    name = ""
    title = ""
    bus = "local:"

    @property
    def pids(self) -> dict[str, int]:
        """The processes beside the server."""
        return {}

    @contextmanager
    def fresh(self, directory: Path) -> Iterator[str]:
        raise NotImplementedError

    @contextmanager
    def running(self, directory: Path, workload: Workload, profile: Path | None = None) -> Iterator[Running]:
        """A new server on a new database; with `profile` under cProfile, which writes there when the server ends."""
        port = free_port()
        python = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile else [])]
        with self.fresh(directory) as url:
            accounts, groupid = trio.run(prepare, url, workload)
            command = [
                *python,
                "-m",
                "trio_chat",
                "serve",
                "--tcp",
                f"127.0.0.1:{port}",
                "--http",
                "off",
                "--database",
                url,
            ]
            server = ServiceProcess(
                "server",
                [*command, "--bus", self.bus, "--log-level", "warning"],
                directory=directory,
                ready=lambda: accepts(port),
                env={"PYTHONPATH": os.fspath(_REPOSITORY)},
                stop_timeout=20.0,
            )
            with server:
                yield Running(port, {"server": server.pid, **self.pids}, accounts, groupid)
                server.terminate()
                if status := server.wait():
                    raise BenchmarkError(f"the server ended with {status}:\n{server.log_text()[-2000:]}")
            if (text := server.log_text()) and "[error" in text.lower():
                raise BenchmarkError(f"the server logged errors:\n{text[-2000:]}")


class SQLiteSystem(System):
    name = "sqlite"
    title = "SQLite, local bus"

    @contextmanager
    def fresh(self, directory: Path) -> Iterator[str]:
        yield f"sqlite:///{directory / 'chat.db'}"


class MariaDBSystem(System):
    """Owns a private MariaDB and a private Redis while it is entered."""

    name = "mariadb"
    title = "MariaDB, Redis"

    def __init__(self, directory: Path) -> None:
        self._mariadb = MariaDB(directory / "mariadb", options=_MARIADB_OPTIONS)
        self._redis = Redis(directory / "redis")

    @contextmanager
    def started(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self._mariadb)
            stack.enter_context(self._redis)
            self.bus = self._redis.url
            yield

    @property
    def pids(self) -> dict[str, int]:
        return {"database": self._mariadb.pid, "redis": self._redis.pid}

    @contextmanager
    def fresh(self, directory: Path) -> Iterator[str]:
        name = f"bench_{directory.name}".replace("-", "_")
        self._mariadb.create_database(name)
        yield self._mariadb.url(name)
        self._mariadb.drop_database(name)


async def prepare(url: str, workload: Workload) -> tuple[list[Account], int]:
    """Accounts with tokens, put into the database past the server: nobody waits for password hashes here."""
    async with _open(url) as database:
        await migrate(database)
        rows, groups = Accounts(database), Groups(database)
        service = AccountService(rows, Passwords(1), token_days=1)
        accounts = []
        for number in range(workload.users):
            userid = await rows.register(f"user{number:04}", "no password")
            accounts.append(Account(userid, await service.make_token(userid)))
        groupid = 0
        if workload.kind == "group":
            first, *others = accounts
            groupid = await groups.create(first.id, "everybody", "")
            for account in others:
                await groups.join(account.id, groupid)
        return accounts, groupid


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[SQLite | MySQL]:
    if url.startswith("sqlite:///"):
        async with SQLite.open(Path(url.removeprefix("sqlite:///"))) as sqlite:
            yield sqlite
    else:
        async with MySQL.from_url(url, timeout=10.0, pool=2).open() as mysql:
            yield mysql


@contextmanager
def connect_links(running: Running, workload: Workload) -> Iterator[list[Link]]:
    """Log everybody in and say who sends to whom; the sockets are closed at the end."""
    with ExitStack() as stack:
        accounts = running.accounts
        sockets = [stack.enter_context(_log_in(running.port, account)) for account in accounts]
        if workload.kind == "group":
            conv = group_conv(running.groupid)
            yield [Link(sockets[0], Kind.GROUP, "groupid", running.groupid, conv, sockets[1:])]
        else:
            yield [
                Link(
                    sockets[index],
                    Kind.DIRECT,
                    "toid",
                    accounts[index + 1].id,
                    direct_conv(accounts[index].id, accounts[index + 1].id),
                    [sockets[index + 1]],
                )
                for index in range(0, len(accounts), 2)
            ]


def _log_in(port: int, account: Account) -> socket.socket:
    """A connection in the modern dialect, logged in by token, from which everything so far has been read."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    hello = {"msgid": Kind.HELLO, "version": 1, "client": "bench"}
    login = {"msgid": Kind.LOGIN, "token": account.token}
    sock.sendall(b"".join(json.dumps(frame).encode() + b"\n" for frame in (hello, login)))
    data = b""
    while data.count(b"\n") < 2:
        more = sock.recv(65536)
        if not more:
            raise BenchmarkError("the server closed a connection during its login")
        data += more
    greeting, answer = map(json.loads, data.splitlines())
    if greeting["msgid"] != Kind.HELLO_ACK or answer["msgid"] != Kind.LOGIN_ACK or answer["errno"] != 0:
        raise BenchmarkError(f"a login failed: {answer}")
    return sock
