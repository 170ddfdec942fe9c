"""Waiting for many sockets at once."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.abc
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
    """Reads from a socket whenever it is called, as long as that is wanted: until `last` has come, or the end."""

    def __init__(self, sock: socket.socket, last: bytes | None = None) -> None:
        self.sock = sock
        self.last = last
        self.wanted = True
        self.got: list[bytes] = []
        self.calls = 0

    def readable(self) -> bool:
        self.calls += 1
        if self.wanted:
            self.got.append(self.sock.recv(100))
            self.wanted = self.got[-1] not in {b"", self.last}
            return True
        return False


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
    # Nothing spins: the poller itself comes to rest although the socket stays readable.
    assert taker.calls == 3
    taker.wanted = True
    poller.attend(near, taker)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert taker.got == [b"one", b"two", b"three"]


async def test_one_that_is_called_closes_another_socket(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    closed = False

    class Closing:
        def __init__(self, other: socket.socket) -> None:
            self.other = other

        def readable(self) -> bool:
            nonlocal closed
            if not closed:
                poller.forget(self.other)
                self.other.close()
                closed = True
            return False

    for number in range(2):
        poller.attend(pairs[number][0], Closing(pairs[1 - number][0]))
    for _, far in pairs:
        far.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert [near.fileno() < 0 for near, _ in pairs].count(True) == 1
    for near, far in pairs:
        if near.fileno() >= 0:
            poller.forget(near)
            near.close()
        far.close()


async def test_a_socket_that_has_the_number_of_one_that_was_closed_is_called(poller: Poller) -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    reader: Taker | None = None

    class Closing:
        """Closes its socket, and another one is opened at once."""

        def readable(self) -> bool:
            nonlocal reader
            poller.forget(near)
            near.close()
            os.dup2(other.fileno(), number)
            again = socket.socket(fileno=number)
            reader = Taker(again)
            poller.attend(again, reader)
            return False

    other, another = socket.socketpair()
    poller.attend(near, Closing())
    far.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    another.send(b"hello")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert reader is not None
    assert reader.got == [b"hello"]
    poller.forget(reader.sock)
    for sock in (reader.sock, far, other, another):
        sock.close()


async def test_very_many_leave_the_others_their_turn(
    poller: Poller, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_chat.transport.poller._AT_ONCE", 2)
    turns: list[int] = []
    pairs = [socket.socketpair() for _ in range(6)]
    takers = [Taker(near) for near, _ in pairs]

    class Watch(trio.abc.Instrument):
        def before_task_step(self, _: trio.lowlevel.Task) -> None:
            turns.append(sum(taker.calls for taker in takers))

    for taker, (near, far) in zip(takers, pairs, strict=True):
        poller.attend(near, taker)
        far.send(b"x")
    trio.lowlevel.add_instrument(watch := Watch())
    await trio.testing.wait_all_tasks_blocked(0.01)
    trio.lowlevel.remove_instrument(watch)
    assert {2, 4, 6} <= set(turns)
    for near, far in pairs:
        poller.forget(near)
        near.close()
        far.close()


async def test_a_closed_socket_is_forgotten_and_its_number_used_again(poller: Poller) -> None:
    for _ in range(3):
        near, far = socket.socketpair()
        with near, far:
            far.send(b"x")
            taker = Taker(near)
            poller.attend(near, taker)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert taker.got == [b"x"]
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
