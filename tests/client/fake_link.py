"""The fake server behind a stream, for the library as a whole on either event loop."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from tests.client.fake import FakeServer, Session
from trio_chat.client.options import Endpoint


class FakeStream(ByteStream):
    """A connection to a fake server. What others make the server send is noticed within a moment."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._given = anyio.Event()
        session.on_output = self._output

    def _output(self) -> None:
        self._given.set()

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.session.closed:
            raise anyio.BrokenResourceError
        self.session.receive(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            await anyio.lowlevel.checkpoint()
            if data := self.session.take(max_bytes):
                return data
            if self.session.closed:
                raise anyio.EndOfStream
            self._given = anyio.Event()
            await self._given.wait()

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.session.close()
        await anyio.lowlevel.checkpoint()


class FakeDial:
    """Opens connections to a fake server; `down` refuses them."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.down = False

    async def __call__(self, _: Endpoint) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        if self.down:
            raise ConnectionRefusedError
        return FakeStream(self.server.connect())

    def cut(self) -> None:
        """Break all connections."""
        for session in list(self.server.sessions):
            session.close()
