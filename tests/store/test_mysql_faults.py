"""Lost connections, killed servers, cancelled callers: after each of them it is known what is stored."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.store.faults import CancelledAt, Line, Proxy, becomes_true, open_descriptors, open_proxy
from tests.store.transactions import ids, insert, statements
from trio_chat.errors import Unavailable
from trio_chat.store.contract import Last, OutcomeUnknown, Result, Steps, UniqueViolation
from trio_chat.store.mysql import MySQL
from trio_chat.store.mysql_pool import PoolStatistics
from trio_chat.verify.programs.mariadb import MariaDB

IDLE = PoolStatistics(idle=1, used=0, waiting=0)
EMPTY = PoolStatistics(idle=0, used=0, waiting=0)


@pytest.fixture
def url(mariadb: MariaDB, mysql_database: str) -> str:
    mariadb.sql("CREATE TABLE t (id INT PRIMARY KEY, text LONGTEXT)", mysql_database)
    return mariadb.url(mysql_database)


@pytest.fixture
async def database(url: str) -> AsyncIterator[MySQL]:
    async with MySQL.from_url(url, pool=2).open() as database:
        yield database


@pytest.fixture
async def proxy(mariadb: MariaDB) -> AsyncIterator[Proxy]:
    async with open_proxy(mariadb.port) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy, url: str) -> AsyncIterator[MySQL]:
    """The same database through the proxy."""
    async with MySQL.from_url(proxy.url(url), pool=2, timeout=1).open() as database:
        yield database


# --- The line breaks ---


def cut_at(word: bytes, *, times: int = 1000) -> Callable[[Line, bytes], Awaitable[bytes]]:
    """Break the line when a command with this word is on its way to the server: the server does not get it."""
    left = times

    async def to_server(line: Line, data: bytes) -> bytes:
        nonlocal left
        await trio.lowlevel.checkpoint()
        if word in data and left:
            left -= 1
            line.cut()
        return data

    return to_server


def cut_after(word: bytes) -> Callable[[Line, bytes], Awaitable[bytes]]:
    """Break the line when the answer to a command with this word is on its way back."""

    async def to_client(line: Line, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if line.from_client.endswith(word):
            line.cut()
        return data

    return to_client


async def test_a_commit_that_did_not_arrive_is_unknown(database: MySQL, far: MySQL, proxy: Proxy) -> None:
    proxy.to_server = cut_at(b"\x03COMMIT")
    with pytest.raises(OutcomeUnknown):
        await far.run(insert(1))
    assert await ids(database) == []
    assert far.statistics()["run"] == EMPTY


async def test_a_commit_whose_answer_is_lost_is_unknown(database: MySQL, far: MySQL, proxy: Proxy) -> None:
    proxy.to_client = cut_after(b"COMMIT")
    with pytest.raises(OutcomeUnknown) as caught:
        await far.run(insert(1))
    assert caught.value.value == [Result(changed=1)]
    assert await ids(database) == [1]
    assert far.statistics()["run"] == EMPTY


def last(number: int) -> Callable[[], Steps[str]]:
    """A transaction whose one INSERT goes together with COMMIT."""

    def steps() -> Steps[str]:
        yield Last([("INSERT INTO t VALUES (?, 'x')", (number,))])
        return "its value"

    return steps


async def test_a_last_statement_and_commit_are_one_command(database: MySQL, far: MySQL, proxy: Proxy) -> None:
    await far.run(statements("SELECT 1"))
    sent = len(proxy.lines[-1].from_client)
    assert await far.run(last(1)) == "its value"
    assert bytes(proxy.lines[-1].from_client[sent:]).endswith(b"\x03INSERT INTO t VALUES (1, 'x');COMMIT")
    assert len(proxy.lines[-1].from_client[sent:]) == 4 + len(b"\x03INSERT INTO t VALUES (1, 'x');COMMIT")
    with pytest.raises(UniqueViolation):
        await far.run(last(1))
    await far.run(last(2))  # the connection is in step
    assert await ids(database) == [1, 2]
    assert len(proxy.lines) == 2  # one when it was opened, one for all this


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_last_statement_whose_answer_is_lost_is_unknown(
    database: MySQL, far: MySQL, proxy: Proxy, *, arrived: bool
) -> None:
    if arrived:
        proxy.to_client = cut_after(b";COMMIT")
    else:
        proxy.to_server = cut_at(b";COMMIT")
    with pytest.raises(OutcomeUnknown) as caught:
        await far.run(last(1))
    assert caught.value.value == "its value"
    assert await ids(database) == ([1] if arrived else [])
    assert far.statistics()["run"] == EMPTY


async def answer_late(database: MySQL, proxy: Proxy, seconds: float) -> None:
    """Run a transaction whose COMMIT is answered after `seconds`."""

    async def to_client(line: Line, data: bytes) -> bytes:
        if line.from_client.endswith(b"COMMIT"):
            await trio.sleep(seconds)
        return data

    await database.run(statements("SELECT 1"))
    proxy.to_client = to_client
    await database.run(insert(1))


async def test_a_commit_without_an_answer_is_unknown(
    database: MySQL, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_chat.store.mysql.COMMIT_GRACE", 0.1)
    far = MySQL.from_url(proxy.url(url), timeout=0.3)
    with pytest.raises(OutcomeUnknown):
        await answer_late(far, proxy, 3600)
    assert await ids(database) == [1]
    assert far.statistics()["run"] == EMPTY


async def test_a_commit_may_take_longer_than_the_rest(database: MySQL, url: str, proxy: Proxy) -> None:
    far = MySQL.from_url(proxy.url(url), timeout=0.4)
    await answer_late(far, proxy, 0.5)
    assert await ids(database) == [1]
    await far.aclose()


async def test_a_commit_that_could_not_be_sent_is_known_not_to_be_stored(
    database: MySQL, far: MySQL, proxy: Proxy
) -> None:
    def steps(number: int, *, resets: int) -> Callable[[], Steps[None]]:
        left = resets

        def transaction() -> Steps[None]:
            nonlocal left
            yield "INSERT INTO t VALUES (?, '')", (number,)
            if left:
                left -= 1
                for line in proxy.lines:
                    line.reset()

        return transaction

    with pytest.raises(Unavailable) as caught:
        await far.run(steps(1, resets=1))
    assert not isinstance(caught.value, OutcomeUnknown)
    await far.run(statements("SELECT 1"))
    await far.run(steps(2, resets=1))  # on a pooled connection: once more on a new one
    assert await ids(database) == [2]


async def test_a_fresh_connection_that_breaks_before_commit_stored_nothing(
    database: MySQL, far: MySQL, proxy: Proxy
) -> None:
    proxy.to_server = cut_at(b"VALUES (2")
    with pytest.raises(Unavailable) as caught:
        await far.run(insert(1, 2))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert await ids(database) == []
    assert len(proxy.lines) == 2  # one when it was opened, one for this


async def test_a_pooled_connection_that_breaks_is_replaced_once(database: MySQL, far: MySQL, proxy: Proxy) -> None:
    await far.run(insert(1))
    proxy.to_server = cut_at(b"VALUES (3", times=1)
    await far.run(insert(2, 3))
    assert await ids(database) == [1, 2, 3]
    proxy.to_server = cut_at(b"VALUES (5", times=2)
    with pytest.raises(Unavailable):
        await far.run(insert(4, 5))
    assert await ids(database) == [1, 2, 3]


async def test_one_dead_connection_is_the_end_of_all_idle_ones(url: str, proxy: Proxy) -> None:
    async with MySQL.from_url(proxy.url(url), pool=7).open() as far:
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(far.run, statements("SELECT SLEEP(0.05)"))
        assert far.statistics()["run"].idle == 7
        old = list(proxy.lines)

        async def to_server(line: Line, data: bytes) -> bytes:
            await trio.lowlevel.checkpoint()
            if line in old:
                line.cut()
            return data

        proxy.to_server = to_server
        await far.run(insert(1))
        assert far.statistics()["run"] == IDLE


async def test_a_pooled_connection_that_breaks_in_a_read_is_replaced_once(far: MySQL, proxy: Proxy) -> None:
    assert await ids(far) == []
    proxy.to_server = cut_at(b"SELECT id", times=1)
    assert await ids(far) == []
    proxy.to_server = cut_at(b"SELECT id", times=2)
    with pytest.raises(Unavailable):
        await ids(far)


# --- The server ---


async def test_a_restart_is_not_noticed_between_two_transactions(database: MySQL, mariadb: MariaDB) -> None:
    await database.run(insert(1))
    assert await ids(database) == [1]
    mariadb.restart()
    await database.run(insert(2))
    assert await ids(database) == [1, 2]
    assert database.statistics() == {"run": IDLE, "read": IDLE}


async def test_what_was_acknowledged_survives_a_crash(database: MySQL, mariadb: MariaDB) -> None:
    def steps() -> Steps[None]:
        yield "INSERT INTO t VALUES (2, '')", ()
        mariadb.kill()
        yield "INSERT INTO t VALUES (3, '')", ()

    await database.run(insert(1))
    with pytest.raises(Unavailable):
        await database.run(steps)
    with pytest.raises(Unavailable):
        await ids(database)
    mariadb.start()
    assert await ids(database) == [1]


async def test_a_server_that_stands_still_costs_the_timeout(database: MySQL, url: str, mariadb: MariaDB) -> None:
    async def is_unavailable(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
        with pytest.raises(Unavailable):
            await call(*arguments)

    async with MySQL.from_url(url, timeout=0.3).open() as waiting:
        await waiting.run(statements("SELECT 1"))
        await ids(waiting)
        before = open_descriptors()
        mariadb.pause()
        try:
            for _ in range(2):  # the pooled connections, then new ones
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(is_unavailable, waiting.run, insert(2))
                    nursery.start_soon(is_unavailable, ids, waiting)
            assert waiting.statistics() == {"run": EMPTY, "read": EMPTY}
            assert open_descriptors() == before - 2
        finally:
            mariadb.resume()
    await database.run(insert(3))
    assert await ids(database) == [3]


async def test_killed_in_the_middle_of_a_statement(database: MySQL, mariadb: MariaDB) -> None:
    async def is_unavailable() -> None:
        with pytest.raises(Unavailable):
            await database.run(statements("INSERT INTO t VALUES (1, '')", "SELECT SLEEP(20)"))

    sleeping = "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20)'"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_unavailable)
        await becomes_true(lambda: bool(mariadb.sql(sleeping)))
        mariadb.sql(f"KILL CONNECTION {mariadb.sql(sleeping)[0][0]}")
    assert await ids(database) == []


@pytest.mark.parametrize("what", ["CONNECTION", "QUERY"])
async def test_an_operator_who_kills_it(database: MySQL, mariadb: MariaDB, what: str) -> None:
    def steps() -> Steps[None]:
        ((number,),) = (yield "SELECT CONNECTION_ID()", ()).rows
        yield "INSERT INTO t VALUES (1, '')", ()
        if what == "CONNECTION":
            mariadb.sql(f"KILL CONNECTION {number}")
            yield "INSERT INTO t VALUES (2, '')", ()
        else:
            yield f"KILL QUERY {number}", ()  # itself

    with pytest.raises(Unavailable):
        await database.run(steps)
    assert await ids(database) == []
    await database.run(insert(3))


@pytest.mark.parametrize(
    "errno",
    [
        pytest.param(1026, id="error writing file"),
        pytest.param(1030, id="storage engine"),
        pytest.param(1038, id="no sort memory"),
        pytest.param(1047, id="Galera: not ready"),
        pytest.param(1142, id="no right"),
        pytest.param(1146, id="no table"),
        pytest.param(3100, id="Group Replication: refused"),
    ],
)
async def test_a_server_that_cannot_at_present(database: MySQL, errno: int) -> None:
    with pytest.raises(Unavailable):
        await database.run(
            statements("INSERT INTO t VALUES (1, '')", f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {errno}")
        )
    assert await ids(database) == []


async def test_a_killed_pooled_connection_is_not_noticed(database: MySQL, mariadb: MariaDB) -> None:
    (result,) = await database.run(statements("SELECT CONNECTION_ID()"))
    mariadb.sql(f"KILL CONNECTION {result.rows[0][0]}")
    await database.run(insert(1))
    assert await ids(database) == [1]


# --- The caller is cancelled ---


async def test_cancelled_during_commit_it_learns_that_it_is_stored(database: MySQL, far: MySQL, proxy: Proxy) -> None:
    answer = trio.Event()
    arrived = trio.Event()

    async def to_client(line: Line, data: bytes) -> bytes:
        if line.from_client.endswith(b"COMMIT"):
            arrived.set()
            await answer.wait()
        return data

    proxy.to_client = to_client
    returned: list[Any] = []
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await arrived.wait()
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                answer.set()

            nursery.start_soon(cancel)
            returned.append(await far.run(insert(1)))
    assert returned
    assert await ids(database) == [1]
    assert far.statistics()["run"] == IDLE


async def test_cancelled_while_commit_is_lost_it_is_cancelled(far: MySQL, proxy: Proxy) -> None:
    with trio.CancelScope() as scope:

        async def to_server(line: Line, data: bytes) -> bytes:
            await trio.lowlevel.checkpoint()
            if data.endswith(b"COMMIT"):
                scope.cancel()
                line.cut()
            return data

        proxy.to_server = to_server
        await far.run(insert(1))
    assert scope.cancelled_caught
    assert far.statistics()["run"] == EMPTY


async def test_the_steps_of_a_cancelled_transaction_are_closed(database: MySQL) -> None:
    closed = False

    def steps() -> Steps[None]:
        nonlocal closed
        try:
            scope.cancel()
            yield "SELECT 1", ()
        finally:
            closed = True

    kept = steps()
    with trio.CancelScope() as scope:
        await database.run(lambda: kept)
    assert scope.cancelled_caught
    assert closed


async def test_cancelled_while_waiting_for_a_connection_no_place_is_lost(url: str) -> None:
    async with MySQL.from_url(url, pool=1).open() as database:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(database.run, statements("SELECT SLEEP(1)"))
            await becomes_true(lambda: database.statistics()["run"].waiting == 2)
            nursery.cancel_scope.cancel()
        assert database.statistics()["run"] == EMPTY
        await database.run(insert(1))


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("warm", [False, True], ids=["connecting", "pooled"])
async def test_cancelled_anywhere_in_a_transaction(database: MySQL, url: str, late: bool, warm: bool) -> None:
    before = open_descriptors()
    expected: list[int] = []
    for number in itertools.count(1):
        tried = MySQL.from_url(url, pool=1)
        if warm:
            await tried.run(statements("SELECT 1"))
        finished = False
        with trio.CancelScope() as scope:
            attempt = CancelledAt(tried.run(insert(2 * number, 2 * number + 1)), scope, number, late=late)
            await attempt
            finished = True
        if finished:
            expected += [2 * number, 2 * number + 1]
        assert finished or scope.cancelled_caught
        assert await ids(database) == expected
        # Nothing is in use, and what is kept can be used.
        idle = tried.statistics()["run"].idle
        assert tried.statistics()["run"] == PoolStatistics(idle=idle, used=0, waiting=0)
        await tried.run(statements("SELECT 1"))
        await tried.aclose()
        if attempt.waits < number:
            assert finished
            break
    assert number > (3 if warm else 10)
    assert open_descriptors() == before + 1  # the reader of `database`


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
async def test_cancelled_anywhere_in_a_read(url: str, late: bool) -> None:
    before = open_descriptors()
    for number in itertools.count(1):
        tried = MySQL.from_url(url, pool=1)
        with trio.CancelScope() as scope:
            attempt = CancelledAt(ids(tried), scope, number, late=late)
            await attempt
        statistics = tried.statistics()["read"]
        assert statistics.used == 0
        assert open_descriptors() == before + statistics.idle
        assert await ids(tried) == []
        await tried.aclose()
        if attempt.waits < number:
            break
    assert number > 8


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
async def test_cancelled_anywhere_in_a_migration(database: MySQL, late: bool) -> None:
    before = open_descriptors()

    async def migrate() -> None:
        async with database.migration_lock() as session:
            await session.execute("SELECT 1")

    for number in itertools.count(1):
        with trio.CancelScope() as scope:
            attempt = CancelledAt(migrate(), scope, number, late=late)
            await attempt
        assert open_descriptors() == before
        if attempt.waits < number:
            break
    assert number > 8
    with trio.fail_after(2):
        await migrate()  # the lock is free
