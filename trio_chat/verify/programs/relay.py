"""What stands between a client and a server, and can stop forwarding without closing anything.

A cut as `network` makes it, for machines that do not permit that, and for what a cable cannot: to let a request through
and hold its answer. What was held is forwarded after the cut, as TCP would send it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_chat import Address

__all__ = ["Relay", "open_relay"]

_CHUNK = 65536


class Relay:
    """Made by `open_relay`. Clients connect to `address`; each connection goes on to `target`.

    `on_request` is called with each chunk that a client sends before it is forwarded; it may `hold_answers`.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address = Address("", 0)
        self.on_request: Callable[[bytes], None] = lambda _chunk: None
        self._requests, self._answers = trio.Event(), trio.Event()
        self._streams: set[trio.SocketStream] = set()
        self.heal()

    def cut(self) -> None:
        """Nothing gets through, either way, until `heal`. New connections are accepted, and held too."""
        self._requests = self._answers = trio.Event()

    def hold_answers(self) -> None:
        """What clients send gets through, but nothing comes back, until `heal`."""
        self._answers = trio.Event()

    def heal(self) -> None:
        self._requests.set()
        self._answers.set()

    def reset(self) -> None:
        """Break off every connection: both ends get a reset."""
        for stream in list(self._streams):
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()

    async def _serve(self, client: trio.SocketStream) -> None:
        await self._requests.wait()
        try:
            server = await trio.open_tcp_stream(self.target.host, self.target.port)
        except OSError:
            await client.aclose()
            return
        self._streams |= {client, server}
        try:
            async with client, server, trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, True)
                nursery.start_soon(self._forward, server, client, False)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._streams -= {client, server}

    async def _forward(self, source: trio.SocketStream, sink: trio.SocketStream, requests: bool) -> None:
        while chunk := await source.receive_some(_CHUNK):
            if requests:
                self.on_request(chunk)
            # Again after the wait: it may have been cut anew.
            while not (gate := self._requests if requests else self._answers).is_set():
                await gate.wait()
            await sink.send_all(chunk)
        await sink.send_eof()


@asynccontextmanager
async def open_relay(target: Address, host: str = "127.0.0.1") -> AsyncIterator[Relay]:
    """A relay to `target` for the time of the block, which listens on `host`."""
    relay = Relay(target)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, relay._serve, 0, host=host)  # noqa: SLF001 - the same part
        (listener,) = await nursery.start(serve)
        relay.address = Address(*listener.socket.getsockname()[:2])
        yield relay
        nursery.cancel_scope.cancel()
