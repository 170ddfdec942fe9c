"""Waiting for many sockets at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import TcpTransport

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


class Taker:
    """Reads from a socket whenever it is called, and wants more unless what came is `last`, or the end."""

    def __init__(self, sock: socket.socket, last: bytes | None = None) -> None:
        self.sock = sock
        self.last = last
        self.got: list[bytes] = []

    def readable(self) -> bool:
        self.got.append(self.sock.recv(100))
        return self.got[-1] not in {b"", self.last}


async def receive(poller: Poller, sock: socket.socket) -> bytes:
    """What has come."""
    taker = Taker(sock)
    poller.attend(sock, taker)
    await trio.testing.wait_all_tasks_blocked(0.01)
    poller.ignore(sock)
    (text,) = taker.got
    return text


async def test_it_calls_as_long_as_that_is_wanted(poller: Poller, pair: Pair) -> None:
    near, far = pair
    taker = Taker(near, b"two")
    poller.attend(near, taker)
    await trio.testing.wait_all_tasks_blocked()
    assert taker.got == []
    for text in (b"one", b"two", b"three"):
        far.send(text)
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert taker.got == [b"one", b"two"]
    poller.attend(near, taker)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert taker.got == [b"one", b"two", b"three"]


async def test_what_comes_while_nobody_attends_is_not_missed(poller: Poller, pair: Pair) -> None:
    near, far = pair
    taker = Taker(near)
    poller.attend(near, taker)
    poller.ignore(near)
    far.send(b"meanwhile")
    # Nothing spins: the poller itself comes to rest although the socket stays readable.
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert taker.got == []
    assert await receive(poller, near) == b"meanwhile"
    far.close()
    assert await receive(poller, near) == b""


async def test_who_ignores_while_he_is_called_is_not_called_again(poller: Poller, pair: Pair) -> None:
    near, far = pair
    calls = 0

    class Ignoring:
        def readable(self) -> bool:
            nonlocal calls
            calls += 1
            poller.ignore(near)
            return True

    far.send(b"x")
    poller.attend(near, Ignoring())
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert calls == 1
    assert await receive(poller, near) == b"x"


async def test_one_that_is_called_closes_another_socket(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called = 0

    class Closing:
        def __init__(self, other: socket.socket) -> None:
            self.other = other

        def readable(self) -> bool:
            nonlocal called
            called += 1
            poller.forget(self.other)
            self.other.close()
            return False

    for number in range(2):
        poller.attend(pairs[number][0], Closing(pairs[1 - number][0]))
    for _, far in pairs:
        far.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert called == 1
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


async def test_after_its_end_nobody_is_called(pair: Pair) -> None:
    near, far = pair
    poller = Poller()
    taker = Taker(near)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            poller.attend(near, taker)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    far.send(b"late")
    poller.ignore(near)
    poller.forget(near)
    assert taker.got == []


async def test_receiving_is_given_up_without_losing_anything(poller: Poller, pair: Pair) -> None:
    near, far = pair
    transport = TcpTransport(near, "peer", poller)
    with trio.move_on_after(0.01) as patience:
        await transport.receive()
    assert patience.cancelled_caught
    far.send(b"later")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert await transport.receive() == b"later"
    far.send(b"last")
    far.close()
    assert [await transport.receive() for _ in range(3)] == [b"last", b"", b""]
    transport.close()
