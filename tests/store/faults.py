"""Faults by real means, for the MySQL tests: a proxy that breaks the line at a chosen moment, and cancelling anywhere."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

__all__ = ["CancelledAt", "Line", "Proxy", "becomes_true", "open_descriptors", "open_proxy"]

T = TypeVar("T")


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def becomes_true(condition: Callable[[], bool]) -> None:
    """Wait until another process has done its part, for five seconds at most."""
    with trio.fail_after(5):
        while True:
            await trio.sleep(0.001)
            if condition():
                return


# --- Cancelling at a chosen point ---


class CancelledAt(Generator[Any, Any, T]):
    """Await it to run `coroutine`, with `scope` cancelled when it waits for the `number`th time.

    Early, that wait itself is interrupted; `late`, what it waited for has happened and the next checkpoint is hit.
    `waits` counts, so that a sweep knows when it has been through.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], scope: trio.CancelScope, number: int, *, late: bool) -> None:
        self.waits = 0
        self._coroutine = coroutine
        self._scope = scope
        self._number = number
        self._late = late

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any) -> Any:
        return self._step(partial(self._coroutine.send, value))

    def throw(self, *error: Any) -> Any:
        return self._step(partial(self._coroutine.throw, *error))

    def _step(self, resume: Callable[[], Any]) -> Any:
        if self._late and self.waits == self._number:
            self._scope.cancel()
        trap = resume()
        self.waits += 1
        if not self._late and self.waits == self._number:
            self._scope.cancel()
        return trap


# --- A line that breaks ---


@attrs.define(eq=False)
class Line:
    """One connection through the proxy."""

    client: trio.SocketStream
    server: trio.SocketStream
    from_client: bytearray = attrs.field(factory=bytearray)

    def cut(self) -> None:
        """Break it at once in both directions."""
        self.client.socket.close()
        self.server.socket.close()

    def reset(self) -> None:
        """Break it so that the client's next send fails."""
        if self.client.socket.fileno() >= 0:
            self.client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()


#: Called with the line and the bytes that arrived; what it returns is forwarded.
Filter = Callable[[Line, bytes], Awaitable[bytes]]


async def _unchanged(_line: Line, data: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return data


@attrs.define(eq=False)
class Proxy:
    """Forwards to a server on 127.0.0.1; `to_server` and `to_client` may look, change, wait or `cut`."""

    port: int
    to_server: Filter = _unchanged
    to_client: Filter = _unchanged
    lines: list[Line] = attrs.field(factory=list)

    def url(self, url: str) -> str:
        """The same URL, through the proxy. It must say 127.0.0.1:PORT."""
        before, _, after = url.partition("@127.0.0.1:")
        return f"{before}@127.0.0.1:{self.port}/{after.partition('/')[2]}"


@asynccontextmanager
async def open_proxy(server_port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port, for as long as the context is open."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1])

    async def pump(line: Line, source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            async for data in source:
                if source is line.client:
                    line.from_client += data
                    await target.send_all(await proxy.to_server(line, bytes(data)))
                else:
                    await target.send_all(await proxy.to_client(line, bytes(data)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            line.cut()

    async def handle(client: trio.SocketStream) -> None:
        line = Line(client, await trio.open_tcp_stream("127.0.0.1", server_port))
        proxy.lines.append(line)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, line, line.client, line.server)
            nursery.start_soon(pump, line, line.server, line.client)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
