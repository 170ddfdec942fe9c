"""Connections between simulated clients and nodes: bytes in bounded buffers, late, in pieces, and sometimes for ever.

`Line` is one connection with two ends: `ServerEnd` is what a node's listener accepts, a `Transport` as tcp.py's is;
`ClientEnd` is the client's. What they do to each other is what TCP does: an end of the stream comes after the bytes
before it, a reset destroys what was not yet read, and on a blackholed line nothing moves and nobody is told.
"""

from __future__ import annotations

import random
from collections import deque

import trio

from trio_chat.transport.contract import End, Reader, TransportBroken

__all__ = ["ClientEnd", "Line", "ServerEnd"]


class _Pipe:
    """One direction. `room` is how many bytes it holds that have not been read; None: any number."""

    def __init__(self, line: Line, room: int | None) -> None:
        self._line = line
        self._room = room
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._latest = 0.0
        self._ended = False
        self._abandoned = False
        self._changed = trio.Event()

    def __len__(self) -> int:
        return self._size

    def put(self, data: bytes) -> int:
        """Take as much as there is room for, perhaps less."""
        line, chance = self._line, self._line.chance
        if self._room is not None:
            data = data[: max(0, self._room - self._size)]
            if len(data) > 1 and chance.random() < line.splitting:
                data = data[: chance.randrange(1, len(data))]
        if data:
            self._latest = max(self._latest, trio.current_time() + chance.expovariate(1 / line.delay))
            self._pieces.append((self._latest, data))
            self._size += len(data)
            self.wake()
            if self._abandoned and not line.blackholed:
                line.reset()
        return len(data)

    def end(self) -> None:
        self._ended = True
        self.wake()

    def abandon(self) -> None:
        """The reader is gone: the next bytes are answered with a reset."""
        self._abandoned = True

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def rest(self) -> bytes:
        """What has been sent and not been read."""
        return b"".join(data for _, data in self._pieces)

    async def get(self) -> bytes:
        """What has arrived, at least one byte; nothing at the end. Raises `TransportBroken` where the line is."""
        await self.wait()
        return self.take()

    async def wait(self) -> None:
        """Wait until something has arrived, or the end. Raises `TransportBroken` where the line is."""
        await trio.lowlevel.checkpoint()
        while True:
            self._line.check()
            until = float("inf")
            if not self._line.blackholed:
                if self._pieces and self._pieces[0][0] <= trio.current_time():
                    return
                if self._pieces:
                    until = self._pieces[0][0]
                elif self._ended:
                    return
            with trio.move_on_at(until):
                await self._changed.wait()

    def take(self) -> bytes:
        """What has arrived; nothing at the end."""
        now = trio.current_time()
        taken = []
        while self._pieces and self._pieces[0][0] <= now:
            taken.append(self._pieces.popleft()[1])
        data = b"".join(taken)
        chance = self._line.chance
        if len(data) > 1 and chance.random() < self._line.splitting:
            cut = chance.randrange(1, len(data))
            self._pieces.appendleft((now, data[cut:]))
            data = data[:cut]
        self._size -= len(data)
        self.wake()
        return data

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        self._line.check()
        while self._room is not None and self._size >= self._room:
            await self._changed.wait()
            self._line.check()


class Line:
    """One connection. `delay` is the mean time that bytes take, `splitting` how probably they come in pieces."""

    def __init__(self, chance: random.Random, *, delay: float, splitting: float, room: int, peer: str) -> None:
        self.chance = chance
        self.delay = delay
        self.splitting = splitting
        self.blackholed = False
        self._broken = False
        self.to_server = _Pipe(self, None)
        self.to_client = _Pipe(self, room)
        self.server = ServerEnd(self, peer)
        self.client = ClientEnd(self)

    def check(self) -> None:
        if self._broken:
            raise TransportBroken("reset")

    def reset(self) -> None:
        """Both ends are told that the other is gone."""
        self._broken = True
        self._wake()

    def blackhole(self) -> None:
        """Nothing goes through any more, and nobody is told; until `mend`."""
        self.blackholed = True

    def mend(self) -> None:
        self.blackholed = False
        self._wake()

    def _wake(self) -> None:
        self.to_server.wake()
        self.to_client.wake()


class ServerEnd:
    """The node's side: a `Transport`."""

    kind = "tcp"
    committed = 0

    def __init__(self, line: Line, peer: str) -> None:
        self._line = line
        self.peer = peer
        self.closed = trio.Event()
        self._reader: Reader | None = None
        self._attended = trio.Event()

    async def receive(self) -> bytes:
        self._check()
        data = await self._line.to_server.get()
        self._check()
        return data

    def attend(self, reader: Reader) -> None:
        self._reader = reader
        self._attended.set()

    def ignore(self) -> None:
        self._reader = None

    async def carry(self) -> None:
        """Give what arrives to whoever attends, until the line is closed or broken."""
        while not self.closed.is_set():
            if self._reader is None:
                self._attended = trio.Event()
                await self._attended.wait()
            try:
                await self._line.to_server.wait()
                self._check()
            except TransportBroken as broken:
                self._tell(broken)
                continue
            if self._reader is not None:
                if data := self._line.to_server.take():
                    if not self._reader.received(data):
                        self._reader = None
                else:
                    self._tell(None)

    def _tell(self, failure: TransportBroken | None) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.ended(failure)

    def send_nowait(self, data: bytes) -> int:
        self._check()
        self._line.check()
        return self._line.to_client.put(data)

    async def wait_writable(self) -> None:
        await self._line.to_client.wait_room()
        self._check()

    def end(self, reason: End) -> bool:
        self._line.to_client.end()
        return reason in {End.TOO_LONG, End.FULL}

    def close(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._attended.set()
        if len(self._line.to_server) and not self._line.blackholed:
            # What the client has sent is answered with a reset, which destroys what is on its way to it as well.
            self._line.reset()
        else:
            self._line.to_client.end()
            self._line.to_server.end()

    def _check(self) -> None:
        if self.closed.is_set():
            raise TransportBroken("closed")


class ClientEnd:
    """The client's side. What it sends waits in a buffer without a bound."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def send(self, data: bytes) -> None:
        """Raises `TransportBroken`."""
        self.line.check()
        if not self.line.server.closed.is_set():
            self.line.to_server.put(data)

    async def receive(self) -> bytes:
        """Raises `TransportBroken`."""
        return await self.line.to_client.get()

    def end(self) -> None:
        """Nothing more will be sent; what the node still sends can be read."""
        self.line.to_server.end()

    def close(self) -> None:
        """What the node still sends is answered with a reset."""
        self.line.to_server.end()
        self.line.to_client.abandon()
