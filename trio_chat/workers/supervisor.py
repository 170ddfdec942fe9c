"""The supervisor: listens, starts the workers, hands them the listeners, and starts another one where one ends.

It serves nobody itself. It says ready when all workers are; the first one starts alone, as it brings the schema up to date
and would be told of anything that is wrong with the settings.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import structlog
import trio

from trio_chat.backoff import Backoff
from trio_chat.config import Settings
from trio_chat.errors import StartupError
from trio_chat.server import listening
from trio_chat.signals import Order, Orders, open_orders
from trio_chat.workers.control import Control, Message
from trio_chat.workers.turns import Board
from trio_chat.workers.worker import Assignment

__all__ = ["Ready", "check", "supervise"]

log = structlog.get_logger(__name__)

#: Pauses before a worker is started again, in seconds; one that lived for `_WELL` begins anew with the first.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_WELL = 30.0
#: How long a worker may take to end beyond its `drain`, or when it is told to end at once, in seconds.
_GRACE = 5.0
#: How long a worker may take to tell its figures, in seconds.
_PATIENCE = 2.0


@attrs.frozen(kw_only=True)
class Ready:
    """What is told of the whole: where it listens, and where the data is."""

    addresses: Sequence[str]
    pages: Sequence[str]
    database: str


def check(settings: Settings) -> None:
    """Whether several workers can serve with these settings. Raises `StartupError` that says why not."""
    if not settings.database.startswith("mysql://"):
        raise StartupError(
            f"--workers {settings.workers} needs MySQL or MariaDB (--database mysql://…): "
            "a SQLite file serves one process, and with one that writes more of them would gain nothing"
        )
    if settings.bus.startswith("local:"):
        raise StartupError(
            f"--workers {settings.workers} needs Redis (--bus redis://…): the workers are nodes of a cluster, "
            "and without it they would not hear each other"
        )


async def supervise(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Run the workers until SIGTERM or SIGINT, then drain them together; a second signal ends them at once.

    SIGHUP has all of them reload the certificate.
    Raises `StartupError` where they cannot start. Cancelling it ends them at once.
    """
    check(settings)
    with (
        open_orders() as orders,
        listening(settings) as (tcp, http),
        Board.new(settings.workers) as board,
    ):
        supervisor = _Supervisor(settings, tcp, http, board)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.obey_signals, orders)
            await supervisor.run(announce)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Worker:
    """One of them, over all its lives. `process` and `control` are those of the present one, if it lives."""

    number: int
    process: trio.Process | None = None
    control: Control | None = None
    ready: Ready | None = None
    why: str = ""
    starts: int = 0
    figures: list[object] | None = None
    told: trio.Event | None = None


