"""Starting, stopping, embedding, slow and dead clients."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import pytest
import structlog
import trio

import trio_chat
from tests.server.stalling import eventually
from tests.wire import Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Limits, Server, Settings
from trio_chat.errors import StartupError
from trio_chat.wire.messages import Kind


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_behind(settings: Settings) -> None:
    gc.collect()
    before = descriptors()
    for _ in range(2):
        async with trio_chat.open_server(settings) as server:
            userid = await register(server.addresses[0], f"user{server.addresses[0].port}")
            async with log_in(server.addresses[0], userid):
                pass
    # Trio's own worker threads linger for a while; the database's are gone.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trio-chat")]
    gc.collect()
    assert descriptors() <= before


async def test_an_error_in_the_block_comes_out_as_it_is(settings: Settings) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with trio_chat.open_server(settings):
            raise KeyError("mine")


async def test_cancelling_ends_it_at_once(settings: Settings) -> None:
    with trio.move_on_after(5) as scope:
        async with trio_chat.open_server(settings) as server:
            alice = await register(server.addresses[0], "alice")
            async with log_in(server.addresses[0], alice) as a:
                await a.ok(Kind.DIRECT, toid=alice, msg="received")
                await a.send(Kind.RECEIVED, conv=f"d:{alice}:{alice}", seq=1)
                await a.quiet()
                scope.cancel()
                began = trio.current_time()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - began < 1.5  # nothing waits for a task that has been cancelled too
    database = sqlite3.connect(settings.database.removeprefix("sqlite:///"))
    assert database.execute("SELECT received FROM DeliveryCursor").fetchall() == [(1,)]
    assert database.execute("SELECT state FROM User").fetchall() == [("offline",)]
    assert database.execute("SELECT * FROM Presence").fetchall() == []
    assert database.execute("SELECT * FROM Node").fetchall() == []
    database.close()
    async with trio_chat.open_server(settings) as server, log_in(server.addresses[0], alice, modern=False):
        pass


async def test_data_and_presence_after_a_restart(settings: Settings) -> None:
    async with trio_chat.open_server(settings) as server:
        address = server.addresses[0]
        alice, bob = await register(address, "alice"), await register(address, "bob")
        async with log_in(address, alice) as a:
            await a.ok(Kind.DIRECT, toid=bob, msg="stored")
    async with trio_chat.open_server(settings) as server, log_in(server.addresses[0], bob) as b:
        assert [m["msg"] for m in await b.messages(1)] == ["stored"]


async def test_draining_answers_and_tells_everyone(settings: Settings) -> None:
    async with trio_chat.open_server(settings) as server:
        address = server.addresses[0]
        alice, bob = await register(address, "alice"), await register(address, "bob")
        async with log_in(address, alice) as a, log_in(address, bob, modern=False, terminator=b"\0") as other:
            burst = [json.dumps({"msgid": 6, "toid": alice, "msg": str(i), "ref": i}).encode() for i in range(200)]
            await a.send_bytes(b"\n".join(burst) + b"\n")
            assert (await a.receive(Kind.REPLY))["seq"] == 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.drain)
                with pytest.raises(WireClosed):
                    while True:
                        await a.receive_where(lambda frame: frame["msgid"] not in {Kind.REPLY, Kind.DIRECT})
            kept = list(a._frames)
            assert [f["seq"] for f in kept if "seq" in f] == list(range(2, len([f for f in kept if "seq" in f]) + 2))
            assert kept[-1]["error"] == "shutting_down"
            assert (await other.receive())["error"] == "shutting_down"
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(address.host, address.port)


async def test_an_idle_connection_is_one_task(server: Server, address: Address) -> None:
    alice = await register(address, "alice")

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    await eventually(lambda: not server.node.connections)
    before = tasks()
    async with log_in(address, alice) as a, connect(address, modern=False):
        await a.ok(Kind.DIRECT, toid=alice, msg="x")
        await eventually(lambda: tasks() == before + 2)


async def test_a_server_that_ends_at_once_closes_those_that_are_idle(settings: Settings) -> None:
    async with AsyncExitStack() as clients:
        with trio.CancelScope() as scope:
            async with trio_chat.open_server(settings) as server:
                address = server.addresses[0]
                alice = await register(address, "alice")
                wires = [await clients.enter_async_context(log_in(address, alice)) for _ in range(2)]
                wires.append(await clients.enter_async_context(connect(address, modern=False)))
                scope.cancel()
                await trio.sleep_forever()
        for wire in wires:
            with pytest.raises(WireClosed):
                await wire.receive(Kind.REPLY)
        assert not server.node.connections
        assert not server.node.router.accounts
        assert sum(server.node.counters.connections.values()) == 0


async def test_a_second_server_on_the_file_is_refused(server: Server, settings: Settings) -> None:
    with pytest.raises(StartupError, match="another server is using"):
        async with trio_chat.open_server(settings):
            pass
    assert server.addresses


async def test_a_port_in_use_is_said_clearly(address: Address, settings: Settings) -> None:
    with pytest.raises(StartupError, match=f"cannot listen on {address}"):
        async with trio_chat.open_server(attrs.evolve(settings, tcp=(address,))):
            pass


async def test_of_several_addresses_one_is_in_use(address: Address, settings: Settings) -> None:
    """Those before it are listened on no more: the next try can have them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = Address(*free.getsockname())
    with pytest.raises(StartupError, match=f"cannot listen on {address}"):
        async with trio_chat.open_server(attrs.evolve(settings, tcp=(first, address))):
            pass
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(first.host, first.port)


