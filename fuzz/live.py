"""A fuzzer against a living server: every request has exactly one answer, and nobody else notices.

`Attacker` is a session in one dialect over one transport, which accounts for the answer to each of its frames. `Noise` are
connections that break the rules of the transports themselves. `Bystander` is somebody who chats meanwhile.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from fuzz.frames import Frames, Place, answer_to
from trio_chat.wire.messages import Kind, Ref

__all__ = ["Attacker", "Bystander", "Finding", "Target", "noise", "prepare"]

#: What a frame from the server is where it answers something.
ANSWERS = {Kind.LOGIN_ACK, Kind.REGISTER_ACK, Kind.HELLO_ACK, Kind.PONG, Kind.REPLY}
#: What a classic client gets no answer to when it succeeds.
SILENT = {Kind.LOGOUT, Kind.ADD_FRIEND, Kind.CREATE_GROUP, Kind.JOIN_GROUP, Kind.DIRECT, Kind.GROUP}
PASSWORD = "correct horse"
#: How long an answer may take, in seconds: a password's hash behind many others included.
PATIENCE = 60.0

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: fuzz\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Finding(Exception):
    """The server did what it must not do."""


@attrs.frozen
class Target:
    """Where the server listens: for TCP and for HTTP."""

    tcp: tuple[str, int]
    http: tuple[str, int]


class Line:
    """A connection that sends and gets frames, over TCP or a WebSocket."""

    def __init__(self, stream: trio.SocketStream, *, websocket: bool) -> None:
        self._stream = stream
        self._websocket = websocket
        self._buffer = bytearray()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target, *, websocket: bool) -> AsyncIterator[Line]:
        stream = await trio.open_tcp_stream(*(target.http if websocket else target.tcp))
        line = cls(stream, websocket=websocket)
        try:
            if websocket:
                await stream.send_all(_UPGRADE)
                while b"\r\n\r\n" not in line._buffer:
                    await line._more()
                del line._buffer[: line._buffer.index(b"\r\n\r\n") + 4]
            yield line
        finally:
            await trio.aclose_forcefully(stream)

    async def send(self, frames: list[bytes], terminator: bytes = b"\n") -> None:
        if self._websocket:
            await self._stream.send_all(b"".join(_masked(frame) for frame in frames))
        else:
            await self._stream.send_all(b"".join(frame + terminator for frame in frames))

    async def send_raw(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def frames(self) -> list[bytes]:
        """The next frames; none at the end of the connection."""
        try:
            while not (frames := list(self._whole())):
                await self._more()
        except (EOFError, trio.BrokenResourceError):
            return []
        return frames

    async def _more(self) -> None:
        data = await self._stream.receive_some(1 << 18)
        if not data:
            raise EOFError
        self._buffer += data

    def _whole(self) -> Iterator[bytes]:
        if not self._websocket:
            *frames, rest = bytes(self._buffer).replace(b"\0", b"\n").split(b"\n")
            self._buffer = bytearray(rest)
            yield from frames
            return
        while len(self._buffer) >= 2:
            size, at = self._buffer[1], 2
            if size >= 126:
                at = 4 if size == 126 else 10
                size = int.from_bytes(self._buffer[2:at], "big")
            if len(self._buffer) < at + size:
                return
            opcode, payload = self._buffer[0] & 15, bytes(self._buffer[at : at + size])
            del self._buffer[: at + size]
            if opcode == 8:
                raise EOFError
            if opcode == 1:
                yield payload


def _masked(payload: bytes, first: int = 0x81) -> bytes:
    """A frame as a client sends it, with a mask of zeros, which leaves the payload as it is."""
    size = len(payload)
    if size < 126:
        return bytes([first, 0x80 | size]) + bytes(4) + payload
    return bytes([first, 0xFE]) + size.to_bytes(2, "big") + bytes(4) + payload


@attrs.define
class Account:
    id: int
    name: str


async def ask(line: Line, kind: Kind, **fields: Any) -> dict[str, Any]:
    """A request in a quiet session, and its answer."""
    await line.send([json.dumps({"msgid": int(kind), "ref": "ask", **fields}).encode()])
    with trio.fail_after(PATIENCE):
        while True:
            for frame in await line.frames() or _ended():
                answer: dict[str, Any] = json.loads(frame)
                if answer.get("ref") == "ask":
                    return answer


def _ended() -> list[bytes]:
    raise Finding("the server closed a connection on which nothing was wrong")


async def prepare(target: Target, count: int) -> tuple[list[Account], Place]:
    """Accounts, and groups of theirs. Each is a member of the first."""
    accounts = []
    async with Line.open(target, websocket=False) as line:
        await ask(line, Kind.HELLO, version=1)
        for number in range(count):
            name = f"person {number}"
            answer = await ask(line, Kind.REGISTER, name=name, password=PASSWORD)
            accounts.append(Account(answer["id"], name))
        groups = []
        for account in accounts:
            await ask(line, Kind.LOGIN, id=account.id, password=PASSWORD)
            answer = await ask(line, Kind.CREATE_GROUP, groupname=f"group {account.id}")
            groups.append(answer["groupid"])
            if account is not accounts[0]:
                await ask(line, Kind.JOIN_GROUP, groupid=groups[0])
            await ask(line, Kind.LOGOUT)
    return accounts, Place([account.id for account in accounts], groups, [account.name for account in accounts])


@attrs.define(eq=False)
class Attacker:
    """One session, which comes back whenever it has ended. `seed` makes all that it sends."""

    target: Target = attrs.field(repr=False)
    account: Account
    place: Place = attrs.field(repr=False)
    websocket: bool
    modern: bool
    seed: int
    terminator: bytes = b"\n"
    batch: int = 64
    sent: int = 0
    greeted: bool = attrs.field(default=False, repr=False)
    errors: Counter[str] = attrs.field(factory=Counter, repr=False)
    answers: list[bytes] = attrs.field(factory=list, repr=False)
    last: list[bytes] = attrs.field(factory=list, repr=False)

    async def run(self, frames: int, per_connection: int = 5000) -> None:
        """Send so many frames. Raises `Finding`."""
        supply = Frames(random.Random(self.seed), self.place, text=self.websocket)
        while self.sent < frames:
            async with Line.open(self.target, websocket=self.websocket) as line:
                end = min(frames, self.sent + per_connection)
                if self.modern:
                    await line.send([b'{"msgid":20,"version":1,"receipts":true}'], self.terminator)
                    await line.frames()
                self.greeted = False
                while self.sent < end and not self.greeted:
                    some = [supply.next() for _ in range(min(self.batch, end - self.sent))]
                    # A classic LOGIN_ACK has no `ref`, so there is none to it either.
                    login = {"msgid": 1, "id": self.account.id, "password": PASSWORD}
                    end_of_batch = {"msgid": int(Kind.CONVERSATIONS), "ref": f"end {self.sent}"}
                    await self._send(line, [json.dumps(login).encode(), *some, json.dumps(end_of_batch).encode()])
                    self.sent += len(some)

    async def _send(self, line: Line, frames: list[bytes]) -> None:
        least: Counter[Ref | None] = Counter()
        most: Counter[Ref | None] = Counter()
        for frame in frames:
            answered, ref, kind = answer_to(frame)
            if answered:
                most[ref] += 1
                if self.modern or kind not in SILENT:
                    least[ref] += 1
        got: Counter[Ref | None] = Counter()
        try:
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(line.send, frames, self.terminator)
                    while not got >= least:
                        for raw in await line.frames() or _ended():
                            self._count(raw, got)
        except trio.TooSlowError:
            missing = least - got
            examples = [frame for frame in frames if answer_to(frame)[1] in missing][:3]
            raise Finding(f"{self}: no answer to {sum(missing.values())} requests, such as {examples}") from None
        if self.greeted:
            # Nobody knows which of its requests a classic session made when it was a modern one already.
            return
        if not got <= most:
            extra = got - most
            examples = [frame[:300] for frame in [*self.last, *frames] if answer_to(frame)[1] in extra][:3]
            answers = [raw[:300] for raw in self.answers if json.loads(raw).get("ref") in extra][:3]
            raise Finding(f"{self}: answers to nothing that was asked: {answers}, perhaps to {examples}")
        self.last = frames
        self.answers.clear()

    def _count(self, raw: bytes, got: Counter[Ref | None]) -> None:
        try:
            answer = json.loads(raw.decode())
        except ValueError:
            raise Finding(f"the server sent what is no frame: {raw[:200]!r}") from None
        if answer["msgid"] in ANSWERS:
            got[answer.get("ref")] += 1
            self.answers.append(raw)
            self.greeted = self.greeted or (not self.modern and answer["msgid"] == Kind.HELLO_ACK)
            error = answer.get("error")
            if answer.get("errno"):
                # Some of the classic ones have a number only.
                self.errors[str(error or f"errno {answer['errno']}")] += 1
            if error == "internal":
                raise Finding(f"{self}: a request made the server fail: {answer}")


@attrs.define(eq=False)
class Bystander:
    """Two people who write to each other, a message after the other with a pause: how long each takes to arrive."""

    target: Target
    accounts: tuple[Account, Account]
    pause: float = 0.02
    seconds: list[float] = attrs.field(factory=list)

    async def run(self) -> None:
        """Until cancelled. Raises `Finding`."""
        one, other = self.accounts
        async with Line.open(self.target, websocket=False) as left, Line.open(self.target, websocket=True) as right:
            for line, account in ((left, one), (right, other)):
                await ask(line, Kind.HELLO, version=1)
                assert (await ask(line, Kind.LOGIN, id=account.id, password=PASSWORD))["errno"] == 0
            for number in itertools.count():
                began = trio.current_time()
                frame = {"msgid": int(Kind.DIRECT), "toid": other.id, "msg": str(number), "ref": number}
                with trio.move_on_after(PATIENCE) as patience:
                    # Who only listens would be taken for dead.
                    await right.send([b'{"msgid":23}'])
                    await left.send([json.dumps(frame).encode()])
                    while not any(self._is_it(raw, number) for raw in await right.frames() or _ended()):
                        pass
                    self.seconds.append(trio.current_time() - began)
                if patience.cancelled_caught:
                    raise Finding("a bystander's message did not arrive")
                await trio.sleep(self.pause)

    def _is_it(self, raw: bytes, number: int) -> bool:
        frame: dict[str, Any] = json.loads(raw)
        return bool(frame["msgid"] == Kind.DIRECT and frame["msg"] == str(number))

    def figures(self) -> str:
        quantiles = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return (
            f"{len(self.seconds):,} messages, p50 {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms, "
            f"longest {max(self.seconds, default=0.0) * 1000:.0f} ms"
        )


async def noise(target: Target, chance: random.Random, connections: int) -> int:
    """Connections that break the rules of the transport, one after the other; returns how many frames that were."""
    frames = 0
    for _ in range(connections):
        websocket = chance.random() < 0.5
        try:
            with trio.move_on_after(5):
                async with Line.open(target, websocket=websocket and chance.random() < 0.8) as line:
                    for _ in range(chance.choice((1, 3, 10))):
                        await line.send_raw(_rubbish(chance, websocket=websocket))
                        frames += 1
                    if chance.random() < 0.5:
                        with trio.move_on_after(0.05):
                            while await line.frames():
                                pass
        except (EOFError, OSError, trio.BrokenResourceError):
            pass
    return frames


def _rubbish(chance: random.Random, *, websocket: bool) -> bytes:
    noise = chance.randbytes(chance.choice((1, 10, 1000, 70_000)))
    match chance.randrange(6):
        case 0:
            return noise
        case 1:
            return b"x" * 70_000
        case 2:
            return b'{"msgid":22,"ref":1}\n' * chance.choice((1, 500)) + noise
        case 3 if websocket:
            return _masked(noise[:60_000], first=chance.randrange(256))
        case 4 if websocket:
            return _masked(noise[:100], first=0x01) + _masked(
                noise[:100], first=chance.choice((0x00, 0x80, 0x81, 0x89, 0x88))
            )
        case 5 if not websocket:
            return b"GET /%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (noise[:20].hex().encode(), noise[:200])
        case _:
            return noise[: chance.choice((2, 14))]
