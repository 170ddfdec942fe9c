"""The faults: how each is brought about and made whole again, on the programs of a setup and the links of the load."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from trio_chat.verify.load import Load
from trio_chat.verify.plan import FaultPlan
from trio_chat.verify.programs.process import ServiceError, ServiceProcess
from trio_chat.verify.recorder import Recorder
from trio_chat.verify.setups import Setup

__all__ = ["Faults"]

#: How long a program may take to come back, however often it has to be started, in seconds.
_BACK = 60.0
_RETRY = 0.3


class Faults:
    """Carries out a plan of faults. What is broken is left alone by other faults until it is whole again."""

    def __init__(self, setup: Setup, load: Load, recorder: Recorder) -> None:
        self._setup = setup
        self._load = load
        self._recorder = recorder
        self._locks: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    async def run(self, plan: tuple[FaultPlan, ...], seconds: float) -> None:
        """As many as fit into the time; then all is whole, also when cancelled. Raises `ServiceError`."""
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for fault in plan:
                if trio.current_time() + fault.pause + fault.seconds > end:
                    break
                await trio.sleep(fault.pause)
                if fault.beside:
                    nursery.start_soon(self._bring_about, fault)
                else:
                    await self._bring_about(fault)

    async def _bring_about(self, fault: FaultPlan) -> None:
        what, _, how = fault.kind.partition("-")
        if what == "client":
            await self._break_clients(fault)
        elif fault.kind == "node-restart":
            for node in self._setup.nodes:
                async with self._broken(node, fault.kind):
                    await self.restart(node, fault.seconds)
        elif what == "partition":
            await self._partition(fault)
        elif fault.kind == "nginx-reload":
            assert self._setup.nginx is not None
            async with self._broken(self._setup.nginx, fault.kind):
                await trio.to_thread.run_sync(self._setup.nginx.reload)
        else:
            program = self._program(what, fault.draw)
            async with self._broken(program, fault.kind):
                await _HOW[how](self, program, fault.seconds)

    def _program(self, what: str, draw: float) -> ServiceProcess:
        if what == "node":
            return self._setup.nodes[int(draw * len(self._setup.nodes))]
        program = self._setup.redis if what == "redis" else self._setup.mariadb
        assert program is not None
        return program

    @asynccontextmanager
    async def _broken(self, program: ServiceProcess, kind: str) -> AsyncIterator[None]:
        async with self._locks[program.name]:
            number = self._recorder.fault_began(kind, program.name)
            try:
                yield
            finally:
                program.resume()
                if not program.running:
                    with trio.CancelScope(shield=True):  # bounded by the time that it may take
                        await self._start(program)
                self._recorder.fault_ended(number)

    async def _start(self, program: ServiceProcess) -> None:
        """Start it, again and again where it does not come up: what it stands on may be broken too."""
        deadline = trio.current_time() + _BACK
        while True:
            # Launched by the main thread: a program ends with the thread that started it.
            program.launch()
            try:
                await trio.to_thread.run_sync(program.wait_ready)
            except ServiceError:
                program.kill()
                if trio.current_time() > deadline:
                    raise
                await trio.sleep(_RETRY)
            else:
                return

    async def kill(self, program: ServiceProcess, seconds: float) -> None:
        program.kill()
        await trio.sleep(seconds)
        await self._start(program)

    async def flap(self, program: ServiceProcess, seconds: float) -> None:
        for _ in range(3):
            await self.kill(program, seconds)
            await trio.sleep(seconds)

    async def pause(self, program: ServiceProcess, seconds: float) -> None:
        program.pause()
        await trio.sleep(seconds)

    async def restart(self, program: ServiceProcess, seconds: float) -> None:
        await trio.to_thread.run_sync(program.stop)
        await trio.sleep(seconds)
        await self._start(program)

    async def _partition(self, fault: FaultPlan) -> None:
        """A node is cut off from what it stands on, or from nginx; it runs on, and nobody is told."""
        number = int(fault.draw * len(self._setup.cables))
        services, entrance = self._setup.cables[number]
        cable = entrance if fault.kind == "partition-clients" else services
        async with self._broken(self._setup.nodes[number], fault.kind):
            try:
                await trio.to_thread.run_sync(cable.cut)
                await trio.sleep(fault.seconds)
            finally:
                with trio.CancelScope(shield=True):  # two calls of `ip`
                    await trio.to_thread.run_sync(cable.heal)

    async def _break_clients(self, fault: FaultPlan) -> None:
        """A part of the clients, from one to all: their connections are reset, or nothing goes through them any more."""
        async with self._locks["clients"]:
            draw = random.Random(fault.draw)
            devices = draw.sample(self._load.devices, draw.randint(1, len(self._load.devices)))
            links = [device.link for device in devices if device.link is not None and not device.link.blackholed]
            number = self._recorder.fault_began(fault.kind, f"{len(links)} connections")
            try:
                for link in links:
                    if fault.kind == "client-reset":
                        link.reset()
                    else:
                        link.blackholed = True
                await trio.sleep(fault.seconds)
            finally:
                if fault.kind == "client-blackhole":
                    for link in links:
                        link.drop()
                self._recorder.fault_ended(number)


_HOW: dict[str, Callable[[Faults, ServiceProcess, float], Awaitable[None]]] = {
    "kill": Faults.kill,
    "flap": Faults.flap,
    "pause": Faults.pause,
    "restart": Faults.restart,
}
