"""A real nginx with the shipped configuration, in front of two tiny nodes that show what reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.services.nginx_fixtures import StartNginx
from trio_chat.verify.programs.nginx import Nginx
from trio_chat.verify.programs.process import ServiceError, free_port


class Node:
    """Answers every line with its own name and the line; keeps the PROXY headers that it saw."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.headers: list[str] = []
        self.address = ("127.0.0.1", 0)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(self.address[1], host=self.address[0])
        self.address = listener.socket.getsockname()[:2]
        task_status.started()
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n" not in received:
                if not (chunk := await stream.receive_some()):
                    return
                received += chunk
            header, _, line = received.partition(b"\r\n")
            self.headers.append(header.decode())
            while True:
                if line:
                    await stream.send_all(f"{self.name} ".encode() + line)
                if not (line := await stream.receive_some()):
                    return


@pytest.fixture
async def one(nursery: trio.Nursery) -> Node:
    node = Node("one")
    await nursery.start(node.serve)
    return node


@pytest.fixture
async def two(nursery: trio.Nursery) -> Node:
    node = Node("two")
    await nursery.start(node.serve)
    return node


async def ask(stream: trio.SocketStream, text: bytes = b"hello") -> str:
    """Send a line and return the name of the node that answers it."""
    await stream.send_all(text + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        chunk = await stream.receive_some()
        assert chunk, "the connection was cut"
        answer += chunk
    name, echo = answer.decode().split(" ", 1)
    assert echo == text.decode() + "\n"
    return name


def test_nginx_accepts_the_shipped_configuration(tmp_path: Path) -> None:
    nginx = Nginx(tmp_path, [("127.0.0.1", free_port()), ("::1", free_port())])
    nginx.write_config()
    assert "test is successful" in nginx.test_config()


async def test_a_node_learns_the_client_s_address(start_nginx: StartNginx, one: Node) -> None:
    nginx = start_nginx([one.address])
    async with await trio.open_tcp_stream(*nginx.address) as client:
        assert await ask(client) == "one"
        port = client.socket.getsockname()[1]
        assert one.headers == [f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {nginx.port}"]


async def test_chats_go_where_the_fewest_are(start_nginx: StartNginx, one: Node, two: Node) -> None:
    nginx = start_nginx([one.address, two.address])
    async with (
        await trio.open_tcp_stream(*nginx.address) as first,
        await trio.open_tcp_stream(*nginx.address) as second,
    ):
        assert {await ask(first), await ask(second)} == {"one", "two"}


async def test_nobody_notices_a_node_that_is_down(start_nginx: StartNginx, two: Node) -> None:
    nginx = start_nginx([("127.0.0.1", free_port()), two.address])
    for _ in range(4):
        async with await trio.open_tcp_stream(*nginx.address) as client:
            assert await ask(client) == "two"


@asynccontextmanager
async def unreachable() -> AsyncIterator[tuple[str, int]]:
    """An address that answers no connection attempt, as a machine that is switched off does not."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address: tuple[str, int] = listener.getsockname()
        # Where the queue of connections to accept is full, the kernel drops the next attempts.
        waiting = [trio.socket.socket() for _ in range(8)]
        try:
            for connection in waiting:
                with trio.move_on_after(0.2) as attempt:
                    await connection.connect(address)
                if attempt.cancelled_caught:
                    break
            else:
                pytest.fail("the queue of connections did not fill")
            yield address
        finally:
            for connection in waiting:
                connection.close()


async def test_nobody_waits_long_for_a_machine_that_is_gone(start_nginx: StartNginx, two: Node) -> None:
    async with unreachable() as address:
        nginx = start_nginx([address, two.address])
        with trio.fail_after(3):
            for _ in range(4):
                async with await trio.open_tcp_stream(*nginx.address) as client:
                    assert await ask(client) == "two"


async def test_a_reload_keeps_established_chats_and_sends_new_ones_to_the_new_nodes(
    start_nginx: StartNginx, one: Node, two: Node
) -> None:
    nginx = start_nginx([one.address])
    async with await trio.open_tcp_stream(*nginx.address) as before:
        assert await ask(before) == "one"
        nginx.set_nodes([two.address])
        nginx.reload()
        async with await trio.open_tcp_stream(*nginx.address) as after:
            assert await ask(after) == "two"
        assert await ask(before, b"still here") == "one"


async def test_a_reload_that_nginx_refuses_changes_nothing(start_nginx: StartNginx, one: Node) -> None:
    nginx = start_nginx([one.address])
    nginx.set_nodes([("no such host", 1)])
    with pytest.raises(ServiceError, match="invalid"):
        nginx.reload()
    async with await trio.open_tcp_stream(*nginx.address) as client:
        assert await ask(client) == "one"


async def test_the_last_words_of_a_node_reach_the_client(start_nginx: StartNginx, nursery: trio.Nursery) -> None:
    async def say_goodbye(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"shutting_down\n")

    listeners = await nursery.start(trio.serve_tcp, say_goodbye, 0)
    nginx = start_nginx([("127.0.0.1", listeners[0].socket.getsockname()[1])])
    async with await trio.open_tcp_stream(*nginx.address) as client:
        received = b""
        async for chunk in client:
            received += chunk
    assert received == b"shutting_down\n"


async def test_it_is_back_after_a_crash(start_nginx: StartNginx, one: Node) -> None:
    nginx = start_nginx([one.address])
    nginx.kill()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*nginx.address)
    nginx.start()
    async with await trio.open_tcp_stream(*nginx.address) as client:
        assert await ask(client) == "one"
