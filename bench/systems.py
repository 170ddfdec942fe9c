"""The systems under test: what a workload needs of one, and trio-chat on each kind of database."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import trio

from bench.dialects import Client, Link, Native
from bench.generator import BenchmarkError
from bench.machine import children
from bench.population import Population, populate
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.process import ServiceProcess, accepts, free_port
from trio_chat.verify.programs.redis import Redis

__all__ = [
    "ClusterSystem",
    "MariaDBSystem",
    "Need",
    "OwnPlace",
    "OwnSystem",
    "Place",
    "SQLiteSystem",
    "System",
    "WorkersSystem",
]

_REPOSITORY = Path(__file__).resolve().parent.parent
#: A buffer pool and a log that hold a run: what is measured is committing, not a small cache.
_MARIADB_OPTIONS = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G", "--max-connections=400")
#: Where Linux has files in memory.
_MEMORY = Path("/dev", "shm")


@attrs.frozen
class Need:
    """What a workload needs: so many users, the members of each group, and who sends to people that are away."""

    users: int
    groups: Sequence[Sequence[int]] = ()
    storing: frozenset[int] = frozenset()
    options: Sequence[str] = ()
    fill: Callable[[str, Population], None] | None = None


@attrs.frozen
class Place:
    """A system that is ready.

    `pids` are its processes by what they are: server, database, redis. `clients` are the users, with their login scripts.
    `direct(number, sender, receiver)` and `group(number, sender, group)` make links between users, by their numbers.
    """

    pids: Mapping[str, Sequence[int]]
    clients: list[Client]
    direct: Callable[[int, int, int], Link]
    group: Callable[[int, int, int], Link]


@attrs.frozen
class OwnPlace(Place):
    """trio-chat: with its accounts, and the HTTP port of its first node."""

    population: Population
    http: int


class System:
    """`open` makes it ready, with nothing in it but what is needed, and takes it down again.

    `durable` says whether a message that is done survives a crash, `absent_users` whether messages to who is away are kept,
    `at_once` how many connections it lets come at the same moment. `workloads` begin with one of these.
    """

    name = ""
    title = ""
    durable = True
    absent_users = True
    at_once = 1_000_000
    workloads: Sequence[str] = ("",)

    def __init__(self, generator: Path) -> None:
        self.generator = generator

    def missing(self) -> list[str]:
        """Debian packages that it needs and that are not installed."""
        return []

    def versions(self) -> dict[str, str]:
        return {}

    @contextmanager
    def started(self, directory: Path) -> Iterator[None]:  # noqa: ARG002 (for those that need a place)
        """What stays between one `open` and the next."""
        yield

    @contextmanager
    def open(self, directory: Path, need: Need) -> Iterator[Place]:
        raise NotImplementedError


class OwnSystem(System):
    """trio-chat: `nodes` processes on one database and one bus; user number n is connected to node n modulo `nodes`."""

    nodes = 1
    bus = "local:"

    @property
    def pids(self) -> dict[str, list[int]]:
        """The processes beside the server."""
        return {}

    @contextmanager
    def database(self, directory: Path, need: Need) -> Iterator[tuple[str, Population]]:
        """The URL of a database with what is needed."""
        raise NotImplementedError

    @contextmanager
    def open(self, directory: Path, need: Need) -> Iterator[OwnPlace]:
        with self.database(directory, need) as (url, population), ExitStack() as stack:
            if need.fill:
                need.fill(url, population)
            servers = [self._server(number, url, directory, need.options) for number in range(self.nodes)]
            for server, _, _ in servers:
                stack.enter_context(server)
            ports = [port for _, port, _ in servers]
            ids = [account.id for account in population.accounts]
            clients = [
                Client("n", ports[number % self.nodes], Native.token(account.token), Native.pong)
                for number, account in enumerate(population.accounts)
            ]

            def direct(number: int, sender: int, receiver: int) -> Link:
                return Native.direct(number, ids[sender], ids[receiver], (sender, [receiver]))

            def group(number: int, sender: int, room: int) -> Link:
                others = [user for user in need.groups[room] if user != sender]
                return Native.group(number, population.groups[room], (sender, others))

            pids = {"server": [pid for server, _, _ in servers for pid in self.processes(server)], **self.pids}
            yield OwnPlace(pids, clients, direct, group, population, servers[0][2])
            for server, _, _ in servers:
                server.terminate()
                if status := server.wait():
                    raise BenchmarkError(f"the server ended with {status}:\n{server.log_text()[-2000:]}")
                if "[error" in (text := server.log_text()).lower():
                    raise BenchmarkError(f"the server logged errors:\n{text[-2000:]}")

    def processes(self, server: ServiceProcess) -> list[int]:
        """Those that serve."""
        return [server.pid]

    def _server(
        self, number: int, url: str, directory: Path, options: Sequence[str]
    ) -> tuple[ServiceProcess, int, int]:
        """A node, with its TCP and its HTTP port."""
        port, http = free_port(), free_port()
        command = [sys.executable, "-m", "trio_chat", "serve", "--node", f"node{number}", "--log-level", "warning"]
        command += ["--tcp", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http}", "--database", url, "--bus", self.bus]
        server = ServiceProcess(
            f"server{number}",
            [*command, "--limit", "all=off", *options],
            directory=directory,
            ready=lambda: accepts(port),
            env={"PYTHONPATH": os.fspath(_REPOSITORY)},
            stop_timeout=30.0,
        )
        return server, port, http


class SQLiteSystem(OwnSystem):
    name = "sqlite"
    title = "trio-chat, SQLite"

    @contextmanager
    def database(self, directory: Path, need: Need) -> Iterator[tuple[str, Population]]:
        # Made in memory, where nothing has to wait for the disk, and then put where it is used.
        file = directory / "chat.db"
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as memory:
            made = Path(memory) / file.name
            population = trio.run(populate, f"sqlite:///{made}", need.users, need.groups)
            shutil.copyfile(made, file)
        yield f"sqlite:///{file}", population


class MariaDBSystem(OwnSystem):
    """Owns a private MariaDB and a private Redis while it is started."""

    name = "mariadb"
    title = "trio-chat, MariaDB + Redis"

    @contextmanager
    def started(self, directory: Path) -> Iterator[None]:
        self.mariadb = MariaDB(directory / "mariadb", options=_MARIADB_OPTIONS)
        redis = Redis(directory / "redis")
        with self.mariadb, redis:
            self.bus = redis.url
            self._pids = {"database": [self.mariadb.pid], "redis": [redis.pid]}
            yield

    @property
    def pids(self) -> dict[str, list[int]]:
        return self._pids

    @contextmanager
    def database(self, directory: Path, need: Need) -> Iterator[tuple[str, Population]]:
        name = f"bench_{directory.name}".replace("-", "_")
        self.mariadb.create_database(name)
        self.mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        population = trio.run(populate, self.mariadb.url(name), need.users, need.groups)
        self.mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        yield self.mariadb.url(name), population
        self.mariadb.drop_database(name)


class ClusterSystem(MariaDBSystem):
    name = "cluster"
    title = "trio-chat, two nodes"
    nodes = 2


class WorkersSystem(ClusterSystem):
    """One node as two workers behind one port."""

    name = "workers"
    title = "trio-chat, two workers"
    nodes = 1
    workloads: Sequence[str] = ("direct-5-", "direct-50-")

    @contextmanager
    def open(self, directory: Path, need: Need) -> Iterator[OwnPlace]:
        with super().open(directory, attrs.evolve(need, options=(*need.options, "--workers", "2"))) as place:
            yield place

    def processes(self, server: ServiceProcess) -> list[int]:
        # The supervisor listens before they are there; it says so when they are.
        deadline = time.monotonic() + 30
        while "with         2 workers" not in server.log_text():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the workers did not start:\n{server.log_text()[-2000:]}")
            time.sleep(0.05)
        return children(server.pid)
