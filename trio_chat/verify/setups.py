"""What a run is driven against: a private node, a private cluster, or a server that runs already."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from trio_chat.config import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.network import ADDRESSES, Cable, Network, why_not
from trio_chat.verify.programs.nginx import Nginx
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.redis import Redis

__all__ = ["SERVER", "Setup", "cluster", "embedded", "target"]

_KEPT = "kept"
_QUIET = ("--log-level", "info")

#: How a node is started.
SERVER = (sys.executable, "-m", "trio_chat")


@attrs.frozen
class Setup:
    """`addresses` are for clients; the programs are there to be broken, each where there is one.

    `cables` has for each node, where the machine permits networks, the one to the database and Redis, and nginx's to it.
    """

    about: str
    addresses: list[Address]
    directory: Path | None = None
    nodes: list[ChatNode] = attrs.field(factory=list)
    nginx: Nginx | None = None
    redis: Redis | None = None
    mariadb: MariaDB | None = None
    cables: list[tuple[Cable, Cable]] = attrs.field(factory=list)

    @property
    def kinds(self) -> dict[str, int]:
        """The faults that can be brought about here, and how often each is to be, compared with the others."""
        kinds = {}
        if self.nodes:
            kinds = {"node-kill": 6, "node-pause": 3, "node-restart": 2, "client-reset": 3, "client-blackhole": 3}
        if self.redis is not None:
            kinds |= {"redis-kill": 2, "redis-flap": 2, "redis-pause": 2}
        if self.mariadb is not None:
            kinds |= {"database-kill": 2, "database-restart": 2, "database-pause": 2}
        else:
            kinds = {kind: weight * (4 if kind == "node-kill" else 1) for kind, weight in kinds.items()}
        if self.nginx is not None:
            kinds |= {"nginx-reload": 2}
        if self.cables:
            kinds |= {"partition-services": 3, "partition-clients": 2}
        return kinds

    def keep(self) -> Path | None:
        """Have the run's folder kept: it is where the programs' logs and data are. None where there is none."""
        if self.directory is not None:
            (self.directory / _KEPT).touch()
        return self.directory


def target(addresses: Sequence[Address]) -> Setup:
    """A server that is running; its faults are left to its operator."""
    return Setup(f"the running server at {', '.join(map(str, addresses))}", list(addresses))


@contextlib.contextmanager
def embedded(program: Sequence[str] = SERVER) -> Iterator[Setup]:
    """One node on SQLite. Raises `ServiceError`."""
    with _folder() as directory:
        settings = Settings(database=f"sqlite:///{directory / 'chat.db'}")
        with ChatNode(directory, "one", settings, *_QUIET, program=program) as node:
            yield Setup("a private node on SQLite", [node.address], directory, [node])


@contextlib.contextmanager
def cluster(count: int, program: Sequence[str] = SERVER) -> Iterator[Setup]:
    """`count` nodes behind nginx, on MariaDB and Redis; in networks of their own, where the machine permits them.

    Raises `ServiceError`, for example where a program is not installed.
    """
    with _folder() as directory, contextlib.ExitStack() as stack:
        networks = [stack.enter_context(Network()) for _ in range(count)] if not why_not() else []
        # All of the programs are looked for before any is started. They can be reached by every node, and by nobody else.
        host = networks[0].cable.outside if networks else "127.0.0.1"
        mariadb = MariaDB(directory / "mariadb", host=host)
        redis = Redis(directory / "redis", host=host)
        nginx = Nginx(directory / "nginx", [])
        (directory / "mariadb").mkdir()
        stack.enter_context(mariadb)
        stack.enter_context(redis)
        mariadb.create_database("verify")
        if networks:
            mariadb.admit(ADDRESSES)
        settings = Settings(database=mariadb.url("verify"), bus=redis.url)
        cables = [(network.cable, network.add_cable()) for network in networks]
        nodes = []
        for number in range(count):
            network, entrance = (networks[number], cables[number][1]) if networks else (None, None)
            node = ChatNode(
                directory,
                f"node{number + 1}",
                settings,
                *_QUIET,
                proxied=True,
                network=network,
                entrance=entrance,
                program=program,
            )
            stack.callback(node.stop)
            node.launch()
            nodes.append(node)
        for node in nodes:
            node.wait_ready()
        nginx.set_nodes([node.address for node in nodes])
        stack.enter_context(nginx)
        about = f"a private cluster of {count} node{'s' * (count > 1)} behind nginx, on MariaDB and Redis"
        if not networks:
            about += f" (not partitioned: {why_not()})"
        yield Setup(about, [Address(*nginx.address)], directory, nodes, nginx, redis, mariadb, cables)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of the run's own, removed at the end unless it is to be kept."""
    directory = Path(tempfile.mkdtemp(prefix="trio-chat-verify-"))
    try:
        yield directory
    finally:
        if not (directory / _KEPT).exists():
            shutil.rmtree(directory, ignore_errors=True)
