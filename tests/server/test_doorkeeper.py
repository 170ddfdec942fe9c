"""Who is let in, who has to go for others, and what a session may send: against a running server."""

from __future__ import annotations

import json

import pytest
import trio

from tests.server.stalling import eventually, stalling
from tests.wire import Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Limits, Server
from trio_chat.address import network_of
from trio_chat.config import NO_LIMIT
from trio_chat.wire.messages import Kind


async def dismissed(wire: Wire) -> str:
    """The error with which the server ends a connection."""
    frame = await wire.receive(Kind.REPLY)
    assert "ref" not in frame
    with pytest.raises(WireClosed):
        await wire.receive()
    error: str = frame["error"]
    return error


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.7:1234", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("[fe80::1%eth0]:1", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(peer: str, network: str) -> None:
    assert network_of(peer) == network


@pytest.mark.settings(limits=Limits(address_connections=2))
async def test_connections_from_one_address(server: Server, address: Address) -> None:
    async with connect(address), connect(address):
        async with connect(address, modern=False) as third:
            assert await dismissed(third) == "rate_limited"
        elsewhere = trio.socket.socket()
        await elsewhere.bind(("127.0.0.9", 0))
        await elsewhere.connect(address)
        assert await Wire(trio.SocketStream(elsewhere)).call(Kind.HELLO, version=1)
        elsewhere.close()
    await eventually(lambda: not server.node.connections)
    async with connect(address), connect(address):
        pass
    assert server.node.counters.reached == {"address_connections": 1}


@pytest.mark.settings(limits=Limits(address_connections=1), proxy_protocol=True)
async def test_the_address_is_the_one_that_the_load_balancer_says(server: Server, address: Address) -> None:
    async def come(host: str) -> Wire:
        wire = Wire(await trio.open_tcp_stream(address.host, address.port))
        await wire.send_bytes(f"PROXY TCP4 {host} 192.0.2.1 1000 6000\r\n".encode())
        await wire.send(Kind.PING)
        return wire

    first, second, again = await come("192.0.2.7"), await come("192.0.2.8"), await come("192.0.2.7")
    await first.receive(Kind.PONG)
    await second.receive(Kind.PONG)
    assert await dismissed(again) == "rate_limited"
    for wire in (first, second, again):
        await wire.aclose()


