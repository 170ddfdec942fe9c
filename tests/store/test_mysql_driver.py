"""One connection: what trio-mysql does wrong, closed, and what cancelling and a lying server may not break."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from tests.services.certificates import Authority
from tests.store.faults import Line, becomes_true, open_descriptors, open_proxy
from trio_chat.errors import TooLarge
from trio_chat.store.mysql_driver import Connection, ConnectionLost
from trio_chat.store.mysql_handshake import ConnectFailed
from trio_chat.store.mysql_options import MySQLOptions, parse_url
from trio_chat.store.mysql_protocol import ServerError
from trio_chat.verify.programs.mariadb import MariaDB


@pytest.fixture
def options(mariadb: MariaDB, mysql_database: str) -> MySQLOptions:
    mariadb.sql("CREATE TABLE t (id INT PRIMARY KEY, text LONGTEXT)", mysql_database)
    return parse_url(mariadb.url(mysql_database), timeout=3, pool=2)


@asynccontextmanager
async def opened(options: MySQLOptions, *, autocommit: bool = True) -> AsyncIterator[Connection]:
    with trio.fail_after(5):
        connection = await Connection.open(options, autocommit=autocommit, lock_wait=1)
    try:
        yield connection
    finally:
        connection.close()


async def stored(options: MySQLOptions) -> list[int]:
    """The ids in the table, seen from another connection."""
    async with opened(options) as other:
        return [row[0] for row in (await other.execute("SELECT id FROM t ORDER BY id")).rows]


# --- Values ---


async def test_values_keep_their_types(options: MySQLOptions) -> None:
    async with opened(options) as connection:
        result = await connection.execute(
            "SELECT 'é🙂', CAST('b' AS BINARY), 5, NULL, SUM(v), AVG(v), 1.5e0 FROM (SELECT 1 v UNION ALL SELECT 2) x"
        )
    assert result.rows == [("é🙂", b"b", 5, None, 3, Decimal("1.5000"), 1.5)]
    assert isinstance(result.rows[0][4], int)


async def test_any_text_and_any_bytes_come_back(options: MySQLOptions) -> None:
    texts = ["'; DROP TABLE t; -- ", "\\", "\\'", '"', "%s %d %%", "?", "\0\n\r\x1a", "🙂\U0010ffff\u0800\x80", "`", ""]
    every_byte = bytes(range(256)) * 2
    every_character = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000, 7)]))
    async with opened(options) as connection:
        marks = ", ".join(["?"] * len(texts))
        assert (await connection.execute(f"SELECT {marks}", texts)).rows == [tuple(texts)]
        await connection.execute("INSERT INTO t VALUES (1, ?)", (every_character,))
        result = await connection.execute("SELECT text, ? FROM t WHERE text = ?", (every_byte, every_character))
    assert result.rows == [(every_character, every_byte)]


async def test_the_session_does_not_depend_on_the_server_s_settings(mariadb: MariaDB, options: MySQLOptions) -> None:
    mariadb.sql(
        "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'; SET GLOBAL time_zone = '-11:00'; "
        "SET GLOBAL tx_isolation = 'SERIALIZABLE'; SET GLOBAL autocommit = 0"
    )
    try:
        async with opened(options) as connection:
            asked = "SELECT @@sql_mode, @@tx_isolation, @@time_zone, @@autocommit, @@character_set_client, ?"
            rows = (await connection.execute(asked, ("\\n'",))).rows
    finally:
        mariadb.sql("SET GLOBAL sql_mode = DEFAULT, GLOBAL time_zone = DEFAULT, GLOBAL tx_isolation = DEFAULT")
        mariadb.sql("SET GLOBAL autocommit = 1")
    assert rows == [("STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION", "READ-COMMITTED", "+00:00", 1, "utf8mb4", "\\n'")]


async def test_a_value_that_does_not_fit_is_refused(options: MySQLOptions) -> None:
    async with opened(options) as connection:
        with pytest.raises(ServerError, match="Out of range"):
            await connection.execute("INSERT INTO t VALUES (?, '')", (1 << 40,))
        assert connection.ready


async def test_values_that_are_no_values_leave_the_connection_usable(options: MySQLOptions) -> None:
    async with opened(options) as connection:
        with pytest.raises(TypeError):
            await connection.execute("SELECT ?", ({"a": 1},))  # type: ignore[arg-type]
        with pytest.raises(TooLarge):
            await connection.execute("SELECT ?", ("x" * 17_000_000,))
        assert connection.ready
        assert (await connection.execute("SELECT 1")).rows == [(1,)]


async def test_a_statement_longer_than_a_packet_is_sent(options: MySQLOptions, mariadb: MariaDB) -> None:
    mariadb.sql("SET GLOBAL max_allowed_packet = 67108864")
    try:
        async with opened(options) as connection:
            result = await connection.execute("SELECT LENGTH(?), 5", (b"x" * 0x1000005,))
    finally:
        mariadb.sql("SET GLOBAL max_allowed_packet = DEFAULT")
    assert result.rows == [(0x1000005, 5)]


async def test_many_rows_are_one_statement(options: MySQLOptions) -> None:
    async with opened(options) as connection:
        result = await connection.execute("INSERT INTO t VALUES (?, ''), (?, ''), (?, '')", (1, 2, 3))
        assert result.changed == 3
        assert (await connection.execute("SHOW SESSION STATUS LIKE 'Com_insert'")).rows == [("Com_insert", "1")]


# --- Interrupted ---


async def cancel_when_blocked(connection: Connection, sql: str, text: str = "") -> None:
    """Run a statement and cancel it once it waits for the server."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.execute, sql, (text,) if text else ())
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


