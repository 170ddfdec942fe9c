"""The subscriber's thread: it owns a redis-py connection and brings back what Redis publishes.

redis-py opens the session (AUTH, SELECT, RESP2); from then on the thread reads the socket itself, with hiredis, because
redis-py's own way costs six times as much per event, reconnects in silence and cannot be interrupted. Wherever the
thread waits, `Mailbox.stop` reaches it: through the wake-up where it polls, through the socket while redis-py waits.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NoReturn

import hiredis
import redis.connection
import redis.exceptions
import structlog
import trio

from trio_chat.backoff import Backoff
from trio_chat.bus.contract import Event
from trio_chat.bus.redis_mailbox import Mailbox, Stopped
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_wire import (
    GAP,
    INCOMPLETE,
    PING,
    Answers,
    Broken,
    Heartbeat,
    Scope,
    Topics,
    command,
    describe,
)

__all__ = ["SubscriberThread"]

log = structlog.get_logger(__name__)

_RECEIVE = 65_536


class SubscriberThread:
    """Its `main` runs in a thread of `trio.to_thread.run_sync` until `Mailbox.stop`."""

    def __init__(self, mailbox: Mailbox, address: RedisAddress, limits: RedisLimits, scope: Scope) -> None:
        self._mailbox = mailbox
        self._address = address
        self._limits = limits
        self._scope = scope
        self._topics = Topics(scope)

    def main(self) -> None:
        backoff = Backoff(self._limits.retry_min_seconds, self._limits.retry_max_seconds)
        # Nobody can have relied on what happened before the first attempt ended; later events may have been missed.
        gap = False
        with contextlib.suppress(Stopped):
            while True:
                problem = self._attempt(backoff, gap=gap)
                gap = True
                self._mailbox.check_stopped()
                self._mailbox.post_state(problem)
                self._pause(backoff.pause())

    def _attempt(self, backoff: Backoff, *, gap: bool) -> str:
        """Connect and listen for as long as that works; why it does not any more."""
        try:
            with self._session() as sock:
                _Conversation(sock, self._mailbox, self._topics, self._scope, self._limits, gap=gap).run(backoff)
        except (OSError, Broken, trio.TooSlowError, redis.exceptions.RedisError, hiredis.HiredisError) as error:
            return describe(error)
        except Stopped:
            raise
        except Exception as error:
            # A defect here must cost the hints, not the server.
            log.exception("redis_subscriber_failed")
            return f"internal error: {type(error).__name__}"

    @contextlib.contextmanager
    def _session(self) -> Iterator[socket.socket]:
        """A connection on which Redis has let us in, non-blocking."""
        # Trio connects: names are resolved and addresses tried there, and cancelling reaches it.
        sock = socket.socket(fileno=trio.from_thread.run(self._connect))
        session: _Session | None = None
        try:
            sock.settimeout(self._limits.handshake_seconds)
            self._mailbox.attach(sock)
            if self._address.tls is not None:
                host = self._address.host
                sock = self._address.tls.wrap_socket(sock, server_hostname=host)
            session = _Session(sock, self._address, self._limits)
            session.connect()  # type: ignore[no-untyped-call]
            sock.setblocking(False)
            yield sock
        finally:
            self._mailbox.detach()
            if session is not None:
                session.disconnect()  # type: ignore[no-untyped-call]
            sock.close()

    async def _connect(self) -> int:
        stream = await self._address.connect(self._limits)
        return stream.socket.detach()

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._mailbox.wakeup, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                self._mailbox.clear_wakeup()
            self._mailbox.check_stopped()


class _Conversation:
    """What happens on one connection, from the first SUBSCRIBE to its end; `sock` is open, let in and non-blocking.

    The thread waits only in `poll`, for Redis or for the mailbox. With `gap` the receiver is told that it has missed
    events as soon as everything is subscribed to.
    """

    def __init__(
        self, sock: socket.socket, mailbox: Mailbox, topics: Topics, scope: Scope, limits: RedisLimits, *, gap: bool
    ) -> None:
        self._sock = sock
        self._mailbox = mailbox
        self._topics = topics
        self._scope = scope
        self._control = scope.control
        self._limits = limits
        self._gap = gap
        self._answers = Answers()
        self._heartbeat = Heartbeat(limits)
        # Commands go from the plan to the outgoing pieces as Redis confirms: it buffers a confirmation per channel, and
        # closes the connection when that gets too much.
        self._plan: deque[tuple[bytes, Sequence[bytes], int | None]] = deque()
        self._outgoing: deque[bytes] = deque()
        self._wants_write = False
        self._expected = 0
        self._confirmed = 0
        #: How many confirmations there must be before a generation is in force.
        self._awaited: deque[tuple[int, int]] = deque()
        self._up = False
        #: A TLS socket may hold more than `poll` knows of: read it until it says that it is empty.
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._unread = False

    def run(self, backoff: Backoff) -> NoReturn:
        """Subscribe to all topics, then listen. Raises when the connection is of no use any more, or `Stopped`."""
        changes, generation = self._mailbox.take_changes()
        self._topics.change(changes)
        self._enter(b"SUBSCRIBE", [self._control, *self._topics.all()])
        self._plan.append((b"", (), generation))
        poll = select.poll()  # unlike select() it takes any descriptor, unlike epoll it needs none of its own
        poll.register(self._mailbox.wakeup, select.POLLIN)
        poll.register(self._sock, select.POLLIN)
        tick = time.monotonic() + self._limits.ping_seconds
        changed = False
        while True:
            self._write()
            poll.modify(self._sock, select.POLLIN | select.POLLOUT if self._wants_write else select.POLLIN)
            events = poll.poll(0 if self._unread else max(0.0, tick - time.monotonic()) * 1000)
            ready = [number for number, _ in events]
            self._mailbox.check_stopped()
            if self._unread or self._sock.fileno() in ready:
                self._read()
                if self._up:
                    backoff.reset()
            if self._mailbox.wakeup.fileno() in ready:
                self._mailbox.clear_wakeup()
                changed = True
            # While Redis lags behind, changes stay in the mailbox, which keeps only the last one of each channel.
            if changed and not self._plan:
                changed = False
                self._change()
            if time.monotonic() >= tick:
                tick = time.monotonic() + self._limits.ping_seconds
                if self._heartbeat.tick():
                    self._outgoing.append(PING)

    def _change(self) -> None:
        changes, generation = self._mailbox.take_changes()
        added, removed = self._topics.change(changes)
        self._enter(b"SUBSCRIBE", added)
        self._enter(b"UNSUBSCRIBE", removed)
        self._plan.append((b"", (), generation))

    def _enter(self, verb: bytes, names: Sequence[bytes]) -> None:
        size = self._limits.subscribe_chunk
        self._plan.extend((verb, names[start : start + size], None) for start in range(0, len(names), size))

    def _write(self) -> None:
        self._wants_write = False
        while True:
            if not self._outgoing and not self._next_piece():
                break
            piece = self._outgoing[0]
            try:
                sent = self._sock.send(piece)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wants_write = True
                break
            except ssl.SSLWantReadError:
                break
            # A TLS socket takes a piece whole or not at all, so what is tried again begins with the same bytes.
            if sent < len(piece):
                self._outgoing[0] = piece[sent:]
            else:
                self._outgoing.popleft()
        self._settle()

    def _next_piece(self) -> bool:
        """Make the next command of the plan ready; False when there is none or Redis must confirm first."""
        while self._plan and self._expected - self._confirmed < self._limits.subscribe_window:
            verb, names, generation = self._plan.popleft()
            if generation is not None:
                self._awaited.append((self._expected, generation))
            if names:
                self._expected += len(names)
                self._outgoing.append(command(verb, *names))
                return True
        return False

    def _read(self) -> None:
        self._unread = False
        try:
            data = self._sock.recv(_RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return
        if not data:
            raise Broken("Redis closed the connection")
        self._unread = self._tls
        self._heartbeat.heard()
        if events := self._events(data):
            self._mailbox.post_events(events, len(data))
        self._settle()
        if self._answers.incomplete > self._limits.event_bytes:
            raise Broken("an event is over the size limit")

    def _events(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        find = self._topics.channel
        self._answers.feed(data)
        answer = self._answers.next
        while (reply := answer()) is not INCOMPLETE:
            if type(reply) is not list:
                raise Broken(str(reply))  # an error reply: no rights, out of memory
            kind = reply[0]
            if kind == b"message":
                name = find(reply[1])
                if name is not None:
                    events.append((name, reply[2]))
                elif reply[1] == self._control and not self._scope.is_mine(reply[2]):
                    self._mailbox.post_company()
                    if reply[2].startswith(GAP):
                        self._mailbox.post_gap()
            elif kind in (b"subscribe", b"unsubscribe"):
                self._confirmed += 1
        return events

    def _settle(self) -> None:
        generation = None
        while self._awaited and self._awaited[0][0] <= self._confirmed:
            generation = self._awaited.popleft()[1]
        if generation is None:
            return
        self._mailbox.post_confirmed(generation)
        if not self._up:
            self._up = True
            self._mailbox.post_state(None, gap=self._gap)


class _Session(redis.connection.Connection):
    """redis-py's connection over a socket that is open already: it does the handshake of Redis's own protocol."""

    def __init__(self, sock: socket.socket, address: RedisAddress, limits: RedisLimits) -> None:
        self._open = sock
        super().__init__(  # type: ignore[no-untyped-call]
            host=address.host,
            port=address.port,
            db=address.db,
            username=address.username,
            password=address.password,
            # RESP3 would cost more per event, and nothing here needs its types.
            protocol=2,
            client_name="trio-chat",
            socket_timeout=limits.handshake_seconds,
        )

    def _connect(self) -> socket.socket:
        return self._open
