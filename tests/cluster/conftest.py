"""Two nodes on one MariaDB and one Redis: in the test's own program, or as processes behind nginx."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

import trio_chat
from tests.services.mariadb import MariaDB
from tests.services.nginx_fixtures import StartNginx
from tests.services.process import ServiceProcess, accepts, free_port
from tests.services.redis import Redis
from trio_chat import Address, Server, Settings


@pytest.fixture
def settings(mariadb: MariaDB, mysql_database: str, redis: Redis) -> Settings:
    """For each node alike, but for its name."""
    return Settings(
        tcp=(Address("127.0.0.1", 0),), database=mariadb.url(mysql_database), bus=redis.url, lease=2.0, sweep=0.5
    )


@pytest.fixture
async def nodes(settings: Settings) -> AsyncIterator[tuple[Server, Server]]:
    async with (
        trio_chat.open_server(attrs.evolve(settings, node="one")) as one,
        trio_chat.open_server(attrs.evolve(settings, node="two")) as two,
    ):
        yield one, two


class NodeProcess(ServiceProcess):
    """A node as operators run it, behind a proxy that says who the client is where `proxied`."""

    def __init__(self, directory: Path, name: str, settings: Settings, *, proxied: bool = False) -> None:
        self.address = Address("127.0.0.1", free_port())
        command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", str(self.address), "--node", name]
        command += ["--database", settings.database, "--bus", settings.bus]
        command += ["--lease", str(settings.lease), "--sweep", str(settings.sweep), "--log-format", "json"]
        command += ["--proxy-protocol"] if proxied else []
        super().__init__(name, command, directory=directory, ready=lambda: accepts(self.address.port))


@attrs.frozen
class Cluster:
    nodes: list[NodeProcess]
    address: Address  # nginx's


@pytest.fixture
def cluster(settings: Settings, tmp_path: Path, start_nginx: StartNginx) -> Iterator[Cluster]:
    """Two processes behind nginx with the shipped configuration."""
    with contextlib.ExitStack() as stack:
        nodes = [NodeProcess(tmp_path, name, settings, proxied=True) for name in ("one", "two")]
        for node in nodes:
            node.launch()  # both at once: they make the schema together
            stack.callback(node.stop)
        for node in nodes:
            node.wait_ready()
        nginx = start_nginx([(node.address.host, node.address.port) for node in nodes])
        yield Cluster(nodes, Address(*nginx.address))
