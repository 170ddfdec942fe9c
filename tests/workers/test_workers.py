"""`serve --workers 2` as operators run it: one program to look at, behind one port.

The tests of this file share it, and leave it running; each brings what it breaks back into order.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.load import Receiver, Sender, check
from tests.http.raw import ask, request
from tests.wire import Wire, WireClosed, connect, register
from trio_chat import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.process import free_port
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

WORKERS = 2
CONNECTIONS = 60


class Program(ChatNode):
    """The supervisor, and what it has said of its workers."""

    options = ("--workers", str(WORKERS), "--limit", f"connections={CONNECTIONS}")

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.http = Address("127.0.0.1", free_port())
        super().__init__(directory, "m", settings, *self.options, "--http", str(self.http))

    def workers(self) -> dict[int, int]:
        """The process of each, the latest."""
        return {
            each["worker"]: each["pid"]  # type: ignore[misc]  # they are numbers
            for each in self.events()
            if each["event"] == "worker started"
        }

    def ended(self) -> bool:
        return not any(alive(pid) for pid in self.workers().values())


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is not one that has ended and is not yet buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: object, within: float = 20.0) -> None:
    """Wait for what another process brings about."""
    assert callable(condition)
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.02)


@pytest.fixture(scope="module")
def started(mariadb: MariaDB, redis_server: Redis) -> Iterator[Program]:
    mariadb.create_database("workers")
    settings = Settings(database=mariadb.url("workers"), bus=redis_server.url.removesuffix("/0") + "/2", lease=2.0)
    with tempfile.TemporaryDirectory(prefix="workers-") as directory:
        program = Program(Path(directory), settings)
        try:
            yield program
        finally:
            program.stop()
    mariadb.drop_database("workers")


@pytest.fixture
async def program(started: Program) -> Program:
    """It runs, and all its workers are ready."""
    if not started.running:
        started.log.unlink(missing_ok=True)
        await trio.to_thread.run_sync(started.start)
    started.wait_logged("ready")
    with trio.fail_after(20):
        while (await figures(started)).get("trio_chat_worker_up") != WORKERS:
            await trio.sleep(0.05)
    return started


async def figures(program: Program) -> collections.Counter[str]:
    """What /metrics says, summed up over the workers; by name, without labels."""
    answer = await ask(program.http, request("/metrics"))
    assert answer.status == 200
    sums: collections.Counter[str] = collections.Counter()
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            assert sample.labels["worker"] in {"1", "2"}
            sums[sample.name] += sample.value  # type: ignore[assignment]  # all of them are whole numbers here
    return sums


@contextlib.asynccontextmanager
async def one_on_each(program: Program, *names: str) -> AsyncIterator[dict[str, Wire]]:
    """Connections that are logged in as the given accounts, each on a worker of its own, by that worker.

    On a busy machine a worker whose turn it is may come too late; what the wrong one took is held until the right one
    has come.
    """
    by_node: dict[str, Wire] = {}
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            for _ in range(20):
                wire = await stack.enter_async_context(connect(program.address))
                if wire.node not in by_node:
                    by_node[wire.node] = wire
                    await wire.log_in(name)
                    break
        assert len(by_node) == len(names)
        yield by_node


@pytest.fixture
async def names(program: Program) -> list[str]:
    """Two accounts of this test's own."""
    new = [f"alice-{os.urandom(4).hex()}", f"bob-{os.urandom(4).hex()}"]
    for name in new:
        await register(program.address, name)
    return new


async def test_connections_are_spread_over_the_workers(program: Program) -> None:
    async with contextlib.AsyncExitStack() as stack:
        before = collections.Counter[str]()
        for _ in range(40):
            before[(await stack.enter_async_context(connect(program.address))).node] += 1
        assert set(before) == {"m/1", "m/2"}
        # On a busy machine one of them may be late now and then; a listener left to itself gives one of two nearly all.
        assert abs(before["m/1"] - before["m/2"]) <= 12


async def test_connections_are_counted_over_all_workers(program: Program) -> None:
    """Each knows of the others' a moment later, so it may be a few more."""
    let_in = 0
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CONNECTIONS + 40):
            wire = await stack.enter_async_context(connect(program.address, modern=False))
            await wire.send(Kind.PING)
            answer = await wire.receive()
            let_in += answer["msgid"] == Kind.PONG
            if answer["msgid"] != Kind.PONG:
                assert answer["error"] == "rate_limited"
        assert CONNECTIONS - 10 <= let_in <= CONNECTIONS + 20
    with trio.fail_after(10):
        while (await figures(program))["trio_chat_connections"] > 1:
            await trio.sleep(0.05)


async def test_messages_cross_the_workers_in_order(program: Program, names: list[str]) -> None:
    async with one_on_each(program, *names) as by_node:
        alice, bob = by_node["m/1"], by_node["m/2"]
        for sender, receiver in ((alice, bob), (bob, alice)):
            for number in range(50):
                await sender.send(Kind.DIRECT, toid=receiver.id, msg=str(number), ref=number)
            assert [frame["msg"] for frame in await receiver.messages(50)] == [str(number) for number in range(50)]


async def test_the_figures_are_those_of_all_workers_whoever_is_asked(program: Program) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(connect(program.address))
        with trio.fail_after(10):
            while (await figures(program))["trio_chat_connections"] != 6:  # earlier tests' connections go
                await trio.sleep(0.05)
        for _ in range(6):
            told = await figures(program)
            assert told["trio_chat_connections"] == 6
            assert told["trio_chat_worker_up"] == told["trio_chat_info"] == WORKERS
            assert told["process_resident_memory_bytes"] > 2 * 10_000_000
    answer = await ask(program.http, request("/readyz"))
    assert (answer.status, b'"node":"m/' in answer.body) == (200, True)


async def test_a_worker_is_killed_under_load(program: Program, names: list[str]) -> None:
    """The others go on, it is started again, its clients come back, and nothing is lost."""
    async with one_on_each(program, *names) as by_node:
        ids = {wire.name: wire.id for wire in by_node.values()}
    alice, bob = names
    low, high = sorted(ids.values())
    sender = Sender([program.address], alice, 400, toid=ids[bob])
    receiver = Receiver([program.address], bob, f"d:{low}:{high}")
    killed, other = program.workers()[1], program.workers()[2]
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(program.address)) for _ in range(4)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            nursery.start_soon(sender.run)
            await sender.wait_acknowledged(100)
            os.kill(killed, signal.SIGKILL)
            await receiver.wait(400, within=30)
            nursery.cancel_scope.cancel()
        await check(program.address, alice, f"d:{low}:{high}", [sender], receiver)
        for wire in wires:
            if wire.node == "m/2":
                await wire.quiet()
            else:
                with pytest.raises(WireClosed):
                    await wire.receive()
        await until(lambda: program.workers()[1] != killed)
        assert program.workers()[2] == other
        program.wait_logged("worker ended")
        with trio.fail_after(20):
            while (await figures(program))["trio_chat_worker_up"] != WORKERS:
                await trio.sleep(0.05)
        assert (await figures(program))["trio_chat_worker_starts_total"] >= WORKERS + 1
        # The new one has the fewest connections, so more of the next ones are its; the other may be quicker now and then.
        nodes = [(await stack.enter_async_context(connect(program.address))).node for _ in range(8)]
        assert nodes.count("m/1") >= nodes.count("m/2"), nodes


async def test_a_worker_that_stands_still_holds_nobody_up(program: Program) -> None:
    still = program.workers()[2]
    async with contextlib.AsyncExitStack() as stack:
        os.kill(still, signal.SIGSTOP)
        try:
            for _ in range(10):
                assert (await stack.enter_async_context(connect(program.address))).node == "m/1"
            told = await figures(program)
            assert told["trio_chat_worker_up"] == WORKERS - 1
            assert told["trio_chat_connections"] >= 10
        finally:
            os.kill(still, signal.SIGCONT)


async def test_sigterm_drains_all_together(program: Program) -> None:
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(program.address)) for _ in range(4)]
        assert len({wire.node for wire in wires}) == WORKERS
        program.terminate()
        for wire in wires:
            assert (await wire.receive(Kind.REPLY, within=10))["error"] == "shutting_down"
    assert await trio.to_thread.run_sync(program.wait) == 0
    assert program.ended()


async def test_a_second_signal_ends_all_at_once(program: Program) -> None:
    async with connect(program.address, modern=False, terminator=b"\0") as slow:
        for number in range(800):  # 16 s, at its pace of one each 20 ms
            await slow.send(Kind.PING, data=number)
        assert (await slow.receive())["data"] == 0
        program.terminate()
        await until(lambda: "draining" in program.log_text())
        began = time.monotonic()
        program.terminate()
        assert await trio.to_thread.run_sync(program.wait) == 0
        assert time.monotonic() - began < 8
    assert program.ended()


async def test_no_worker_outlives_its_supervisor(program: Program) -> None:
    assert program.process is not None
    async with connect(program.address) as wire:
        program.process.kill()  # it alone, not its group
        program.process.wait()
        assert (await wire.receive(Kind.REPLY, within=10))["error"] == "shutting_down"
    await until(program.ended)
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*program.address)


async def test_what_keeps_the_first_worker_from_starting_is_told_once(program: Program, tmp_path: Path) -> None:
    """Here: the name is another's, who lives."""
    command = list(program.command)
    command[command.index(str(program.address))] = "127.0.0.1:0"
    command[command.index(str(program.http))] = "off"
    second = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    assert second.returncode == 2
    assert second.stderr.count(b"trio-chat: ") == 1
    assert b"m/1" in second.stderr


async def test_all_workers_reload(program: Program) -> None:
    """Nobody's connection ends; here there is no certificate, and each of them says so."""
    async with connect(program.address) as wire:
        assert program.process is not None
        program.process.send_signal(signal.SIGHUP)
        said = "there is nothing to reload: no certificate is set"
        await until(lambda: {each.get("worker") for each in program.events() if each["event"] == said} == {1, 2})
        await wire.quiet()
