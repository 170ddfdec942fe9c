"""What the nodes stand on fails: Redis and the database, killed, stopped and restarted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import trio

import trio_chat
from tests.faults.load import Receiver, Sender, check
from tests.http.raw import address_of, ask, request
from tests.wire import Wire, log_in, register
from trio_chat import Address, Server, Settings
from trio_chat.store.mysql_driver import Connection
from trio_chat.store.mysql_handshake import ConnectFailed
from trio_chat.store.mysql_options import parse_url
from trio_chat.store.mysql_protocol import ServerError
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

Nodes = tuple[Server, Server]
Fault = Callable[[Redis], Awaitable[None]]


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[Address]:
    """One node's."""
    async with trio_chat.open_server(settings) as server:
        yield server.addresses[0]


async def in_thread(do: Callable[[], None]) -> None:
    """The nodes of these tests run in this thread: what blocks happens in another."""
    await trio.to_thread.run_sync(do)


async def flap(redis: Redis) -> None:
    for _ in range(3):
        await in_thread(redis.kill)
        await trio.sleep(0.3)
        await in_thread(redis.start)
        await trio.sleep(0.3)


async def stand_still(redis: Redis) -> None:
    await in_thread(redis.pause)
    await trio.sleep(4)
    await in_thread(redis.resume)


async def stay_away(redis: Redis) -> None:
    await in_thread(redis.kill)
    await trio.sleep(4)
    await in_thread(redis.start)


async def throw_out(redis: Redis) -> None:
    """Every subscriber is cut off, again and again, as Redis does with one that is over its output buffer's limit."""
    with redis.client() as client:
        for _ in range(5):
            client.client_kill_filter(_type="pubsub", skipme=False)
            await trio.sleep(0.2)


async def run_out_of_memory(redis: Redis) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", 1)
        await trio.sleep(1)
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("fault", [flap, stand_still, stay_away, throw_out, run_out_of_memory])
async def test_redis_fails_in_a_burst(nodes: Nodes, redis: Redis, fault: Fault) -> None:
    """On the same node nobody notices; on the other one messages come some seconds late at worst, all and in order."""
    one, two = (node.addresses[0] for node in nodes)
    alice, bob, carol = [await register(one, name) for name in ("alice", "bob", "carol")]
    latencies: dict[str, list[float]] = {"same": [], "other": []}
    sent: dict[int, float] = {}
    over = trio.Event()

    async def write(a: Wire, group: int) -> None:
        last = False
        while not last:
            last = over.is_set()
            number = len(sent) + 1
            sent[number] = time.monotonic()
            assert (await a.ok(Kind.GROUP, groupid=group, msg="last" if last else "more"))["seq"] == number
            await trio.sleep(0.01)

    async def read(wire: Wire, where: str) -> None:
        text = ""
        while text != "last":
            frame = await wire.receive(Kind.GROUP, within=8)
            seq, text = frame["seq"], frame["msg"]
            assert seq == len(latencies[where]) + 1
            latencies[where].append(time.monotonic() - sent[seq])

    async with log_in(one, alice) as a, log_in(one, bob) as b, log_in(two, carol) as c:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await b.ok(Kind.JOIN_GROUP, groupid=group)
        await c.ok(Kind.JOIN_GROUP, groupid=group)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, a, group)
            nursery.start_soon(read, b, "same")
            nursery.start_soon(read, c, "other")
            await trio.sleep(0.3)
            await fault(redis)
            with trio.fail_after(10):  # it is noticed that Redis is back, by itself
                while not all(node.node.router.bus_up for node in nodes):
                    await trio.sleep(0.02)
            await trio.sleep(0.3)
            over.set()
    assert len(latencies["same"]) == len(latencies["other"]) == len(sent)
    assert max(latencies["same"]) < 1.0
    assert max(latencies["other"]) < 4.0
    assert sorted(latencies["other"][-10:])[5] < 0.1  # speed is back


async def test_a_login_without_redis(nodes: Nodes, redis: Redis) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    for fault, mend in ((redis.kill, redis.start), (redis.pause, redis.resume)):
        await in_thread(fault)
        began = time.monotonic()
        async with log_in(one, alice) as a, log_in(two, bob) as b:
            assert time.monotonic() - began < 6
            await a.ok(Kind.DIRECT, toid=bob, msg="hi")
            assert [m["msg"] for m in await b.messages(1)] == ["hi"]
            await b.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=10)
        await in_thread(mend)


@asynccontextmanager
async def paused(mariadb: MariaDB) -> AsyncIterator[None]:
    await in_thread(mariadb.pause)
    try:
        yield
    finally:
        mariadb.resume()


async def test_the_database_stands_still(address: Address, mariadb: MariaDB) -> None:
    """Pings are answered, requests are `unavailable` in bounded time, and afterwards all is as before."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    pings: list[float] = []

    async def ask(wire: Wire, after: float, kind: Kind, **fields: object) -> None:
        await trio.sleep(after)
        began = time.monotonic()
        await wire.send(kind, ref=1, **fields)
        answer = await wire.receive_where(lambda frame: frame.get("ref") == 1, within=8)
        assert answer["error"] == "unavailable"
        assert time.monotonic() - began < 5

    async with (
        log_in(address, alice) as a,
        log_in(address, bob) as b,
        log_in(address, alice) as sending,
        log_in(address, alice) as late,
        log_in(address, bob) as reading,
    ):
        assert (await a.ok(Kind.DIRECT, toid=bob, msg="before", key="before"))["seq"] == 1
        async with paused(mariadb), trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ask(sending, 0, Kind.DIRECT, toid=bob, msg="during", key="during"))
            nursery.start_soon(lambda: ask(late, 2, Kind.DIRECT, toid=bob, msg="late", key="late"))
            nursery.start_soon(lambda: ask(reading, 0, Kind.HISTORY, conv=f"d:{alice}:{bob}"))
            for _ in range(40):
                began = time.monotonic()
                await a.ok(Kind.PING)
                pings.append(time.monotonic() - began)
                await trio.sleep(0.1)
        pings.sort()
        assert pings[-3] < 0.1
        assert pings[-1] < 1
        with trio.fail_after(10):
            while (await sending.call(Kind.DIRECT, toid=bob, msg="during", key="during"))["errno"]:
                await trio.sleep(0.05)
        await late.ok(Kind.DIRECT, toid=bob, msg="late", key="late")
        await a.ok(Kind.DIRECT, toid=bob, msg="after", key="after")
        got = await b.messages(4)
        assert [m["seq"] for m in got] == [1, 2, 3, 4]
        # What was told to be unavailable may or may not have been on its way; it is there once.
        assert sorted(m["msg"] for m in got) == ["after", "before", "during", "late"]
        assert (got[0]["msg"], got[-1]["msg"]) == ("before", "after")


@asynccontextmanager
async def under_load(nodes: Nodes) -> AsyncIterator[Sender]:
    """While the block breaks something, alice writes to bob; what was acknowledged must come out even after it."""
    addresses = [node.addresses[0] for node in nodes]
    alice, bob = await register(addresses[0], "alice"), await register(addresses[0], "bob")
    sender = Sender(addresses, "alice", 600, toid=bob)
    receiver = Receiver(addresses[::-1], "bob", f"d:{alice}:{bob}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        async with trio.open_nursery() as sending:
            sending.start_soon(sender.run)
            await sender.wait_acknowledged(100)
            yield sender
        await receiver.wait(600, within=20)
        nursery.cancel_scope.cancel()
    await check(addresses[1], "alice", f"d:{alice}:{bob}", [sender], receiver)


async def test_the_database_stands_still_under_load(nodes: Nodes, mariadb: MariaDB) -> None:
    async with under_load(nodes) as sender, paused(mariadb):
        await trio.sleep(6)  # longer than a COMMIT that was under way is looked for
    assert "unavailable" in sender.told


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_the_database_is_restarted_under_load(nodes: Nodes, mariadb: MariaDB, how: str) -> None:
    async with under_load(nodes):
        await in_thread(mariadb.kill if how == "killed" else mariadb.stop)
        await in_thread(mariadb.start)


async def test_connections_that_idled_too_long_cost_no_request(settings: Settings, mariadb: MariaDB) -> None:
    """The database has closed them all, past its `wait_timeout`; the next request of each kind works."""
    name = settings.database.rpartition("/")[2]
    idle = f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{name}' AND time > 1"
    # A node that asks for nothing by itself for a while.
    quiet = attrs.evolve(settings, sweep=60.0, lease=10.0)
    mariadb.sql("SET GLOBAL wait_timeout = 1")
    try:
        async with trio_chat.open_server(quiet) as server:
            address = server.addresses[0]
            alice, bob = await register(address, "alice"), await register(address, "bob")
            async with log_in(address, alice) as a, log_in(address, bob) as b:
                for number in range(2):
                    await a.ok(Kind.DIRECT, toid=bob, msg=str(number))
                    await b.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}")
                    async with log_in(address, bob):
                        pass
                    await trio.sleep(1.2)
                    with trio.fail_after(10):
                        while mariadb.sql(idle) != [["0"]]:
                            await trio.sleep(0.1)
                assert [m["msg"] for m in await b.messages(2)] == ["0", "1"]
    finally:
        mariadb.sql("SET GLOBAL wait_timeout = 28800")


@pytest.fixture
async def plain_user(settings: Settings, mariadb: MariaDB) -> AsyncIterator[Settings]:
    """A node's database user as operators make it, without the rights that let root write at all times."""
    name = settings.database.rpartition("/")[2]
    mariadb.sql(f"CREATE USER chat IDENTIFIED BY 'secret'; GRANT ALL ON {name}.* TO chat")
    yield attrs.evolve(settings, database=settings.database.replace("root@", "chat:secret@"))
    mariadb.sql("DROP USER chat")


