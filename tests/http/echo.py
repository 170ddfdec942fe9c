"""An echo server on our WebSocket transport, for the Autobahn test suite: `python -m tests.http.echo PORT`.

The suite needs Python 2.7 (`pip install autobahntestsuite==0.8.2`), so it is not part of the tests; run it by hand after a change
of `transport/websocket.py`, with `wstest -m fuzzingclient` on ws://127.0.0.1:PORT/ws and the cases 1.1 to 7.13, 9.1, 9.3 and 10.
Only these may fail, each for a reason:

    6.4     "non-strict": UTF-8 is checked when a message is whole
    6.7.1   a NUL in a message becomes what JSON refuses
    7.1.5   a close frame within a fragmented message is a protocol error to the library
    12.1    (compression) the texts have newlines, which become blanks
"""

from __future__ import annotations

import sys

import trio

from trio_chat.config import Address
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.transport.entrance import Entrance
from trio_chat.transport.http import Site, serve_http
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import listen


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
    site = Site(pages={}, websocket="/ws", origins=(), closed=lambda: False, frame=1 << 25, compression=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        listeners = listen(Address("127.0.0.1", port))
        await serve_http(listeners, poller, Entrance(), site, lambda transport: nursery.start_soon(echo, transport))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
