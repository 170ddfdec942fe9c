"""A worker: one node in a process of its own, that serves listeners which its supervisor has handed over.

It drains when the supervisor says so or is gone, however that ended, and by a SIGTERM of its own. Other signals it leaves to the
supervisor: a terminal sends them to both.
"""

from __future__ import annotations

import pickle
import signal
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import BinaryIO

import attrs
import trio
from websockets.datastructures import Headers

from trio_chat.config import Settings
from trio_chat.errors import StartupError, startup_error
from trio_chat.metrics import metrics_reply, node_registry
from trio_chat.node import Node
from trio_chat.server import Shared, open_server
from trio_chat.serving import Server
from trio_chat.transport.http import Page, Reply
from trio_chat.workers.control import Control
from trio_chat.workers.figures import Figures, gather, merged
from trio_chat.workers.turns import Board, Turns

__all__ = ["Assignment", "work"]

#: How long the supervisor may take to gather everybody's figures, in seconds: longer than it has patience with a worker.
_PATIENCE = 5.0


@attrs.frozen(kw_only=True)
class Assignment:
    """What a worker is to do; it gets it on its standard input. Sockets and the board's file by their descriptors."""

    number: int
    workers: int
    settings: Settings
    tcp: tuple[int, ...]
    http: tuple[int, ...]
    board: int
    control: int

    def dump(self) -> bytes:
        return pickle.dumps(self)

    @classmethod
    def load(cls, stream: BinaryIO) -> Assignment:
        """Read what `dump` made. Raises `StartupError` where it was not the supervisor that wrote."""
        try:
            loaded = pickle.load(stream)  # noqa: S301 (it comes from the process that started this one)
        except (EOFError, pickle.UnpicklingError):
            loaded = None
        if not isinstance(loaded, cls):
            raise StartupError("workers are started by `trio-chat serve --workers N`")
        return loaded


async def work(assignment: Assignment) -> bool:
    """Serve until told to stop, then drain; whether it could start. The supervisor is told why not."""
    control = Control(socket.socket(fileno=assignment.control))
    board = Board(assignment.board, assignment.workers)
    turns = Turns(board, assignment.number - 1)
    worker = _Worker(control)
    shared = Shared(
        tcp=[_listener(fd) for fd in assignment.tcp],
        http=[_listener(fd) for fd in assignment.http],
        turn=turns.turn,
        elsewhere=turns.elsewhere,
        metrics=worker.metrics,
        processes=assignment.workers,
    )
    failure: StartupError | None = None
    try:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.obey, nursery.cancel_scope)
                nursery.start_soon(worker.obey_signals, signals, nursery.cancel_scope)
                async with open_server(assignment.settings, shared) as server:
                    turns.count = partial(len, server.node.connections)
                    nursery.start_soon(turns.run)
                    await worker.serve(server)
                    board.leave(assignment.number - 1)
                nursery.cancel_scope.cancel()
    except* StartupError as group:
        failure = startup_error(group)
    if failure is not None:
        await control.send(failed=str(failure))
    return failure is None


class _Worker:
    """What it knows of its supervisor, and what it does when that speaks."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._ready = False
        self._reload: Callable[[], None] = lambda: None
        self._stop = trio.Event()
        self._figures: Callable[[], Figures] = list
        self._answer: trio.Event | None = None
        self._together: tuple[dict[str, Figures], dict[str, int]] = ({}, {})
        self._asking = trio.Lock()

    async def serve(self, server: Server) -> None:
        """Say that all is ready, and wait until it is to stop."""
        self._ready = True
        self._reload = server.reload
        addresses = [str(address) for address in server.addresses]
        await self._control.send(ready=True, addresses=addresses, pages=server.pages, database=server.database)
        await self._stop.wait()

    async def obey(self, everything: trio.CancelScope) -> None:
        """Do what the supervisor says. Once it is gone: drain."""
        while (message := await self._control.receive()) is not None:
            if "stop" in message:
                self._drain(everything)
            elif "end" in message:
                everything.cancel()
            elif "reload" in message:
                self._reload()
            elif "tell" in message:
                await self._control.send(figures=self._figures())
            elif "told" in message:
                self._together = message["told"], message["starts"]
                if self._answer is not None:
                    self._answer.set()
        self._drain(everything)

    async def obey_signals(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """One SIGTERM drains, a second one ends it; the supervisor then starts another."""
        await anext(signals)
        self._drain(everything)
        await anext(signals)
        everything.cancel()

    def _drain(self, everything: trio.CancelScope) -> None:
        self._stop.set()
        if not self._ready:
            everything.cancel()

    def metrics(self, node: Node) -> Page:
        """The page with everybody's figures."""
        registry = node_registry(node)
        self._figures = partial(gather, registry)

        async def page(headers: Headers) -> Reply:
            # One question at a time: who asks meanwhile waits, and asks anew.
            async with self._asking:
                self._answer = trio.Event()
                with trio.move_on_after(_PATIENCE):
                    await self._control.send(ask=True)
                    await self._answer.wait()
                    return metrics_reply(headers, merged(*self._together))
            return Reply.text(503, "the supervisor does not answer", Retry_After="1")

        return page


def _listener(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock
