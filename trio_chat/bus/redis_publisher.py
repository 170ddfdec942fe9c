"""The sending half of the Redis bus: publishes natively on Trio, many events in one write."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import hiredis
import trio

from trio_chat.backoff import Backoff
from trio_chat.bus.contract import Event
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_wire import (
    INCOMPLETE,
    Answers,
    Broken,
    Heartbeat,
    Scope,
    command,
    describe,
)

__all__ = ["Publisher"]

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_RECEIVE = 65_536


@attrs.define(eq=False)
class Publisher:
    """Writes to Redis what has gathered while the last write was under way; `publish` never waits.

    What is published while the connection is down, or while `publish_bytes` wait already, is dropped. When events flow
    again the publisher says so on the control topic, so that every other node looks into the database: a loss here
    would otherwise go unnoticed there. `on_state` is called as the subscriber's is.
    """

    _address: RedisAddress
    _limits: RedisLimits
    _scope: Scope
    _on_state: Callable[[str | None], None]
    #: Whether the subscriber of this bus listens.
    _listening: Callable[[], bool]
    #: Nobody but this bus listens, as far as Redis has said; the first word of another one ends it.
    alone: bool = attrs.field(init=False, default=False)
    _buffer: list[bytes] = attrs.field(init=False, factory=list)
    _bytes: int = attrs.field(init=False, default=0)
    #: How many events the buffer has, and the write that is under way.
    _waiting: int = attrs.field(init=False, default=0)
    _writing: int = attrs.field(init=False, default=0)
    _wake: trio.Event = attrs.field(init=False, factory=trio.Event)
    #: How often something was lost, and how much of that the other nodes have been told.
    _losses: int = attrs.field(init=False, default=0)
    _told: int = attrs.field(init=False, default=0)
    up: bool = attrs.field(init=False, default=False)
    #: Events that were written, and events that were thrown away.
    published: int = attrs.field(init=False, default=0)
    dropped: int = attrs.field(init=False, default=0)
    #: Connections that worked, after the first.
    reconnects: int = attrs.field(init=False, default=-1)

    def publish(self, events: Iterable[Event]) -> None:
        if self.alone:
            return
        if not self.up:
            self._lose(len(list(events)))
            return
        topic, buffer, size, room = self._scope.topic, self._buffer, self._bytes, self._limits.publish_bytes
        before = len(buffer)
        lost = 0
        for channel, data in events:
            name = topic(channel)
            # `command` written out: this is the one that is made by the thousand.
            piece = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(data), data)
            if size + len(piece) > room:
                lost += 1
            else:
                buffer.append(piece)
                size += len(piece)
        self._bytes = size
        self._waiting += len(buffer) - before
        self._lose(lost)
        self._wake.set()

    async def run(self, attempted: trio.Event) -> None:
        """Connect and write until cancelled; sets `attempted` when the first attempt to connect has ended."""
        backoff = Backoff(self._limits.retry_min_seconds, self._limits.retry_max_seconds)
        while True:
            problem = ""
            try:
                await self._attempt(backoff, attempted)
            except* (OSError, trio.BrokenResourceError, trio.TooSlowError, Broken, hiredis.HiredisError) as error:
                problem = describe(error)
            finally:
                self._give_up()
            self._on_state(problem)
            attempted.set()
            await trio.sleep(backoff.pause())

    async def _attempt(self, backoff: Backoff, attempted: trio.Event) -> None:
        """Connect and write for as long as that works; raises when it does not any more."""
        tcp = await self._address.connect(self._limits)
        try:
            stream: Stream = tcp
            answers = Answers()
            with trio.fail_after(self._limits.handshake_seconds):
                if self._address.tls is not None:
                    stream = trio.SSLStream(tcp, self._address.tls, server_hostname=self._address.host)
                    await stream.do_handshake()
                await self._greet(stream, answers)
            self.up = True
            self.reconnects += 1
            backoff.reset()
            self._on_state(None)
            attempted.set()
            heartbeat = Heartbeat(self._limits)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._beat, heartbeat)
                await self._read(stream, answers, heartbeat)
        finally:
            # Not the TLS stream's own close: that one waits for the other side.
            await trio.aclose_forcefully(tcp)

    async def _greet(self, stream: Stream, answers: Answers) -> None:
        """Open the session, and tell the other nodes what they have missed. Raises `Broken` when Redis refuses."""
        losses = self._losses
        # The notice also tries whether we may publish at all.
        notice = self._scope.notice(gap=losses > self._told)
        commands = [command(b"CLIENT", b"SETNAME", b"trio-chat"), notice]
        if self._address.db:
            commands.insert(0, command(b"SELECT", b"%d" % self._address.db))
        if self._address.password is not None:
            user = [self._address.username.encode()] if self._address.username else []
            commands.insert(0, command(b"AUTH", *user, self._address.password.encode()))
        await stream.send_all(b"".join(commands))
        count = 0
        while count < len(commands):
            count += self._take(answers, await stream.receive_some(_RECEIVE))
        self._told = losses

    async def _write(self, stream: Stream) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._writing = b"".join(self._buffer), self._waiting
            self._empty()
            await stream.send_all(data)
            self.published += self._writing
            self._writing = 0

    async def _read(self, stream: Stream, answers: Answers, heartbeat: Heartbeat) -> None:
        while True:
            self._take(answers, await stream.receive_some(_RECEIVE))
            heartbeat.heard()

    async def _beat(self, heartbeat: Heartbeat) -> None:
        while True:
            await trio.sleep(self._limits.ping_seconds)
            if heartbeat.tick():
                self._say(self._scope.listeners())
            # Here and not at once, so that a node that is overrun for long does not make the others look all the time.
            if self._losses > self._told:
                self._told = self._losses
                self._say(self._scope.notice(gap=True))

    def say_hello(self) -> None:
        """Let the others know that this bus listens: from now on what they publish is for somebody. Never blocks."""
        if self.up:
            self._say(self._scope.notice(gap=False))

    def _take(self, answers: Answers, data: bytes | bytearray) -> int:
        """How many answers this completes. Raises `Broken` for the end of the stream and for an answer that is an error."""
        if not data:
            raise Broken("Redis closed the connection")
        count = 0
        answers.feed(bytes(data))
        while (answer := answers.next()) is not INCOMPLETE:
            if isinstance(answer, hiredis.ReplyError):
                raise Broken(str(answer))
            if isinstance(answer, list):
                # While our own subscriber does not listen, the one who does is another.
                self.alone = self._listening() and answer[1] <= 1
            count += 1
        return count

    def _say(self, piece: bytes) -> None:
        """Write a command of our own; it is small, and not held to the limit."""
        self._buffer.append(piece)
        self._wake.set()

    def _lose(self, events: int) -> None:
        if events:
            self.dropped += events
            self._losses += 1

    def _empty(self) -> None:
        self._buffer = []
        self._bytes = self._waiting = 0

    def _give_up(self) -> None:
        if self.up:
            self._losses += 1  # of what was written nobody knows whether Redis has seen it
        self.up = self.alone = False
        self._lose(self._waiting + self._writing)
        self._writing = 0
        self._empty()
        self._wake = trio.Event()
