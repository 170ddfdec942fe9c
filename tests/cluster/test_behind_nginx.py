"""Two nodes as processes behind nginx, as operators run them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.cluster.conftest import Cluster
from tests.wire import connect, log_in, register
from trio_chat import Settings
from trio_chat.client.script import play
from trio_chat.client.script_file import load
from trio_chat.verify.programs.node import ChatNode
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario_behind_nginx(cluster: Cluster, file: Path) -> None:
    await play(load(file), [str(cluster.address)])


async def test_clients_of_all_nodes_hear_each_other(cluster: Cluster) -> None:
    names = [f"spread{number}" for number in range(4)]
    for name in names:
        await register(cluster.address, name)
    async with (
        log_in(cluster.address, names[0]) as a,
        log_in(cluster.address, names[1]) as b,
        log_in(cluster.address, names[2]) as c,
        log_in(cluster.address, names[3]) as d,
    ):
        wires = [a, b, c, d]
        group = (await a.ok(Kind.CREATE_GROUP, groupname="spread"))["groupid"]
        for wire in wires[1:]:
            await wire.ok(Kind.JOIN_GROUP, groupid=group)
        for number, wire in enumerate(wires):
            assert (await wire.ok(Kind.GROUP, groupid=group, msg=str(number)))["seq"] == number + 1
        for number, wire in enumerate(wires):
            assert [m["msg"] for m in await wire.messages(3)] == [str(n) for n in range(4) if n != number]


async def test_clients_are_spread_over_the_nodes(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        nodes = set()
        for _ in range(4):
            wire = await stack.enter_async_context(connect(cluster.address, modern=False))
            await wire.send(Kind.HELLO, version=1)
            nodes.add((await wire.receive(Kind.HELLO_ACK))["node"])
    assert nodes == {"one", "two"}


async def test_the_nodes_know_the_clients_address(cluster: Cluster) -> None:
    async with connect(cluster.address) as wire:
        port = wire.stream.socket.getsockname()[1]
        assert (await wire.receive(Kind.PING, within=6))["msgid"] == Kind.PING
        with trio.fail_after(10):  # it does not answer, so the node gives it up
            while await wire.stream.receive_some(100):
                pass
    peers = [
        str(event.get("peer")) for node in cluster.nodes for event in node.events() if event.get("reason") == "silent"
    ]
    assert [peer for peer in peers if str(port) in peer and "127.0.0.1" in peer]


async def test_the_address_of_a_proxy_header_is_logged_and_rubbish_refused(tmp_path: Path, settings: Settings) -> None:
    with ChatNode(tmp_path, "one", settings, proxied=True) as node:
        stream = await trio.open_tcp_stream(*node.address)
        async with stream:
            await stream.send_all(b'PROXY TCP4 203.0.113.7 127.0.0.1 4242 6000\r\n{"msgid":22}\n')
            assert b'"msgid":23' in await stream.receive_some(1000)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        closed = await trio.to_thread.run_sync(node.wait_logged, "closing a connection")
        assert "203.0.113.7" in str(closed["peer"])
        assert "4242" in str(closed["peer"])
        async with await trio.open_tcp_stream(*node.address) as stream:
            await stream.send_all(b'{"msgid":22}\n')
            with trio.fail_after(5):
                assert await stream.receive_some(1000) == b""
        await trio.to_thread.run_sync(node.wait_logged, "connection refused")
