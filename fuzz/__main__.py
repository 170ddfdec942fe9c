"""`python -m fuzz pure` and `python -m fuzz live`: each says what it has done, and fails with what it has found."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import attrs
import trio

from fuzz.live import Attacker, Bystander, Finding, Target, noise, prepare
from fuzz.process import Held, held
from fuzz.pure import TARGETS, hunt, with_atheris
from trio_chat import Settings
from trio_chat.config import Address
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.process import free_port

#: How much more memory the server may hold in the end than after its first frames, in MiB: what it remembers is bounded.
MORE_MEMORY = 48.0
#: How long the bystander's messages may take, in seconds, the slowest hundredth of them left out.
BYSTANDER = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what everything follows from; by chance where left out")
    parts = parser.add_subparsers(required=True, metavar="PART")
    pure = parts.add_parser("pure", help="the splitter, the decoder, the session's machine, in this process")
    pure.set_defaults(run=_pure)
    pure.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    pure.add_argument("--target", choices=[*TARGETS], help="only this one")
    pure.add_argument("--atheris", action="store_true", help="let atheris choose the bytes for --target")
    live = parts.add_parser("live", help="a server process, over TCP and WebSocket, in both dialects")
    live.set_defaults(run=_live)
    live.add_argument("--frames", type=int, default=1_000_000, help="so many in all (1,000,000)")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    print(f"seed {options.seed}")
    try:
        status: int = options.run(options)
    except BaseExceptionGroup as group:
        found, rest = group.split(Finding)
        if found is None or rest is not None:
            raise
        print(f"FOUND: {_first(found)}")
        return 1
    return status


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _pure(options: argparse.Namespace) -> int:
    if options.atheris:
        with_atheris(options.target, [f"-max_total_time={int(options.seconds)}"])
    for name in [options.target] if options.target else TARGETS:
        print(f"{name}: {hunt(name, options.seed, seconds=options.seconds):,} inputs, nothing found")
    return 0


def _live(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        http = Address("127.0.0.1", free_port())
        settings = Settings(database=f"sqlite:///{directory}/chat.db")
        flags = ["--http", str(http), "--log-level", "info", "--pace", "0.001", "--limit", "all=off"]
        node = ChatNode(Path(directory), "fuzzed", settings, *flags)
        node.start()
        try:
            return trio.run(_attack, node, Target(node.address, http), options.frames, options.seed)
        finally:
            node.stop()
            ended = [event for event in node.events() if event["event"] == "closing a connection"]
            for event in [*_failures(node)[:3], *ended[-3:]]:
                print("the server's log:", event.pop("exception", ""), event)


async def _attack(node: ChatNode, target: Target, frames: int, seed: int) -> int:
    accounts, place = await prepare(target, 11)
    bystander = Bystander(target, (accounts[-1], accounts[-2]))
    place = attrs.evolve(place, users=place.users[:-2])
    ways = [(websocket, modern, b"\n") for websocket in (False, True) for modern in (True, False)] * 2
    ways.append((False, False, b"\0"))
    attackers = [
        Attacker(target, account, place, websocket, modern, seed * 1000 + number, terminator)
        for number, (account, (websocket, modern, terminator)) in enumerate(zip(accounts, ways, strict=False))
    ]
    chance = random.Random(seed)

    async def wave(upto: int) -> int:
        """All send until so many frames have gone out."""
        others = 0
        async with trio.open_nursery() as nursery:
            for attacker in attackers:
                # One that ends its frames with NUL is answered slowly, on purpose.
                share = upto // (len(ways) - 1) if attacker.terminator == b"\n" else upto // 200
                nursery.start_soon(attacker.run, share)
            others += await noise(target, chance, max(20, upto // 2000))
        return others

    # What is held once everything has been in use for a while is what it has to come back to.
    others = await wave(max(frames // 20, 2000))
    before = await _rest(node, target, None)
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander.run)
        others += await wave(frames)
        nursery.cancel_scope.cancel()
    seconds = time.monotonic() - began
    after = await _rest(node, target, before)
    return _report(node, attackers, bystander, others, seconds, before, after)


async def _rest(node: ChatNode, target: Target, goal: Held | None) -> Held:
    """Wait until everybody's connection has ended (and what was held is let go), and look."""
    deadline = trio.current_time() + 20
    while True:
        found = await trio.to_thread.run_sync(held, node.pid, target.http)
        settled = found.connections == 0 and found.accounts == 0 and (goal is None or found.back_to(goal))
        if settled or trio.current_time() > deadline:
            return found
        await trio.sleep(0.2)


def _report(
    node: ChatNode,
    attackers: list[Attacker],
    bystander: Bystander,
    others: int,
    seconds: float,
    before: Held,
    after: Held,
) -> int:
    sent = sum(attacker.sent for attacker in attackers)
    errors: Counter[str] = sum((attacker.errors for attacker in attackers), Counter())
    print(f"{sent:,} frames in {seconds:.0f} s, each answered once; {others:,} pieces of noise")
    print("errors:", ", ".join(f"{name} {count:,}" for name, count in errors.most_common()))
    print("bystander:", bystander.figures())
    print("before:", before)
    print("after: ", after)
    faults = [f"the log has {event['event']}" for event in _failures(node)[:3]]
    lines = node.log_text().splitlines()
    faults += [f"the log has a line that is none: {line[:200]}" for line in lines if not line.startswith("{")][:3]
    if not after.back_to(before) or after.memory > before.memory + MORE_MEMORY:
        faults.append("what was held has not been let go")
    slow = sorted(bystander.seconds)[: max(1, len(bystander.seconds) * 99 // 100)]
    if slow and slow[-1] > BYSTANDER:
        faults.append(f"the bystander waited for {slow[-1]:.1f} s")
    for fault in faults:
        print("FOUND:", fault)
    return 1 if faults else 0


def _failures(node: ChatNode) -> list[dict[str, object]]:
    """What the server has logged of its own defects, or what somebody else has made it log."""
    return [event for event in node.events() if "exception" in event or event.get("event") == "forged"]


if __name__ == "__main__":
    sys.exit(main())
