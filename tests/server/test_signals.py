"""Signals to the command line's server, at every stage of its life."""

from __future__ import annotations

import os
import signal
from functools import partial

import attrs
import pytest
import trio

from tests.wire import connect
from trio_chat import Address, Settings
from trio_chat.__main__ import _serve_until_signalled
from trio_chat.wire.messages import Kind


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_ends_a_start_that_waits(settings: Settings, number: signal.Signals) -> None:
    """The database accepts the connection, and is silent."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.getsockname()

    async def say_nothing(stream: trio.SocketStream) -> None:
        os.kill(os.getpid(), number)
        await stream.receive_some()

    waiting = attrs.evolve(settings, database=f"mysql://user:password@{host}:{port}/chat", store_timeout=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, say_nothing, [listener]))
        with trio.fail_after(3):
            await _serve_until_signalled(waiting)
        nursery.cancel_scope.cancel()


@pytest.mark.settings(drain=30, pace=1)
async def test_one_signal_drains_a_second_one_ends_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    ended = trio.Event()

    async def serve() -> None:
        await _serve_until_signalled(settings)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        said = ""
        with trio.fail_after(10):
            while "chat with" not in said:
                await trio.sleep(0.01)
                said += capsys.readouterr().out
        address = Address.parse(said.partition("listening on ")[2].splitlines()[0])
        async with connect(address) as modern, connect(address, modern=False, terminator=b"\0") as slow:
            for number in range(20):  # 20 s, at that pace
                await slow.send(Kind.PING, data=number)
            assert (await slow.receive())["data"] == 0
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await modern.receive(Kind.REPLY))["error"] == "shutting_down"
            assert not ended.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            with trio.fail_after(5):
                await ended.wait()
