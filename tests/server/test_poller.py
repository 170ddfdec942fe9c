"""Waiting for many sockets at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from trio_chat.transport.poller import Poller

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
async def poller(nursery: trio.Nursery) -> AsyncIterator[Poller]:
    poller = Poller()
    nursery.start_soon(poller.run)
    yield poller
    nursery.cancel_scope.cancel()


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


async def test_it_waits_until_there_is_something(poller: Poller, pair: Pair, nursery: trio.Nursery) -> None:
    near, far = pair
    got: list[bytes] = []

    async def read() -> None:
        while True:
            await poller.wait_readable(near)
            got.append(near.recv(100))

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    assert got == []
    for text in (b"one", b"two"):
        far.send(text)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert got[-1] == text
    assert got == [b"one", b"two"]


async def test_who_does_not_wait_is_left_alone_and_misses_nothing(poller: Poller, pair: Pair) -> None:
    near, far = pair
    with trio.move_on_after(0.01):
        await poller.wait_readable(near)
    far.send(b"meanwhile")
    # Nothing spins: the poller itself comes to rest although the socket stays readable.
    await trio.testing.wait_all_tasks_blocked(0.01)
    await poller.wait_readable(near)
    assert near.recv(100) == b"meanwhile"
    far.close()
    await poller.wait_readable(near)
    assert near.recv(100) == b""


async def test_a_closed_socket_is_forgotten_and_its_number_used_again(poller: Poller) -> None:
    for _ in range(3):
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            far.send(b"x")
            await poller.wait_readable(near)
            poller.forget(near)
            poller.forget(near)


async def test_after_its_end_a_wait_ends_with_its_scope(pair: Pair) -> None:
    near, _ = pair
    poller = Poller()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.wait_readable, near)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await poller.wait_readable(near)
    assert scope.cancelled_caught
    poller.forget(near)
