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


async def receive(poller: Poller, sock: socket.socket) -> bytes:
    """What comes next."""
    received = b""

    def take() -> bool:
        nonlocal received
        received = sock.recv(100)
        return False

    await poller.attend(sock, take)
    return received


async def test_it_calls_back_as_long_as_that_is_wanted(poller: Poller, pair: Pair, nursery: trio.Nursery) -> None:
    near, far = pair
    got: list[bytes] = []
    done = trio.Event()

    def take() -> bool:
        got.append(near.recv(100))
        return got[-1] != b"two"

    async def read() -> None:
        await poller.attend(near, take)
        done.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    assert got == []
    for text in (b"one", b"two"):
        assert not done.is_set()
        far.send(text)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert got[-1] == text
    assert got == [b"one", b"two"]
    assert done.is_set()


async def test_who_does_not_wait_is_left_alone_and_misses_nothing(poller: Poller, pair: Pair) -> None:
    near, far = pair
    with trio.move_on_after(0.01):
        await receive(poller, near)
    far.send(b"meanwhile")
    # Nothing spins: the poller itself comes to rest although the socket stays readable.
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert await receive(poller, near) == b"meanwhile"
    far.close()
    assert await receive(poller, near) == b""


async def test_a_callback_that_cancels_its_own_task_is_not_called_again(poller: Poller, pair: Pair) -> None:
    near, far = pair
    calls = 0
    with trio.CancelScope() as scope:

        def cancel() -> bool:
            nonlocal calls
            calls += 1
            scope.cancel()
            return calls < 2

        far.send(b"x")
        await poller.attend(near, cancel)
    assert scope.cancelled_caught
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert calls == 1
    assert await receive(poller, near) == b"x"


async def test_a_callback_that_closes_another_socket(poller: Poller, nursery: trio.Nursery) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    ended = 0

    async def read(number: int) -> None:
        nonlocal ended
        near, other = pairs[number][0], pairs[1 - number][0]

        def close() -> bool:
            poller.forget(other)
            other.close()
            return False

        with trio.move_on_after(0.1):
            await poller.attend(near, close)
            ended += 1

    async with trio.open_nursery() as readers:
        for number in range(2):
            readers.start_soon(read, number)
        await trio.testing.wait_all_tasks_blocked()
        for _, far in pairs:
            far.send(b"x")
    assert ended == 1
    for near, far in pairs:
        poller.forget(near)
        near.close()
        far.close()


async def test_a_closed_socket_is_forgotten_and_its_number_used_again(poller: Poller) -> None:
    for _ in range(3):
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            far.send(b"x")
            assert await receive(poller, near) == b"x"
            poller.forget(near)
            poller.forget(near)


async def test_after_its_end_a_wait_ends_with_its_scope(pair: Pair) -> None:
    near, _ = pair
    poller = Poller()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(receive, poller, near)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await receive(poller, near)
    assert scope.cancelled_caught
    poller.forget(near)
