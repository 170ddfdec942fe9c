"""Two nodes on one MariaDB and one Redis: in the test's own program, or as processes behind nginx."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

import trio_chat
from trio_chat import Address, Server, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.nginx import Nginx
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.redis import Redis

__all__ = ["Cluster", "cluster", "nodes", "run_cluster", "settings"]

_numbers = itertools.count(1)


@pytest.fixture
def settings(mariadb: MariaDB, mysql_database: str, redis: Redis) -> Settings:
    """For each node alike, but for its name."""
    return Settings(
        tcp=(Address("127.0.0.1", 0),),
        http=None,
        database=mariadb.url(mysql_database),
        bus=redis.url,
        lease=2.0,
        sweep=0.5,
    )


@pytest.fixture
async def nodes(settings: Settings) -> AsyncIterator[tuple[Server, Server]]:
    async with (
        trio_chat.open_server(attrs.evolve(settings, node="one")) as one,
        trio_chat.open_server(attrs.evolve(settings, node="two")) as two,
    ):
        yield one, two


@attrs.frozen
class Cluster:
    """Processes behind nginx with the shipped configuration; clients connect to `address`, which is nginx's."""

    nodes: list[ChatNode]
    nginx: Nginx

    @property
    def address(self) -> Address:
        return Address(*self.nginx.address)


@contextlib.contextmanager
def run_cluster(directory: Path, settings: Settings, *options: str) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        nodes = [ChatNode(directory, name, settings, *options, proxied=True) for name in ("one", "two")]
        for node in nodes:
            stack.callback(node.stop)
            node.launch()  # both at once: they make the schema together
        for node in nodes:
            node.wait_ready()
        nginx = stack.enter_context(Nginx(directory / "nginx", [node.address for node in nodes]))
        yield Cluster(nodes, nginx)


@pytest.fixture(scope="module")
def cluster(mariadb: MariaDB, redis_server: Redis) -> Iterator[Cluster]:
    """For the tests of one file that leave it as it is; others run one of their own."""
    name = f"cluster_{next(_numbers)}"
    mariadb.create_database(name)
    # Another number than the other tests' nodes have: what those say on the bus is not for these.
    shared = Settings(database=mariadb.url(name), bus=redis_server.url.removesuffix("/0") + "/1", lease=2.0, sweep=0.5)
    with (
        tempfile.TemporaryDirectory(prefix="cluster-") as directory,
        run_cluster(Path(directory), shared, "--heartbeat", "2") as running,
    ):
        yield running
    mariadb.drop_database(name)
