"""A run: the load and its faults, then quiet, then the logs; and what the checker says of it."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Iterator

import attrs
import trio

from trio_chat.verify.checker import check
from trio_chat.verify.facts import Promises, Violation
from trio_chat.verify.faults import Faults
from trio_chat.verify.history import Delivered, Logged, LogRead, Record, Requested
from trio_chat.verify.link import LinkBroken, delivered
from trio_chat.verify.load import Load, Refused
from trio_chat.verify.plan import FaultPlan, Plan
from trio_chat.verify.programs.process import ServiceError
from trio_chat.verify.recorder import Recorder
from trio_chat.verify.setups import Setup
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.messages import Kind

__all__ = ["CannotVerify", "Outcome", "run"]

#: Quiet is when nothing has been delivered or acknowledged for so long (seconds).
_QUIET = 2.5
_READ = 60.0
#: How often the progress is shown: on a terminal, and elsewhere.
_LIVE, _LINES = 0.2, 5.0


class CannotVerify(Exception):
    """The run could not be made, which says nothing about the promises. The text is for people."""


@attrs.frozen
class Outcome:
    records: list[Record]
    violations: list[Violation]


async def run(setup: Setup, plan: Plan, seconds: float, promises: Promises | None = None) -> Outcome:
    """Load and break, then check. SIGINT and SIGTERM end the load early; a second one ends everything.

    Raises `CannotVerify`, and `KeyboardInterrupt` for the second signal.
    """
    recorder = Recorder()
    load = Load(plan, setup.addresses, recorder, name=f"verify {secrets.token_hex(4)}")
    promises = promises or Promises()
    failures: list[Violation] = []
    try:
        async with trio.open_nursery() as nursery:
            loading = trio.CancelScope()
            nursery.start_soon(_obey_signals, loading)
            nursery.start_soon(_show_progress, recorder, seconds)
            with loading:
                await load.set_up()
                nursery.start_soon(load.run)
                try:
                    await _break_for(seconds, Faults(setup, load, recorder), plan.faults)
                except* ServiceError as group:
                    failures = list(_not_back(recorder, group))
            await _settle(load, recorder, promises)
            recorder.stop()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(_READ) as reading:
            recorder.records += await _read_logs(load, recorder.records)
        if reading.cancelled_caught:
            raise CannotVerify(f"the conversations could not be read within {_READ:.0f} s after the run")
    except BaseExceptionGroup as group:
        raise _cause(group) from None
    except (LinkBroken, Refused) as error:
        raise CannotVerify(str(error)) from None
    return Outcome(recorder.records, [*failures, *check(recorder.records, promises)])


def _cause(group: BaseExceptionGroup) -> BaseException:
    """What a run ended with, where that is one of the things it may end with; else the group itself."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    if isinstance(leaf, (LinkBroken, Refused, ServiceError)):
        return CannotVerify(str(leaf))
    return leaf if isinstance(leaf, (KeyboardInterrupt, CannotVerify)) else group


async def _obey_signals(loading: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await signals.__anext__()
        loading.cancel()
        await signals.__anext__()
        raise KeyboardInterrupt


async def _break_for(seconds: float, faults: Faults, plan: tuple[FaultPlan, ...]) -> None:
    began = trio.current_time()
    await faults.run(plan, seconds)
    await trio.sleep_until(began + seconds)


def _not_back(recorder: Recorder, group: BaseExceptionGroup[ServiceError]) -> Iterator[Violation]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _not_back(recorder, error)
        else:
            yield Violation("does-not-come-back", str(error), list(recorder.faults.values()))


async def _settle(load: Load, recorder: Recorder, promises: Promises) -> None:
    """All is whole: wait until everything is acknowledged and delivered and everybody knows who is there.

    Bounded: what is not settled by then is for the checker to judge.
    """
    with trio.move_on_after(2 * promises.answer):
        await load.finish()
    with trio.move_on_after(promises.node_death + 2 * promises.presence):
        while not load.settled or recorder.now() < recorder.moved + _QUIET:
            await trio.sleep(0.1)


async def _read_logs(load: Load, records: list[Record]) -> list[Record]:
    """Every conversation that somebody wrote to, as HISTORY has it."""
    accounts = {account.id: account for account in load.accounts}
    founders = {load.groups[number]: load.accounts[who].id for number, who in enumerate(load.plan.founders)}
    convs = {record.conv for record in records if isinstance(record, (Requested, Delivered)) and record.conv}
    readers: dict[int, list[str]] = {}
    for conv in sorted(convs):
        parties = parse_conv(conv)
        reader = founders[parties.groupid] if parties.groupid is not None else (parties.users or (0,))[0]
        readers.setdefault(reader, []).append(conv)
    found: list[Record] = []
    for user, theirs in readers.items():
        while True:
            try:
                found += await _read_as(load, accounts[user].name, theirs)
            except* LinkBroken:
                await trio.sleep(0.2)
            else:
                break
    return found


async def _read_as(load: Load, name: str, convs: list[str]) -> list[Record]:
    found: list[Record] = []
    async with load.connected(Recorder()) as link:
        await load.ask(link, Kind.LOGIN, name=name, password=load.password(name))
        for conv in convs:
            last, more = 0, True
            while more:
                page = await load.ask(link, Kind.HISTORY, conv=conv, after=last, limit=200)
                for frame in page["messages"]:
                    each = delivered(frame, trio.current_time(), link.number)
                    found.append(Logged(each.at, conv, each.seq, each.sender, each.key, each.text, each.ts))
                    last = each.seq
                more = page["more"]
            found.append(LogRead(trio.current_time(), conv, link.user))
    return found


async def _show_progress(recorder: Recorder, seconds: float) -> None:
    """On a terminal one line that changes; elsewhere a line every few seconds. Until cancelled."""
    live = sys.stderr.isatty()
    began = trio.current_time()
    marks = [(began, 0)]
    try:
        while True:
            await trio.sleep(_LIVE if live else _LINES)
            now = trio.current_time()
            marks = [*marks[-25:], (now, recorder.acknowledged)]
            rate = (marks[-1][1] - marks[0][1]) / (now - marks[0][0])
            broken = ", ".join(f"{fault.kind} {fault.target}" for fault in recorder.faults.values())
            line = (
                f"{min(now - began, seconds):4.0f} of {seconds:.0f} s  {recorder.acknowledged:7,} acknowledged "
                f"({rate:,.0f}/s)  {recorder.connected} connected  {broken}"
            )
            print(f"\r\x1b[K{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
