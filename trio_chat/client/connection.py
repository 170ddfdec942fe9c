"""Keeping a protocol connected: the tasks, the sockets and the clock around the pure core, on anyio.

One task (`Link.run`) owns everything: it opens a connection, runs three tasks on it (read, write, timer) until it is
lost, waits, and opens the next one, until it is cancelled.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from ssl import SSLContext, create_default_context

import anyio
from anyio.abc import ByteStream, TaskStatus

from trio_chat.backoff import Backoff
from trio_chat.client.errors import ConnectionLost, NotReachable
from trio_chat.client.options import Endpoint, Options
from trio_chat.client.protocol import Protocol
from trio_chat.client.session import State

__all__ = ["Dial", "Link", "Signal", "only_error", "tcp_dial"]

#: Opens a connection to a server; raises `OSError` where that fails.
Dial = Callable[[Endpoint], Awaitable[ByteStream]]

_CHUNK = 64 * 1024


def tcp_dial(ssl_context: SSLContext | None = None) -> Dial:
    """Open plain TCP connections, or encrypted ones where the address says so (`ssl_context`: the default one)."""

    async def dial(endpoint: Endpoint) -> ByteStream:
        host, port = endpoint.address
        try:
            if not endpoint.tls:
                return await anyio.connect_tcp(host, port)
            return await anyio.connect_tcp(
                host,
                port,
                ssl_context=ssl_context or create_default_context(),
                # Every frame is complete in itself, so a connection that just ends hides nothing.
                tls_standard_compatible=False,
            )
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise ConnectionError("it was closed within the TLS handshake") from error
        except UnicodeError:
            raise OSError(f"{host!r} is not the name of a host") from None

    return dial


class Signal:
    """Wakes whoever waits at that moment. Check the condition, then `wait`, without a checkpoint between."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def fire(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Wait for the next `fire`. Cancelling is safe."""
        await self._event.wait()


class Link:
    """Keeps `protocol` connected to one of the `addresses`, which take turns after each loss.

    Whoever gives the protocol something calls `kick` afterwards. `changed` fires where it may have something to give.
    """

    def __init__(self, protocol: Protocol, addresses: Sequence[Endpoint], dial: Dial, options: Options) -> None:
        self.changed = Signal()
        self._protocol = protocol
        self._addresses = addresses
        self._dial = dial
        self._options = options
        self._output = Signal()
        self._drained = Signal()
        self._rearm = Signal()
        self._armed = float("inf")
        self._sending = False

    def kick(self) -> None:
        """The protocol was given something: send what it has to send, and look at its deadline."""
        if self._protocol.output_size:
            self._output.fire()
        deadline = self._protocol.deadline
        if deadline is not None and deadline < self._armed:
            self._rearm.fire()

    def tell(self) -> None:
        """Something happened: `kick`, and wake who waits for it."""
        self.kick()
        self.changed.fire()

    async def drain(self) -> None:
        """Wait until everything is handed to the kernel, or the connection is lost. Cancelling is safe."""
        while self._protocol.state is not State.OFFLINE and (self._sending or self._protocol.output_size):
            await self._drained.wait()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Connect, and connect again after each loss, until cancelled; started once a server has greeted.

        Raises `NotReachable` where none of the addresses leads to a server that greets; after that, nothing.
        """
        failures: dict[str, str] = {}
        started = False

        def greeted() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started()

        backoff = Backoff(self._options.reconnect_first, self._options.reconnect_limit)
        for address in itertools.cycle(self._addresses):
            began = anyio.current_time()
            failures[str(address)] = await self._visit(address, greeted)
            if started:
                if anyio.current_time() - began >= self._options.steady_after:
                    backoff.reset()
                await anyio.sleep(backoff.pause())
            elif len(failures) == len(self._addresses):
                raise NotReachable(failures)

    async def _visit(self, address: Endpoint, greeted: Callable[[], None]) -> str:
        """Connect to an address and stay until the connection is lost. Returns why it is."""
        try:
            with anyio.fail_after(self._options.connect_timeout):
                stream = await self._dial(address)
        except TimeoutError:
            return f"no connection within {self._options.connect_timeout:g} s"
        except OSError as error:
            return str(error) or type(error).__name__
        reasons: list[ConnectionLost] = []

        async def guard(work: Callable[[], Awaitable[None]]) -> None:
            """Do one task's work; where it finds the connection lost, remember why and end all three."""
            reasons.append(await _until_lost(work))
            tasks.cancel_scope.cancel()

        self._protocol.connected(anyio.current_time())
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(guard, partial(self._read, stream, greeted))
                tasks.start_soon(guard, partial(self._write, stream))
                tasks.start_soon(guard, self._watch_time)
        finally:
            lost = reasons[0] if reasons else ConnectionLost("it was closed here")
            self._protocol.lost(lost)
            self._sending = False
            self._drained.fire()
            self.tell()
            # A polite close could wait for the peer, and whatever was being sent may be cut anyway.
            await anyio.aclose_forcefully(stream)
        return lost.reason

    async def _read(self, stream: ByteStream, greeted: Callable[[], None]) -> None:
        while True:
            while self._protocol.output_size > self._options.output_limit:
                # The server asks more than it lets us answer.
                await self._drained.wait()
            data = await stream.receive(_CHUNK)
            try:
                self._protocol.receive(data, anyio.current_time())
            finally:
                self.tell()
            if self._protocol.state is not State.GREETING:
                greeted()

    async def _write(self, stream: ByteStream) -> None:
        while True:
            data = self._protocol.take_output()
            self._sending = bool(data)
            if data:
                await stream.send(data)
            else:
                self._drained.fire()
                await self._output.wait()

    async def _watch_time(self) -> None:
        while True:
            deadline = self._protocol.deadline
            self._armed = float("inf") if deadline is None else deadline
            with anyio.CancelScope(deadline=self._armed):
                await self._rearm.wait()
            if anyio.current_time() >= self._armed:
                try:
                    self._protocol.tick(anyio.current_time())
                finally:
                    self.tell()


async def _until_lost(work: Callable[[], Awaitable[None]]) -> ConnectionLost:
    """Do endless work on a connection; returns why the connection is of no more use."""
    try:
        await work()
    except ConnectionLost as error:
        return error
    except anyio.EndOfStream:
        return ConnectionLost("the server closed it")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        return ConnectionLost(str(error.__cause__ or error) or "it broke")
    raise AssertionError("this work has no end of its own")


@contextmanager
def only_error() -> Generator[None]:
    """Let the one error that left the block through, not the group that the task group put around it."""
    error: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
    if error is not None:
        context = error.__context__
        try:
            raise error
        finally:
            # Raising it here may make the group its context, and the group holds the error: a circle.
            error.__context__ = context