async def test_cancelled_while_reading_it_is_closed(options: MySQLOptions) -> None:
    before = open_descriptors()
    async with opened(options) as connection:
        await cancel_when_blocked(connection, "SELECT SLEEP(0.2)")
        assert open_descriptors() == before
        assert not connection.ready
        with pytest.raises(ConnectionLost, match="the connection is closed") as caught:
            await connection.execute("SELECT 1")
        assert not caught.value.sent


async def test_cancelled_in_a_partial_write_it_is_closed(options: MySQLOptions, mariadb: MariaDB) -> None:
    before = open_descriptors()
    async with opened(options) as connection:
        mariadb.pause()
        try:
            # More than the kernel buffers on the way to a server that does not read.
            await cancel_when_blocked(connection, "INSERT INTO t VALUES (1, ?)", "x" * 15_000_000)
            assert open_descriptors() == before
        finally:
            mariadb.resume()
        assert not connection.ready
    assert await stored(options) == []


async def test_cancelled_in_a_transaction_it_is_rolled_back(options: MySQLOptions) -> None:
    async with opened(options, autocommit=False) as connection:
        await connection.execute("INSERT INTO t VALUES (1, '')")
        assert (connection.in_transaction, connection.ready) == (True, False)
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.execute("INSERT INTO t VALUES (2, '')")
        assert scope.cancelled_caught
        assert (connection.in_transaction, connection.ready) == (False, False)
    async with opened(options) as other:
        await other.execute("INSERT INTO t VALUES (1, 'free again')")
    assert await stored(options) == [1]


async def test_a_killed_connection_is_lost(options: MySQLOptions, mariadb: MariaDB) -> None:
    async with opened(options, autocommit=False) as connection:
        ((number,),) = (await connection.execute("SELECT CONNECTION_ID()")).rows
        await connection.rollback()
        assert (connection.ready, connection.hung_up) == (True, False)
        mariadb.sql(f"KILL CONNECTION {number}")
        await becomes_true(lambda: connection.hung_up)
        with pytest.raises(ConnectionLost):
            await connection.execute("SELECT 1")
        assert not connection.ready


@pytest.mark.parametrize("errno", [1053, 1927, 4031], ids=["shutdown", "killed", "idle for too long"])
async def test_an_error_that_is_a_good_bye_closes_it(options: MySQLOptions, mariadb: MariaDB, errno: int) -> None:
    async def to_client(line: Line, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        good_bye = b"\xff" + errno.to_bytes(2, "little") + b"#08S01bye"
        return len(good_bye).to_bytes(3, "little") + b"\1" + good_bye if line.from_client.endswith(b"bye") else data

    async with open_proxy(mariadb.port) as proxy:
        proxy.to_client = to_client
        async with opened(attrs.evolve(options, port=proxy.port)) as connection:
            with pytest.raises(ConnectionLost, match="bye"):
                await connection.execute("DO 1 -- bye")
            assert not connection.ready


async def test_bytes_that_nobody_asked_for_are_noticed(options: MySQLOptions, mariadb: MariaDB) -> None:
    async with open_proxy(mariadb.port) as proxy:
        through = attrs.evolve(options, port=proxy.port)
        async with opened(through) as connection:
            await trio.testing.wait_all_tasks_blocked()  # the proxy has sent all that was asked for
            await proxy.lines[0].client.send_all(b"\7\0\0\1\0\0\0\2\0\0\0")
            await becomes_true(lambda: connection.hung_up)


# --- Connecting ---


async def test_a_server_that_does_not_greet_ends_with_the_deadline(options: MySQLOptions, mariadb: MariaDB) -> None:
    before = open_descriptors()
    mariadb.pause()
    try:
        with trio.move_on_after(0.05) as scope:
            await Connection.open(options, autocommit=True, lock_wait=1)
        assert scope.cancelled_caught
        assert open_descriptors() == before
    finally:
        mariadb.resume()


@pytest.mark.parametrize(("password", "errno"), [("wrong", 1045), ("", 1049)])
async def test_a_refused_log_in_leaves_no_socket(options: MySQLOptions, password: str, errno: int) -> None:
    before = open_descriptors()
    refused = attrs.evolve(options, password=password, database="no_such_database")
    with pytest.raises(ConnectFailed) as caught:
        await Connection.open(refused, autocommit=True, lock_wait=1)
    assert caught.value.errno == errno
    assert open_descriptors() == before


async def test_nobody_listens(options: MySQLOptions) -> None:
    for wrong in (attrs.evolve(options, port=1), attrs.evolve(options, unix_socket="/nonexistent/socket")):
        with pytest.raises(ConnectFailed, match=r"refused|No such file"):
            await Connection.open(wrong, autocommit=True, lock_wait=1)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (b"NAMES utf8mb4", b"NAMES utf8mbX", "Unknown character set"),
        (b"STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION", b"NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES", "SQL mode"),
    ],
)
async def test_a_session_that_cannot_be_set_up_leaves_no_socket(
    options: MySQLOptions, mariadb: MariaDB, before: bytes, after: bytes, text: str
) -> None:
    async def to_server(_line: Line, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return data.replace(before, after)

    async with open_proxy(mariadb.port) as proxy:
        proxy.to_server = to_server
        with pytest.raises(ConnectFailed, match=text):
            await Connection.open(attrs.evolve(options, port=proxy.port), autocommit=True, lock_wait=1)
        await becomes_true(lambda: proxy.lines[0].client.socket.fileno() < 0)  # it saw that the line was closed


@pytest.mark.parametrize("host", ["127.0.0.1", "socket"])
async def test_a_password_beyond_latin_1_logs_in(options: MySQLOptions, mariadb: MariaDB, host: str) -> None:
    mariadb.sql("CREATE OR REPLACE USER 'pw'@'%' IDENTIFIED BY 'пароль €'; GRANT ALL ON *.* TO 'pw'@'%'")
    place = attrs.evolve(options, unix_socket=str(mariadb.socket)) if host == "socket" else options
    async with opened(attrs.evolve(place, user="pw", password="пароль €")) as connection:
        assert connection.ready


async def test_a_server_that_is_no_mysql(options: MySQLOptions) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 400_000)

    before = open_descriptors()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        wrong = attrs.evolve(options, port=listeners[0].socket.getsockname()[1])
        with pytest.raises(ConnectFailed):
            await Connection.open(wrong, autocommit=True, lock_wait=1)
        nursery.cancel_scope.cancel()
    assert open_descriptors() == before


