"""A cluster whose database and Redis speak TLS only, with every secret in a file: nothing in the clear, nothing in a log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
import trio

import trio_chat
from tests.server.stalling import eventually
from tests.services.certificates import Authority
from tests.wire import log_in, register
from trio_chat.config import load
from trio_chat.errors import StartupError
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.redis import TLS, Redis
from trio_chat.wire.messages import Kind

pytestmark = pytest.mark.slow

DATABASE_SECRET = "Datenbank?#/%geheim"
REDIS_SECRET = "Redis?#/%geheim"


@pytest.fixture
def redis_tls(authority: Authority) -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        own = authority.issue("redis", "DNS:localhost", "IP:127.0.0.1")
        tls = TLS(own.certificate, own.key, authority.certificate)
        with Redis(Path(directory), tls=tls, password=REDIS_SECRET) as server:
            yield server


@pytest.fixture
def user(mariadb: MariaDB, mysql_database: str) -> str:
    """A user of the database who is let in by TLS only; as a URL, up to the host."""
    mariadb.sql(
        f"CREATE OR REPLACE USER chat IDENTIFIED BY '{DATABASE_SECRET}' REQUIRE SSL;"
        f"GRANT ALL ON `{mysql_database}`.* TO chat"
    )
    return f"mysql://chat:{quote(DATABASE_SECRET, safe='')}@localhost:{mariadb.port}/{mysql_database}"


def environment(directory: Path, **secrets: str) -> dict[str, str]:
    """A node's variables, each of these in a file."""
    variables = {"TRIO_CHAT_TCP": "127.0.0.1:0", "TRIO_CHAT_HTTP": "off", "TRIO_CHAT_SWEEP": "30"}
    for name, value in secrets.items():
        file = directory / name
        file.write_text(f"{value}\n")
        file.chmod(0o600)
        variables[f"TRIO_CHAT_{name.upper()}_FILE"] = str(file)
    return variables


async def test_messages_across_nodes(
    tmp_path: Path, user: str, redis_tls: Redis, authority: Authority, logs: list[structlog.typing.EventDict]
) -> None:
    """Soon, so it is Redis that brings them; and again when Redis has been away."""
    variables = environment(tmp_path, database=f"{user}?ssl_ca={authority.certificate}", bus=redis_tls.url)
    one, two = (load({"node": node}, variables) for node in ("one", "two"))
    async with trio_chat.open_server(one) as here, trio_chat.open_server(two) as there:
        alice = await register(here.addresses[0], "alice")
        bob = await register(there.addresses[0], "bob")
        async with log_in(here.addresses[0], alice) as a, log_in(there.addresses[0], bob) as b:
            for number in range(2):
                await a.ok(Kind.DIRECT, toid=bob, msg=str(number))
                assert [frame["msg"] for frame in await b.messages(1)] == [str(number)]
                if number == 0:
                    await trio.to_thread.run_sync(redis_tls.restart)
                    await eventually(lambda: here.node.router.bus_up and there.node.router.bus_up)
        assert "geheim" not in f"{here.database} {there.database} {one} {here.node.settings!r}"
    assert {entry["event"] for entry in logs} >= {"ready", "bus_down", "bus_up"}
    assert "geheim" not in repr(logs)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "Access denied"),  # in plain text
        ("?ssl=verify", "certificate"),  # by an authority that the system does not know
        ("?ssl_ca={ca}", ""),
    ],
)
async def test_a_database_that_is_not_verified_is_not_spoken_to(
    tmp_path: Path, user: str, authority: Authority, query: str, says: str, logs: list[structlog.typing.EventDict]
) -> None:
    variables = environment(tmp_path, database=user + query.format(ca=authority.certificate))
    if says:
        with pytest.raises(StartupError, match=says) as caught:
            async with trio_chat.open_server(load({}, variables)):
                pass
        assert "geheim" not in str(caught.value)
    else:
        async with trio_chat.open_server(load({}, variables)):
            pass
    assert "geheim" not in repr(logs)
