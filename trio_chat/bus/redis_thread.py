"""The subscriber's thread: it owns a redis-py connection and brings back what Redis publishes.

redis-py opens the session (AUTH, SELECT, RESP2); from then on the thread reads the socket itself, with hiredis, because
redis-py's own way costs six times as much per event, reconnects in silence and cannot be interrupted. Wherever the
thread waits, `Mailbox.stop` reaches it: through the wake-up where it polls, through the socket while redis-py waits.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import hiredis
import redis.connection
import redis.exceptions
import structlog
import trio

from trio_chat.backoff import Backoff
from trio_chat.bus.redis_conversation import Conversation
from trio_chat.bus.redis_health import Broken, describe
from trio_chat.bus.redis_mailbox import Mailbox, Stopped
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_wire import Scope, Topics

__all__ = ["SubscriberThread"]

log = structlog.get_logger(__name__)


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
                Conversation(sock, self._mailbox, self._topics, self._scope, self._limits, gap=gap).run(backoff)
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