@pytest.mark.settings(limits=Limits(connections=2))
async def test_who_does_not_log_in_makes_room(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_chat.doorkeeper._GRACE", 0.0)
    await register(address, "alice")
    await eventually(lambda: not server.node.connections)
    async with log_in(address, "alice") as alice, connect(address) as idle:
        async with connect(address) as another:
            assert await dismissed(idle) == "rate_limited"
            async with log_in(address, "alice") as second:
                assert await dismissed(another) == "rate_limited"
                async with connect(address, modern=False) as late:
                    assert await dismissed(late) == "rate_limited"
                await second.quiet()
        await alice.quiet()


@pytest.mark.settings(limits=Limits(connections=3))
async def test_other_workers_connections_count_too(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = 2
    monkeypatch.setattr(server.node.doorkeeper, "_elsewhere", lambda: elsewhere)
    async with connect(address) as first:
        async with connect(address, modern=False) as second:
            assert await dismissed(second) == "rate_limited"
        elsewhere = 1
        async with connect(address):
            await first.quiet()


async def test_the_time_until_login(server: Server, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_chat.doorkeeper._LOOK", 0.05)

    async def idle(modern: bool, terminator: bytes) -> None:
        async with connect(address, modern=modern, terminator=terminator) as wire:
            await wire.send(Kind.PING)  # to be alive is not enough
            await wire.receive(Kind.PONG)
            assert await dismissed(wire) == "not_logged_in"

    async def log_out(wire: Wire) -> None:
        await wire.send(Kind.LOGOUT, ref=1)
        if wire is modern:
            await wire.receive_where(lambda frame: frame.get("ref") == 1)
        await wire.receive_where(lambda frame: frame.get("error") == "not_logged_in")
        with pytest.raises(WireClosed):
            await wire.receive()

    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as modern, log_in(address, bob, modern=False) as classic:
        server.node.doorkeeper._limits = Limits(login_seconds=1)
        async with trio.open_nursery() as nursery:
            for dialect in (True, False):
                for terminator in (b"\n", b"\0"):
                    nursery.start_soon(idle, dialect, terminator)
        for wire in (modern, classic):  # who is logged in stays
            await wire.send(Kind.PING)
            await wire.receive(Kind.PONG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_out, modern)
            nursery.start_soon(log_out, classic)


@pytest.mark.settings(limits=Limits(memory=1048576, outbox=4194304))
async def test_who_holds_most_goes_when_memory_is_short(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_chat.doorkeeper._LOOK", 0.05)
    alice = await register(address, "alice")
    async with log_in(address, "alice") as sender, stalling(server) as (deaf, client):
        client.request(Kind.HELLO, version=1)
        client.request(Kind.LOGIN, id=alice, password="secret")
        await eventually(lambda: deaf.account)
        client.takes = 0
        for _ in range(100):
            await sender.ok(Kind.DIRECT, toid=alice, msg="x" * 16000)
        await eventually(lambda: deaf not in server.node.connections)
        await sender.quiet()
    assert server.node.counters.reached["memory"] == 1
    assert server.node.counters.closed["test", "holds too much memory"] == 1


@pytest.mark.settings(limits=Limits(frames_per_second=40, burst=1))
async def test_a_modern_session_is_told_when_to_go_on(server: Server, address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as wire:
        ping = json.dumps({"msgid": Kind.PING, "ref": 1}).encode() + b"\n"
        received = json.dumps({"msgid": Kind.RECEIVED, "conv": "d:1:1", "seq": 1}).encode() + b"\n"
        await wire.send_bytes((ping + received) * 30)
        assert [(await wire.receive())["msgid"] for _ in range(30)] == [Kind.PONG] * 30  # what was begun is granted
        await wire.send_bytes((ping + received) * 10)
        answers = [await wire.receive() for _ in range(10)]
        assert {(frame["ref"], frame["error"]) for frame in answers} == {(1, "rate_limited")}
        assert 0 < answers[0]["retry_after"] < 5
        await trio.sleep(answers[-1]["retry_after"])
        await wire.ok(Kind.PING)
    assert server.node.counters.reached["frames_per_second"] >= 10
    assert server.node.counters.rejected["rate_limited"] == 10


@pytest.mark.settings(limits=Limits(frames_per_second=100, burst=1), pace=0.0)
async def test_a_classic_session_is_slowed(server: Server, address: Address) -> None:
    ping = json.dumps({"msgid": Kind.PING}).encode() + b"\0"
    async with connect(address, modern=False, terminator=b"\0") as wire:
        began = trio.current_time()
        await wire.send_bytes(ping * 160)  # granted whole, as there was something left
        for _ in range(160):
            await wire.receive(Kind.PONG)
        await wire.send_bytes(ping)
        await wire.receive(Kind.PONG)
        assert trio.current_time() - began > 0.5
    assert not server.node.counters.rejected


@pytest.mark.settings(limits=Limits(bytes_per_second=1024, burst=1))
async def test_bytes_count_as_well(server: Server, address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as wire:
        await wire.ok(Kind.DIRECT, toid=alice, msg="x" * 1500)
        answer = await wire.call(Kind.DIRECT, toid=alice, msg="x")
        assert answer["error"] == "rate_limited"
    assert server.node.counters.reached["bytes_per_second"] == 1


@pytest.mark.settings(limits=Limits(deliveries_per_second=2, burst=1))
async def test_messages_to_groups_cost_as_much_as_they_make_others_do(address: Address) -> None:
    await register(address, "alice")
    await register(address, "bob")
    async with log_in(address, "alice") as alice, log_in(address, "bob") as bob:
        group = (await alice.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await bob.ok(Kind.JOIN_GROUP, groupid=group)
        await alice.ok(Kind.GROUP, groupid=group, msg="1")
        await alice.ok(Kind.GROUP, groupid=group, msg="2")
        refused = await alice.call(Kind.GROUP, groupid=group, msg="3")
        assert refused["error"] == "rate_limited"
        await trio.sleep(refused["retry_after"])
        assert (await alice.ok(Kind.GROUP, groupid=group, msg="3"))["seq"] == 3
        assert [frame["msg"] for frame in await bob.messages(3)] == ["1", "2", "3"]


@pytest.mark.settings(limits=Limits(deliveries_per_second=10, burst=1))
async def test_a_classic_session_waits_before_it_sends_to_a_large_group(server: Server, address: Address) -> None:
    await register(address, "alice")
    await register(address, "bob")
    async with log_in(address, 1, modern=False) as alice, log_in(address, "bob") as bob:
        await alice.send(Kind.CREATE_GROUP, groupname="g")
        await eventually(lambda: server.node.router.online_members(1))
        await bob.ok(Kind.JOIN_GROUP, groupid=1)
        for number in range(7):
            await alice.send(Kind.GROUP, groupid=1, msg=str(number))
        assert [frame["msg"] for frame in await bob.messages(7)] == list("0123456")
    assert server.node.counters.reached["deliveries_per_second"] >= 1
    assert not server.node.counters.rejected


@pytest.mark.settings(
    limits=Limits(frames_per_second=NO_LIMIT, bytes_per_second=NO_LIMIT, deliveries_per_second=NO_LIMIT)
)
async def test_without_limits_nothing_is_metered(server: Server, logs: list[dict[str, object]]) -> None:
    assert server.node.rates is None
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["limits"] == ["bytes_per_second", "deliveries_per_second", "frames_per_second"]


async def test_very_many_frames_at_once_are_all_done(address: Address) -> None:
    async with connect(address) as wire:
        await wire.send_bytes(b"".join(b'{"msgid":22,"data":%d}\n' % number for number in range(1200)))
        assert [(await wire.receive())["data"] for _ in range(1200)] == list(range(1200))
