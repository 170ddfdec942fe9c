"""An echo server on our WebSocket transport, for the Autobahn test suite (`tests/http/autobahn.py`): `python -m tests.http.echo PORT`.

What comes in is a line each to the transport, so line ends and NULs in a message become blanks (JSON allows neither but
between its parts). The suite wants them back: here they become other characters, and these what they were.
"""

from __future__ import annotations

import sys

import trio

import trio_chat.transport.http as http
import trio_chat.transport.websocket as websocket
from trio_chat.config import Address
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.transport.entrance import Entrance
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import listen


class Reversible(websocket.WebSocketTransport):
    __slots__ = ()

    def _frame(self, payload: bytes) -> bytes:
        return super()._frame(payload.translate(bytes.maketrans(b"\1\2", b"\n\0")))


async def echo(transport: Transport) -> None:
    try:
        while data := await transport.receive():
            while data:
                count = transport.send_nowait(data)
                data = data[count:]
                if data and not count:
                    await transport.wait_writable()
        if transport.end(End.DONE):
            with trio.move_on_after(1):
                while await transport.receive():
                    pass
    except TransportBroken:
        pass
    finally:
        transport.close()


async def main(port: int) -> None:
    poller = Poller()
    site = http.Site(pages={}, websocket="/ws", origins=(), closed=lambda: False, frame=1 << 25, compression=True)
    websocket._INSIDE = bytes.maketrans(b"\n\0", b"\1\2")
    vars(http)["WebSocketTransport"] = Reversible
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        listeners = listen(Address("127.0.0.1", port))
        await http.serve_http(
            listeners, poller, Entrance(), site, lambda transport: nursery.start_soon(echo, transport)
        )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
