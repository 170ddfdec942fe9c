"""One simulation from its seed to its verdict."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
import trio.testing

from tests.simulation.chance import WallClock, determined, stream
from tests.simulation.classic import ClassicDevice
from tests.simulation.cluster import Cluster
from tests.simulation.database import Engine, Handle, Moods
from tests.simulation.faults import Director
from tests.simulation.judge import inside, judge, left_behind
from tests.simulation.modern import ModernDevice
from tests.simulation.plan import Plan, draw
from tests.simulation.world import Account, Phase, World
from trio_chat.store.schema import migrate
from trio_chat.verify.history import Logged, LogRead, Record, to_line

__all__ = ["Outcome", "simulate"]

#: How long, in virtual seconds, everything may take to be whole again; and the whole run.
_RECOVERY = 60.0
_MOST = 300.0
#: A run that takes more steps of the scheduler than this goes in circles.
_STEPS = 2_000_000

#: What a node never logs, though it is no error to itself.
_DEFECTS = frozenset({"bus event not understood"})


@attrs.define(eq=False)
class Outcome:
    """What became of a seed: its history, what is wrong, and what happened how often."""

    plan: Plan
    history: list[Record]
    wrong: list[str]
    counts: dict[str, int]

    def lines(self) -> bytes:
        return b"".join(to_line(record) + b"\n" for record in self.history)

    def report(self) -> str:
        """For people: what is wrong, and how to see it again."""
        seed = self.plan.seed
        said = "\n".join(f"- {text}" for text in self.wrong)
        return (
            f"seed {seed}: {len(self.wrong)} violations\n{said}\n"
            f"faults: {', '.join(self.plan.faults) or 'none'}; nodes: {self.plan.nodes}\n"
            f"again: python -m tests.simulation {seed} --history history-{seed}.jsonl"
        )


def simulate(seed: int, faults: Sequence[str] | None = None) -> Outcome:
    """Run a seed, with other kinds of faults than its own if `faults` are given.

    Raises nothing on account of what is simulated: all that is wrong is in the outcome.
    """
    plan = draw(seed)
    if faults is not None:
        plan = attrs.evolve(plan, faults=tuple(faults))
    clock = WallClock()
    wrong: list[str] = []
    counts: dict[str, int] = {}
    histories: list[list[Record]] = []
    place = Path(tempfile.mkdtemp(prefix="simulation-", dir=_memory()))

    async def main() -> None:
        async with Engine.open(place / "chat.db", clock, stream(seed, "database")) as engine:
            await migrate(Handle(engine, 10.0))
            world = World(plan, Cluster(plan, engine, clock))
            histories.append(world.history)
            try:
                with trio.fail_after(_MOST):
                    await _live(world, wrong, counts)
            except trio.TooSlowError:
                wrong.append(f"the simulation did not come to its end within {_MOST:g} s of its own time")
            wrong.extend(world.complaints)

    try:
        with _listening(wrong, counts), determined(seed, clock):
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except Exception:  # noqa: BLE001 - whatever ends a simulation is a finding
        wrong.append(f"the simulation broke:\n{traceback.format_exc()}")
    finally:
        shutil.rmtree(place)
    return Outcome(plan, histories[0] if histories else [], wrong, counts)


async def _live(world: World, wrong: list[str], counts: dict[str, int]) -> None:
    plan, cluster = world.plan, world.cluster
    director = Director(world)
    devices = _people(world)
    async with trio.open_nursery() as nursery:
        for slot in cluster.slots:
            slot.want()
            nursery.start_soon(slot.run)
        cluster.engine.moods, cluster.exchange.weather = plan.moods, plan.weather
        async with trio.open_nursery() as living:
            for device in devices:
                living.start_soon(device.run)
            with trio.move_on_after(plan.unrest):
                await director.run()
            director.heal()
            counts.update(director.counts)
            world.phase = Phase.CALM
            await _wait_ready(world, devices)
            # A node that is dead, or a connection, has been noticed after this at the latest.
            await trio.sleep(2 * plan.settings.lease + 2 * plan.settings.heartbeat + 4 * plan.settings.sweep)
            await _wait_ready(world, devices)
            found = [*inside(world, devices)]
            with trio.move_on_after(5):
                while found:
                    # A node that looks whether all is in order, a beat: work that comes and goes.
                    await trio.sleep(0.1)
                    found = [*inside(world, devices)]
            wrong.extend(found)
            world.phase = Phase.READING
            await trio.sleep(1)
            await _read_logs(world, [device for device in devices if isinstance(device, ModernDevice)])
            wrong.extend(judge(world, devices))
            counts["messages"] = len(cluster.engine.look("SELECT 1 FROM Message"))
            counts["transactions"] = cluster.engine.transactions
            world.phase = Phase.OVER
        await trio.sleep(2)
        found = [*left_behind(world)]
        with trio.move_on_after(10):
            while found:
                # The database may still refuse or delay what is told of those who left.
                await trio.sleep(0.1)
                found = [*left_behind(world)]
        wrong.extend(found)
        # A node's last words have little time, and nobody comes after these to repeat them.
        cluster.engine.moods = Moods()
        # Nor has a stop the time that a statement under way may still take.
        await trio.sleep(2 * plan.settings.store_timeout)
        await cluster.engine.wait_settled()
        for slot in cluster.slots:
            slot.finish()
    wrong.extend(
        f"after the end the table {table} has {rows}"
        for table in ("Node", "Presence")
        if (rows := cluster.engine.look(f"SELECT * FROM {table}"))
    )


def _people(world: World) -> list[ModernDevice | ClassicDevice]:
    plan = world.plan
    devices: list[ModernDevice | ClassicDevice] = []
    for number in range(plan.people + plan.classic):
        classic = number >= plan.people
        account = Account(f"user {number}", "secret", classic)
        world.accounts.append(account)
        for device in range(1 if classic else plan.devices):
            name = f"u{number}.{device}"
            kind = ClassicDevice if classic else ModernDevice
            devices.append(kind(world, account, name, stream(plan.seed, name)))
    return devices


async def _wait_ready(world: World, devices: list[ModernDevice | ClassicDevice]) -> None:
    """Everybody is logged in, and every message is acknowledged."""
    with trio.move_on_after(_RECOVERY):
        while not all(device.ready for device in devices):
            await trio.sleep(0.25)
        return
    late = [device.name for device in devices if not device.ready]
    world.complaints.append(f"{', '.join(late)} did not recover within {_RECOVERY:g} s after all faults")


async def _read_logs(world: World, devices: list[ModernDevice]) -> None:
    """Every conversation's log is read by somebody who is in it; where only classic clients are, in the database."""
    for (conv,) in world.cluster.engine.look("SELECT conv FROM Conversation ORDER BY conv"):
        for device in devices:
            if device.session is not None and await device.session.read_log(str(conv)):
                break
        else:
            rows = "SELECT seq, sender, sender_key, msg, ts FROM Message WHERE conv = ? ORDER BY seq"
            for seq, sender, key, text, ts in world.cluster.engine.look(rows, (str(conv),)):
                world.record(Logged, conv, seq, sender, key and bytes(key).decode(), text, ts)
            world.record(LogRead, conv, 0)


@contextmanager
def _listening(wrong: list[str], counts: dict[str, int]) -> Iterator[None]:
    """What the nodes log and never should is wrong; the rest is counted."""

    def processor(_: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.ProcessorReturnValue:
        name = str(event["event"])
        counts[name] = counts.get(name, 0) + 1
        if method in {"error", "exception", "critical"} or name in _DEFECTS:
            details = {key: value for key, value in event.items() if key not in {"event", "exc_info"}}
            failure = f"\n{traceback.format_exc()}" if event.get("exc_info") else ""
            wrong.append(f"a node logged {name!r} {details}{failure}")
        raise structlog.DropEvent

    before: dict[str, Any] = structlog.get_config()
    structlog.configure(
        processors=[processor], wrapper_class=structlog.stdlib.BoundLogger, cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