# --- TLS ---


def with_tls(
    options: MySQLOptions, authority: Path | None, *, host: str = "localhost", name: bool = True
) -> MySQLOptions:
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = name
    return attrs.evolve(options, host=host, tls=context)


@pytest.mark.parametrize(("host", "name"), [("localhost", True), ("127.0.0.1", False)])
async def test_tls_encrypts(options: MySQLOptions, authority: Authority, host: str, name: bool) -> None:
    async with opened(with_tls(options, authority.certificate, host=host, name=name)) as connection:
        ((_, cipher),) = (await connection.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")).rows
        assert cipher
        assert not connection.hung_up  # no session ticket lies about unread
        before = open_descriptors()
        await cancel_when_blocked(connection, "SELECT SLEEP(0.2)")
        assert open_descriptors() == before - 1


@pytest.mark.parametrize(("known", "host"), [(False, "localhost"), (True, "127.0.0.1")])
async def test_a_certificate_that_is_not_trusted(
    options: MySQLOptions, authority: Authority, known: bool, host: str
) -> None:
    before = open_descriptors()
    with pytest.raises(ConnectFailed, match=r"TLS failed: .*(certificate|mismatch)"):
        await Connection.open(
            with_tls(options, authority.certificate if known else None, host=host), autocommit=True, lock_wait=1
        )
    assert open_descriptors() == before


async def test_tls_is_never_left_out(options: MySQLOptions, mariadb: MariaDB, authority: Authority) -> None:
    async def strip(line: Line, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if line.from_client:
            return data
        low = data.index(b"\0", 5) + 1 + 4 + 8 + 1  # the lower half of the flags, in the greeting
        return data[: low + 1] + bytes([data[low + 1] & ~0x08]) + data[low + 2 :]

    async with open_proxy(mariadb.port) as proxy:
        proxy.to_client = strip
        through = attrs.evolve(with_tls(options, authority.certificate), port=proxy.port)
        with pytest.raises(ConnectFailed, match="does not offer TLS"):
            await Connection.open(through, autocommit=True, lock_wait=1)
        assert proxy.lines[0].from_client == b""


# --- The import ---


def test_the_import_works_for_a_user_without_a_name() -> None:
    # What Python 3.13 does for a user id that is in no list: OSError, unless the environment has a name.
    program = """
import getpass, os
def getuser():
    for name in ("LOGNAME", "USER"):
        if os.environ.get(name):
            return os.environ[name]
    raise OSError("No username set in the environment")
getpass.getuser = getuser
import trio_chat.store.mysql
assert "LOGNAME" not in os.environ
"""
    environment = {key: value for key, value in os.environ.items() if key not in {"LOGNAME", "USER"}}
    subprocess.run([sys.executable, "-c", program], env={**environment, "PYTHONPATH": str(Path.cwd())}, check=True)
