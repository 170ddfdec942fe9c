"""Connections as the listener hands them over."""

from __future__ import annotations

import socket
import sys
from functools import partial

import pytest
import trio

from trio_chat import Address
from trio_chat.transport import tcp
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import TcpTransport, accept_loop, listen


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the options have other names elsewhere")
@pytest.mark.parametrize("handed_down", [True, False], ids=["by the listener", "one by one"])
async def test_a_connection_sends_at_once_and_notices_a_dead_peer(
    handed_down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "_HANDED_DOWN", handed_down)
    (listener,) = listen(Address("127.0.0.1", 0))
    send, receive = trio.open_memory_channel[TcpTransport](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(accept_loop, listener, Poller(), send.send_nowait))
        with socket.create_connection(listener.getsockname()):
            transport = await receive.receive()
            option = transport._socket.getsockopt
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            keepalive = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [option(socket.IPPROTO_TCP, each) for each in keepalive] == [60, 15, 4]
            assert transport._socket.gettimeout() == 0
            transport.close()
        nursery.cancel_scope.cancel()
