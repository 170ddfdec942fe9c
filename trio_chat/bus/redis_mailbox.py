"""Everything that the Trio thread and the subscriber's thread exchange, behind one lock.

Down goes what to subscribe to, up go events. Nothing here blocks: the thread that sends wakes the other one, by a
socket pair or by Trio's token, once for all that has gathered until the other one looks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable

import attrs
import trio

from trio_chat.bus.contract import Event
from trio_chat.bus.redis_settings import RedisLimits

__all__ = ["Mailbox", "Parcel", "Stopped"]


class Stopped(Exception):
    """The bus is being cancelled; the thread leaves."""


@attrs.define
class Parcel:
    """What has come up since the last look, to be worked off in the order of these fields."""

    states: list[str | None]  #: changes of the connection: None when it works, or why it does not
    events: list[Event]
    gap: bool  #: events may be missing
    company: bool  #: another node has said something
    confirmed: int  #: the generation of subscriptions that Redis has confirmed
    more: bool  #: there is more; look again in the next turn of the scheduler


class Mailbox:
    """One per `run`; `deliver` is called in the Trio thread when there is something to `collect`."""

    def __init__(self, deliver: Callable[[], None], limits: RedisLimits) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._deliver = deliver
        self._limits = limits
        self._lock = threading.Lock()
        self._waker, self.wakeup = socket.socketpair()
        self._waker.setblocking(False)
        self.wakeup.setblocking(False)
        # Down. One entry per channel, so its size is bounded by what the node is interested in.
        self._changes: dict[str, bool] = {}
        self._generation = 0
        self._waking = False
        self._stopped = False
        self._connection: socket.socket | None = None
        # Up.
        self._states: list[str | None] = []
        self._batches: deque[tuple[list[Event], int]] = deque()
        self._bytes = 0
        self._gap = False
        self._company = False
        self._confirmed = 0
        self._posted = False
        self.dropped = 0

    # ---- the Trio thread's side

    def change(self, channels: Iterable[str], *, wanted: bool, generation: int) -> None:
        """Tell the thread, at the end of this turn of the scheduler: what is asked for until then goes with it."""
        with self._lock:
            self._changes.update(dict.fromkeys(channels, wanted))
            self._generation = generation
        if not self._waking:
            self._waking = True
            self._token.run_sync_soon(self._wake)

    def collect(self) -> Parcel:
        """Take what has come up, about `batch_events` events at most."""
        events: list[Event] = []
        with self._lock:
            while self._batches and len(events) < self._limits.batch_events:
                batch, size = self._batches.popleft()
                self._bytes -= size
                events = events + batch if events else batch
            parcel = Parcel(self._states, events, self._gap, self._company, self._confirmed, bool(self._batches))
            self._states = []
            self._gap = self._company = False
            self._posted = parcel.more
        return parcel

    def collect_again(self) -> None:
        """`deliver` will be called in the next turn; for a parcel with `more`."""
        self._token.run_sync_soon(self._deliver)

    def stop(self) -> None:
        """Make the thread leave, wherever it waits: for the wake-up, in a handshake or on a full socket."""
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
        self._wake()

    def close(self) -> None:
        """After the thread has left."""
        self._waker.close()
        self.wakeup.close()

    def _wake(self) -> None:
        self._waking = False
        # A full pipe wakes as well as one more byte would; a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    # ---- the subscriber thread's side

    def check_stopped(self) -> None:
        """Raises `Stopped`."""
        if self._stopped:
            raise Stopped

    def clear_wakeup(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.wakeup.recv(4096)

    def attach(self, connection: socket.socket) -> None:
        """From now on `stop` shuts this connection down. Raises `Stopped`."""
        with self._lock:
            self.check_stopped()
            # A duplicate shares the connection, but neither its TLS state nor the moment at which it is closed.
            self._connection = connection.dup()

    def detach(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def take_changes(self) -> tuple[dict[str, bool], int]:
        """What to subscribe to (True) and to unsubscribe from since the last call, and the generation of that."""
        with self._lock:
            changes, self._changes = self._changes, {}
            return changes, self._generation

    def post_state(self, problem: str | None, *, gap: bool = False) -> None:
        """None: the connection works from now on, and with `gap` events were missed until now; or what is wrong."""
        with self._lock:
            self._states.append(problem)
            self._gap |= gap
            self._post()

    def post_confirmed(self, generation: int) -> None:
        with self._lock:
            self._confirmed = generation
            self._post()

    def post_company(self) -> None:
        with self._lock:
            self._company = True
            self._post()

    def post_gap(self) -> None:
        with self._lock:
            self._gap = True
            self._post()

    def post_events(self, events: list[Event], size: int) -> None:
        """Hand over events that took `size` bytes on the wire; drops them when too much waits already."""
        with self._lock:
            # An empty mailbox takes everything, so no limit is too small for a single large event.
            if self._bytes and self._bytes + size > self._limits.handover_bytes:
                self.dropped += len(events)
                self._gap = True
            else:
                self._batches.append((events, size))
                self._bytes += size
            self._post()

    def _post(self) -> None:
        if not self._posted:
            self._posted = True
            self._token.run_sync_soon(self._deliver)
