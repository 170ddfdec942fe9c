"""Signals to the command line's server, at every stage of its life."""

from __future__ import annotations

import os
import signal
from functools import partial

import attrs
import pytest
import structlog
import trio
import trio.testing

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


async def test_sighup_reloads_and_ends_nothing(settings: Settings, logs: list[structlog.typing.EventDict]) -> None:
    """Where there is nothing to reload either."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_until_signalled, settings)
        for _ in range(2):
            with trio.fail_after(10):
                while not any(entry["event"] == "ready" for entry in logs):
                    await trio.sleep(0.01)
            logs.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            with trio.fail_after(5):
                while not any(entry["event"].startswith("there is nothing to reload") for entry in logs):
                    await trio.sleep(0.01)
            logs.append({"event": "ready"})
        os.kill(os.getpid(), signal.SIGTERM)


async def test_sighup_of_a_terminal_that_has_gone_is_a_stop(settings: Settings) -> None:
    leader, follower = os.openpty()
    stdin = os.dup(0)
    os.dup2(follower, 0)
    os.close(follower)
    try:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_serve_until_signalled, settings)
                await trio.testing.wait_all_tasks_blocked(0.05)
                os.close(leader)
                os.kill(os.getpid(), signal.SIGHUP)
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