class _Supervisor:
    def __init__(
        self, settings: Settings, tcp: Sequence[socket.socket], http: Sequence[socket.socket], board: Board
    ) -> None:
        self._settings = settings
        self._tcp, self._http = tcp, http
        self._name = settings.node or f"{socket.gethostname()}:{tcp[0].getsockname()[1]}"
        self._workers = [_Worker(number) for number in range(1, settings.workers + 1)]
        self._board = board
        self._stopping = trio.Event()
        self._ending = trio.Event()

    async def run(self, announce: Callable[[Ready], None]) -> None:
        """Start all, keep them running, and return when they have ended, as they were told to."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop)
            async with trio.open_nursery() as keeping:
                first, *others = self._workers
                await keeping.start(self._keep, first)
                async with trio.open_nursery() as starting:
                    for worker in others:
                        starting.start_soon(keeping.start, self._keep, worker)
                if first.ready is not None and not self._stopping.is_set():
                    log.info("ready", node=self._name, workers=len(self._workers), listening=first.ready.addresses)
                    announce(first.ready)
            nursery.cancel_scope.cancel()

    async def obey_signals(self, orders: Orders) -> None:
        """One drains, a second one ends all at once."""
        async for order in orders:
            if order is Order.RELOAD:
                await self._tell_all(reload=True)
            else:
                (self._ending if self._stopping.is_set() else self._stopping).set()

    async def _stop(self) -> None:
        """Once it is time, tell all; who does not end is killed."""
        await self._stopping.wait()
        log.info("draining", workers=len(self._workers), at_most_seconds=self._settings.drain)
        # Nobody new, from now on: the workers close theirs.
        for sock in (*self._tcp, *self._http):
            sock.close()
        await self._tell_all(stop=True)
        with trio.move_on_after(self._settings.drain + _GRACE):
            await self._ending.wait()
        await self._tell_all(end=True)
        await trio.sleep(_GRACE)
        for worker in self._workers:
            if worker.process is not None:
                log.error("worker killed", worker=worker.number, reason="it did not end")
                worker.process.kill()

    async def _tell_all(self, **message: bool) -> None:
        """Tell them all at once; one that does not listen has its line cut by the deadline, and is killed in the end."""
        with trio.move_on_after(_PATIENCE):
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    if worker.control is not None:
                        nursery.start_soon(partial(worker.control.send, **message))

    async def _keep(self, worker: _Worker, task_status: trio.TaskStatus[None]) -> None:
        """Have a worker run until it is time to stop. Started when it is ready for the first time, or ends before."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                task_status.started()
                started = True

        while not self._stopping.is_set():
            since = trio.current_time()
            status = await self._live(worker, ready)
            if self._stopping.is_set():
                break
            if not started:
                raise StartupError(worker.why or f"worker {worker.number} ended with status {status} while it started")
            if trio.current_time() - since >= _WELL:
                backoff.reset()
            pause = backoff.pause()
            log.error(
                "worker ended", worker=worker.number, status=status, reason=worker.why, retry_seconds=round(pause, 1)
            )
            with trio.move_on_after(pause):
                await self._stopping.wait()
        ready()

    async def _live(self, worker: _Worker, ready: Callable[[], None]) -> int:
        """One life of a worker: start it, do what it asks, and return its exit status. Cancelled: end it at once."""
        ours, its = socket.socketpair()
        place = worker.number - 1
        with its:
            assignment = Assignment(
                number=worker.number,
                workers=len(self._workers),
                settings=attrs.evolve(self._settings, workers=1, node=f"{self._name}/{worker.number}"),
                tcp=tuple(sock.fileno() for sock in self._tcp),
                http=tuple(sock.fileno() for sock in self._http),
                board=self._board.descriptor,
                control=its.fileno(),
            )
            descriptors = (*assignment.tcp, *assignment.http, assignment.board, assignment.control)
            worker.control, worker.ready, worker.why = Control(ours), None, ""
            worker.starts += 1
            try:
                async with trio.open_nursery() as nursery:
                    worker.process = await nursery.start(
                        partial(
                            trio.run_process,
                            [sys.executable, "-m", "trio_chat", "worker"],
                            stdin=assignment.dump(),
                            check=False,
                            deliver_cancel=partial(_end, worker.control),
                            pass_fds=descriptors,
                        )
                    )
                    its.close()
                    log.info("worker started", worker=worker.number, pid=worker.process.pid)
                    await self._listen_to(worker, nursery, ready)
                status = worker.process.returncode
                assert status is not None
            finally:
                self._board.leave(place)
                worker.control.close()
                worker.process = worker.control = worker.figures = worker.told = None
        return status

    async def _listen_to(self, worker: _Worker, nursery: trio.Nursery, ready: Callable[[], None]) -> None:
        """Do what a worker asks until its end of the line is closed; that is when it has ended."""
        control = worker.control
        assert control is not None
        asking = False

        async def answer() -> None:
            nonlocal asking
            try:
                await self._answer(control)
            finally:
                asking = False

        while (message := await control.receive()) is not None:
            if "ready" in message:
                worker.ready = _ready(message)
                ready()
                if self._stopping.is_set():  # it came up while the others were told
                    await control.send(stop=True)
            elif "failed" in message:
                worker.why = message["failed"]
            elif "figures" in message:
                worker.figures = message["figures"]
                if worker.told is not None:
                    worker.told.set()
            elif "ask" in message and not asking:
                asking = True
                nursery.start_soon(answer)

    async def _answer(self, asker: Control) -> None:
        """Gather the figures of all workers that give them in time, and send them to the one who asked."""
        asked = [worker for worker in self._workers if worker.control is not None and worker.ready]
        for worker in asked:
            # One that has not answered the last question is not asked another: it is stopped, or does not turn. So this
            # never waits for room on its line.
            if worker.told is None or worker.told.is_set():
                worker.told, worker.figures = trio.Event(), None
                assert worker.control is not None
                await worker.control.send(tell=True)
        with trio.move_on_after(_PATIENCE):
            for worker in asked:
                if worker.told is not None:
                    await worker.told.wait()
        told = {str(worker.number): worker.figures for worker in asked if worker.figures is not None}
        await asker.send(told=told, starts={str(worker.number): worker.starts for worker in self._workers})


def _ready(message: Message) -> Ready:
    return Ready(addresses=message["addresses"], pages=message["pages"], database=message["database"])


async def _end(control: Control, process: trio.Process) -> None:
    """How a worker is ended when the supervisor is: it gets time for its last words to the database."""
    with trio.move_on_after(_GRACE):
        await control.send(end=True)
        await process.wait()
    process.kill()