@pytest.mark.settings(tcp=(Address("::1", 0), Address("127.0.0.1", 0)))
async def test_ipv6(server: Server) -> None:
    six, four = server.addresses
    assert (six.host, str(six)) == ("::1", f"[::1]:{six.port}")
    alice, bob = await register(six, "alice"), await register(four, "bob")
    async with log_in(six, alice) as a, log_in(four, bob) as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="six")
        assert [m["msg"] for m in await b.messages(1)] == ["six"]


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Every new file or socket of this process fails with EMFILE."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors(address: Address, logs: list[structlog.typing.EventDict]) -> None:
    """Who is here stays and is served; who comes waits in the kernel's queue until there are descriptors again."""
    alice = await register(address, "alice")
    async with log_in(address, alice) as a:
        with trio.socket.socket() as sock:
            with no_more_descriptors():
                await sock.connect((address.host, address.port))
                with trio.fail_after(5):
                    while not any(entry["event"] == "cannot accept connections" for entry in logs):
                        await trio.sleep(0.01)
                await a.ok(Kind.DIRECT, toid=alice, msg="still here")
            late = Wire(trio.SocketStream(sock))
            await late.send(Kind.PING)
            await late.receive(Kind.PONG)


@pytest.mark.settings(heartbeat=0.2)
async def test_silent_modern_clients_are_pinged_then_closed(address: Address) -> None:
    async with connect(address) as wire, connect(address) as silent:
        for _ in range(4):
            assert (await wire.receive())["msgid"] == Kind.PING
            await wire.send(Kind.PONG)
        with pytest.raises(WireClosed):
            while True:
                assert (await silent.receive())["msgid"] == Kind.PING


@pytest.mark.settings(limits=Limits(outbox=65536))
async def test_who_does_not_read_is_closed_and_loses_nothing(address: Address, server: Server) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    count, text = 1500, "x" * 8000
    async with log_in(address, alice) as a:
        async with log_in(address, bob):
            for i in range(count):  # 12 MB, more than any socket buffer takes
                await a.ok(Kind.DIRECT, toid=bob, msg=text, key=str(i))
            assert bob not in server.node.router.accounts
        async with log_in(address, bob) as b:
            assert [m["seq"] for m in await b.messages(count, within=20)] == list(range(1, count + 1))
        await a.quiet()


async def test_a_login_that_is_cancelled_anywhere_leaves_nothing(server: Server, address: Address) -> None:
    """Break the connection at many moments of a login: registry, presence and locks are clean afterwards."""
    alice = await register(address, "alice")
    for delay in range(30):
        stream = await trio.open_tcp_stream(address.host, address.port)
        await stream.send_all(b'{"msgid":1,"id":%d,"password":"secret"}\n' % alice)
        await trio.sleep(delay * 0.002)
        await trio.aclose_forcefully(stream)
    for _ in range(2):
        with trio.fail_after(20):
            while server.node.connections or server.node.router.accounts:
                await trio.sleep(0.01)
        statistics = dict(server.node.router.statistics())
        assert (statistics["accounts"], statistics["conversations"], statistics["holes"]) == (0, 0, 0)
        async with log_in(address, alice, modern=False):
            assert len(server.node.router.accounts) == 1
