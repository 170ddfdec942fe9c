"""What one delivery in a group costs the server, beside what the kernel takes for sending it: `python -m bench.fanout`.

The router and the connections are real, and so are the sockets; nobody waits at their other ends, so no process is woken
and no other one's work is in the figures.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack

import trio
import trio.testing

from trio_chat import Address, Settings
from trio_chat.connection import Connection
from trio_chat.logs import configure
from trio_chat.server import open_server
from trio_chat.serving import Server
from trio_chat.session import Identity
from trio_chat.store.log import Cursor
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import TcpTransport
from trio_chat.wire.conversation import group_conv
from trio_chat.wire.delivery import Delivery

_GROUP = 1
_TEXT = "The_quick_brown_fox_jumps_over_the_lazy_dog,_again_and_again_..."
#: Deliveries to a member before his socket is emptied.
_HELD = 20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--members", type=int, default=100, help="members of the group (default 100)")
    parser.add_argument("--messages", type=int, default=300, help="messages for each figure (default 300)")
    options = parser.parse_args(arguments)
    configure("console", "warning")
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_measure, directory, options.members, options.messages)
    return 0


async def _measure(directory: str, members: int, messages: int) -> None:
    settings = Settings(tcp=(Address("127.0.0.1", 0),), http=None, database=f"sqlite:///{directory}/chat.db")
    async with open_server(settings) as server:
        poller = Poller()
        with ExitStack() as stack:
            pairs = [tuple(map(stack.enter_context, _connected())) for _ in range(members)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                for userid, (near, _) in enumerate(pairs, 1):
                    _log_in(server, nursery, TcpTransport(near, "member", poller), userid)
                await trio.testing.wait_all_tasks_blocked()
                router = server.node.router
                far = [pair[1] for pair in pairs]
                deliveries = _deliveries()

                async def deliver(count: int) -> None:
                    for _ in range(count):
                        router.arrive(next(deliveries))
                    router.flush()
                    for _ in range(members):  # so many turns are more than enough
                        if not router.dirty:
                            break
                        await trio.lowlevel.checkpoint()

                one = await _microseconds(lambda: deliver(1), messages, members, far)
                many = await _microseconds(lambda: deliver(64), max(1, messages // 64), members, far) / 64
                frame = next(deliveries).modern() + b"\n"
                bare = [pair[0] for pair in pairs]

                async def send() -> None:
                    await trio.lowlevel.checkpoint()
                    for sock in bare:
                        sock.send(frame)

                kernel = await _microseconds(send, messages, members, far)
                print(
                    f"one message at a time: {one:.2f} us of CPU per delivery, of which send() alone takes {kernel:.2f}"
                )
                print(f"64 at a time: {many:.2f} us")
                nursery.cancel_scope.cancel()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    far.setblocking(False)
    return near, far


def _log_in(server: Server, nursery: trio.Nursery, transport: TcpTransport, userid: int) -> None:
    connection = Connection(server.node, transport)
    server.node.connections[connection] = None
    nursery.start_soon(connection.run)
    connection.session.greeted()
    identity = Identity(userid, f"member{userid}")
    cursors = [Cursor(group_conv(_GROUP), 0, 0, 0)]
    account = server.node.router.attach(connection, identity.id, identity.name, cursors, [], set())
    connection.log_in(identity, account, None)


def _deliveries() -> Iterator[Delivery]:
    conv, seq = group_conv(_GROUP), 0
    while True:
        seq += 1
        now = time.time_ns() // 1_000_000
        yield Delivery(conv, seq, now, 2**40, "somebody else", _GROUP, _TEXT, "2026-11-24 00:00:00", f"key-{seq}")


async def _microseconds(
    work: Callable[[], Awaitable[None]], times: int, members: int, far: Sequence[socket.socket]
) -> float:
    """CPU time per member of doing it once: the median."""
    took = []
    for number in range(times):
        began = time.process_time_ns()
        await work()
        took.append((time.process_time_ns() - began) / 1000 / members)
        if number % _HELD == _HELD - 1:
            for sock in far:
                sock.recv(1 << 20)
    for sock in far:
        while sock.recv(1 << 20):
            if not _readable(sock):
                break
    return statistics.median(took)


def _readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


if __name__ == "__main__":
    sys.exit(main())
