"""What cuts connections without closing them: networks with cables, and the relay for machines that permit none."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_chat import Address
from trio_chat.verify.programs import network
from trio_chat.verify.programs.network import Network, why_not
from trio_chat.verify.programs.process import ServiceError
from trio_chat.verify.programs.relay import open_relay

permitted = pytest.mark.skipif(bool(why_not()), reason=why_not())


def talk(sender: socket.socket, receiver: socket.socket, data: bytes, within: float = 10.0) -> bytes:
    sender.sendall(data)
    receiver.settimeout(within)
    return receiver.recv(100)


@permitted
def test_a_cut_cable_is_silent_and_heals() -> None:
    with Network() as net, socket.create_server((net.cable.outside, 0)) as server, net.socket() as client:
        client.connect(server.getsockname())
        peer, (host, _) = server.accept()
        with peer:
            assert host == net.cable.inside
            assert talk(client, peer, b"1") == b"1"
            net.cable.cut()
            with pytest.raises(TimeoutError):
                talk(client, peer, b"2", within=0.2)
            with pytest.raises(TimeoutError):
                talk(peer, client, b"3", within=0.2)
            with net.socket() as another, pytest.raises(TimeoutError):
                another.settimeout(0.2)
                another.connect(server.getsockname())
            net.cable.heal()
            assert talk(client, peer, b"4").startswith(b"2")
            assert talk(peer, client, b"5").startswith(b"3")


@permitted
def test_cables_are_cut_one_by_one_and_networks_reach_what_others_are_joined_to() -> None:
    with Network() as net, Network() as other:
        entrance = net.add_cable()
        # Two ways into one network; and a service on the address of another network's cable.
        with socket.create_server((other.cable.outside, 0)) as service, net.socket() as client, net.socket() as inside:
            client.connect(service.getsockname())
            peer = service.accept()[0]
            inside.bind((entrance.inside, 0))
            inside.listen()
            with peer, socket.create_connection(inside.getsockname()[:2]) as visitor, inside.accept()[0] as visited:
                net.cable.cut()
                with pytest.raises(TimeoutError):
                    talk(client, peer, b"1", within=0.2)
                assert talk(visitor, visited, b"2") == b"2"


@permitted
def test_a_program_runs_in_it_and_nothing_is_left() -> None:
    with Network() as net:
        program = subprocess.run(net.command(["ip", "-o", "addr"]), capture_output=True, text=True, check=True)
        assert net.cable.inside in program.stdout
    assert not list(Path("/run/netns").glob(net.name))
    assert f"tc{os.getpid()}x" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


@permitted
def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    code = "import os; from trio_chat.verify.programs.network import Network as N; n = N().__enter__(); print(n.name); "
    killed = subprocess.run([sys.executable, "-c", code + "os._exit(9)"], capture_output=True, text=True, check=False)
    name = killed.stdout.strip()
    assert Path("/run/netns", name).exists(), killed
    with Network():
        assert not Path("/run/netns", name).exists()


def test_it_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arguments: str) -> str:
        raise ServiceError(f"ip {arguments}: Operation not permitted")

    monkeypatch.setattr(network, "_ip", refuse)
    assert "Operation not permitted" in why_not.__wrapped__()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux only" in why_not.__wrapped__()


async def echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for chunk in stream:
            await stream.send_all(chunk)


async def test_the_relay_forwards_holds_and_goes_on(nursery: trio.Nursery) -> None:
    (listener,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
    async with open_relay(Address(*listener.socket.getsockname()[:2])) as relay:
        async with await trio.open_tcp_stream(*relay.address) as client:
            asked: list[bytes] = []
            relay.on_request = asked.append
            await client.send_all(b"1")
            assert await client.receive_some() == b"1"
            for hold in (relay.hold_answers, relay.cut):
                hold()
                await client.send_all(b"2")
                with trio.move_on_after(0.1) as held:
                    await client.receive_some()
                assert held.cancelled_caught
                relay.heal()
                with trio.fail_after(5):
                    assert await client.receive_some() == b"2"
            assert asked == [b"1", b"2", b"2"]
            await client.send_eof()
            assert await client.receive_some() == b""
        async with await trio.open_tcp_stream(*relay.address) as client:
            await client.send_all(b"1")
            await client.receive_some()
            relay.reset()
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