async def test_the_database_becomes_read_only(plain_user: Settings, mariadb: MariaDB) -> None:
    """As after a failover to a replica: writing is `unavailable`, reading goes on, and it heals by itself."""
    async with trio_chat.open_server(plain_user) as server:
        address = server.addresses[0]
        alice, bob = await register(address, "alice"), await register(address, "bob")
        async with log_in(address, alice) as a, log_in(address, bob) as b:
            await a.ok(Kind.DIRECT, toid=bob, msg="before", key="1")
            mariadb.sql("SET GLOBAL read_only = 1")
            try:
                refused = await a.call(Kind.DIRECT, toid=bob, msg="during", key="2")
                history = await a.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}")
            finally:
                mariadb.sql("SET GLOBAL read_only = 0")
            assert refused["error"] == "unavailable"
            assert [m["msg"] for m in history["messages"]] == ["before"]
            assert (await a.ok(Kind.DIRECT, toid=bob, msg="during", key="2"))["seq"] == 2
            assert [m["msg"] for m in await b.messages(2)] == ["before", "during"]


async def test_the_database_takes_no_more_connections(plain_user: Settings, mariadb: MariaDB) -> None:
    """Others have taken them all: who needs one is told `unavailable`, nobody is thrown out, and it heals by itself."""
    own = "SELECT id FROM information_schema.processlist WHERE user IN ('chat', 'unauthenticated user')"
    others = parse_url(mariadb.url(plain_user.database.rpartition("/")[2]), timeout=3, pool=2)
    async with trio_chat.open_server(attrs.evolve(plain_user, sweep=60.0, lease=10.0)) as server:
        address = server.addresses[0]
        alice, bob = await register(address, "alice"), await register(address, "bob")
        async with log_in(address, alice) as a, log_in(address, bob) as b, AsyncExitStack() as stack:
            await a.ok(Kind.DIRECT, toid=bob, msg="before", key="1")
            mariadb.sql("SET GLOBAL max_connections = 10")
            stack.callback(mariadb.sql, "SET GLOBAL max_connections = 200")
            with trio.fail_after(10):
                first = await Connection.open(others, autocommit=True, lock_wait=1)
                stack.push_async_callback(first.quit)
                taken = False
                while not taken:
                    with contextlib.suppress(ConnectFailed):
                        while True:
                            other = await Connection.open(others, autocommit=True, lock_wait=1)
                            stack.push_async_callback(other.quit)
                    # What the node has of them, or got again in between.
                    threads = (await first.execute(own)).rows
                    for (thread,) in threads:
                        with contextlib.suppress(ServerError):  # it has just ended
                            await first.execute(f"KILL {thread:d}")
                    taken = not threads
            began = time.monotonic()
            refused = await a.call(Kind.DIRECT, toid=bob, msg="during", key="2")
            assert refused["error"] == "unavailable"
            assert time.monotonic() - began < 5
            await b.ok(Kind.PING)
            await stack.aclose()
            assert (await a.ok(Kind.DIRECT, toid=bob, msg="during", key="2"))["seq"] == 2
            assert [m["msg"] for m in await b.messages(2)] == ["before", "during"]


async def test_dead_connections_in_the_pool_cost_no_request(address: Address, mariadb: MariaDB) -> None:
    """The database was restarted, or has closed the idle connections, while nobody asked for anything."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        for number in range(2):
            await a.ok(Kind.DIRECT, toid=bob, msg="before")
            await b.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}")
            if number:
                await in_thread(mariadb.restart)
            else:
                own = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root'"
                for (thread,) in mariadb.sql(own):
                    mariadb.sql(f"KILL {thread}")
            await a.ok(Kind.DIRECT, toid=bob, msg="after")
            await b.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}")
            async with log_in(address, bob):
                pass


async def test_a_node_whose_database_stands_still_is_not_ready(settings: Settings, mariadb: MariaDB) -> None:
    with_http = attrs.evolve(settings, http=Address("127.0.0.1", 0))
    async with trio_chat.open_server(with_http) as server:
        http = address_of(server)

        async def wait_for(status: int) -> None:
            with trio.fail_after(15):
                while (await ask(http, request("/readyz"))).status != status:
                    await trio.sleep(0.1)

        await wait_for(200)
        await in_thread(mariadb.pause)
        try:
            await wait_for(503)
            assert (await ask(http, request("/livez"))).status == 200
        finally:
            mariadb.resume()
        await wait_for(200)
