"""What attacks cost everybody else: `python -m bench.attacks`, or `nox -s bench` for the other figures.

Some pairs of people chat at a steady pace; each attack runs beside them in a process of its own, on one server with its
default limits (but that the time until a login is short, so that one sees it end, and LOGIN_ACKs are). What is measured is how long their
messages take from sending to delivery, and how much memory the server holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.attackers import ATTACKS
from bench.machine import CpuTimes
from tests.faults.population import Person, add_group, add_people, open_database, resident
from trio_chat.address import Address
from trio_chat.config import Limits, Settings
from trio_chat.services.passwords import Passwords
from trio_chat.verify.programs.process import ServiceProcess, accepts, free_port
from trio_chat.wire.messages import Kind

__all__ = ["Bystanders", "Measured", "Sizes", "Town", "measure", "town"]

_DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
_REPOSITORY = Path(__file__).resolve().parent.parent


@attrs.frozen
class Sizes:
    """How many there are of each, and for how many seconds each attack is measured.

    `group` are a group's members with a visitor, `here` those of them who are connected, `members` how many a list has.
    """

    pairs: int = 20
    idle: int = 10_000
    slow: int = 1000
    deaf: int = 300
    group: int = 10_000
    here: int = 3000
    members: int = 20
    heartbeat: float = 3.0
    storm: int = 200
    seconds: float = 10.0
    login_seconds: int = 30


@attrs.frozen
class Measured:
    """`times` are those from sending to delivery, in seconds, sorted; `memory` in bytes, before the attack and the most."""

    attack: str
    times: list[float]
    sent: int
    before: int
    memory: int
    cpu: float
    found: dict[str, Any]

    def within(self, share: float) -> float:
        return self.times[min(len(self.times) - 1, int(len(self.times) * share))]


@attrs.frozen
class Town:
    """A server with people; the first of them chat in pairs, the others are the attackers' accounts."""

    address: Address
    pid: int
    people: list[Person]
    pairs: int

    def attackers(self, count: int) -> list[Person]:
        return self.people[2 * self.pairs : 2 * self.pairs + count]

    def knowledge(self, attack: str, sizes: Sizes) -> dict[str, Any]:
        """What an attack is told."""
        if attack == "idle":
            return {"count": sizes.idle}
        if attack in ("storm", "stubborn"):
            victims = self.people[: 2 * self.pairs] if attack == "storm" else self.attackers(sizes.slow)
            return {"count": sizes.storm, "ids": [each.id for each in victims[:100]]}
        count = {"deaf": sizes.deaf, "crowd": min(sizes.here, sizes.group - 1), "flood": 3}.get(attack, sizes.slow)
        sender, *others = self.attackers(count)
        return {
            "sender": sender.token,
            "tokens": [each.token for each in others],
            "ids": [each.id for each in others],
            "group": 1,
            "members": sizes.group,
            "visitor": self.attackers(sizes.group)[-1].token,
        }


@contextmanager
def town(directory: Path, sizes: Sizes, *options: str) -> Iterator[Town]:
    """Start it; everything ends with the block."""
    url = f"sqlite:///{directory / 'chat.db'}"
    count = 2 * sizes.pairs + max(sizes.slow, sizes.deaf, sizes.group)

    async def settle() -> list[Person]:
        async with open_database(url) as database:
            # Those who chat have a password, so that to try it costs a hash; with the others a try is quickly over.
            hashed = await Passwords(1).hash("a secret")
            people = await add_people(database, 2 * sizes.pairs, hashed=hashed)
            people += await add_people(database, count - len(people), first=len(people) + 1)
            await add_group(database, 1, people[2 * sizes.pairs : 2 * sizes.pairs + sizes.group - 1])
            return people

    people = trio.run(settle)
    port = free_port()
    command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", f"127.0.0.1:{port}", "--http", "off"]
    command += ["--database", url, "--log-level", "error", "--heartbeat", str(sizes.heartbeat), *options]
    command += ["--limit", f"login_seconds={sizes.login_seconds}", "--limit", f"members={sizes.members}"]
    server = ServiceProcess(
        "server",
        command,
        directory=directory,
        ready=lambda: accepts(port),
        env={"PYTHONPATH": os.fspath(_REPOSITORY)},
        stop_timeout=20.0,
    )
    with server:
        yield Town(Address("127.0.0.1", port), server.pid, people, sizes.pairs)


class Bystanders:
    """Pairs of people, of whom one sends ten messages a second to the other."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.sent = 0

    async def run(self, place: Town) -> None:
        """Chat until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(0, 2 * place.pairs, 2):
                sender, receiver = place.people[number : number + 2]
                nursery.start_soon(self._receive, place.address, receiver)
                nursery.start_soon(self._send, place.address, sender, receiver, number / (2 * place.pairs) / 10)

    async def _send(self, address: Address, me: Person, other: Person, offset: float) -> None:
        async with _logged_in(address, me) as (stream, _), trio.open_nursery() as nursery:
            nursery.start_soon(_drain, stream)
            due = trio.current_time() + offset
            while True:
                await trio.sleep_until(due)
                self.sent += 1
                # The time at which it was due: a server that holds the sender up does not hide it.
                await _say(stream, Kind.DIRECT, toid=other.id, msg="hello", time=repr(due))
                due += 0.1

    async def _receive(self, address: Address, me: Person) -> None:
        async with _logged_in(address, me) as (stream, buffer):
            while True:
                frame, end, rest = buffer.partition(b"\n")
                if not end:
                    data = await stream.receive_some(65536)
                    if not data:
                        raise ConnectionError("the server has hung up on a bystander")
                    buffer += data
                    continue
                buffer = rest
                message = json.loads(frame)
                if message["msgid"] == Kind.DIRECT:
                    self.times.append(trio.current_time() - float(message["time"]))
                    await _say(stream, Kind.RECEIVED, conv=message["conv"], seq=message["seq"])


async def _say(stream: trio.SocketStream, kind: Kind, **fields: Any) -> None:
    await stream.send_all(json.dumps({"msgid": int(kind), **fields}).encode() + b"\n")


async def _drain(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass
    raise ConnectionError("the server has hung up on a bystander")


@asynccontextmanager
async def _logged_in(address: Address, who: Person) -> AsyncIterator[tuple[trio.SocketStream, bytes]]:
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        await _say(stream, Kind.HELLO, version=1)
        await _say(stream, Kind.LOGIN, token=who.token)
        buffer = b""
        while buffer.count(b"\n") < 2:
            buffer += await stream.receive_some(65536)
        yield stream, buffer.split(b"\n", 2)[2]


async def measure(place: Town, attack: str | None, sizes: Sizes) -> Measured:
    """The bystanders' messages, and what the server costs, while an attack runs."""
    bystanders = Bystanders()
    before = memory = resident(place.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystanders.run, place)
        await trio.sleep(1.0)
        async with _attack(place, attack, sizes) as found:
            bystanders.times.clear()
            bystanders.sent = 0
            cpu, began = CpuTimes.now({"server": [place.pid]}), time.monotonic()
            while time.monotonic() < began + sizes.seconds:
                await trio.sleep(0.2)
                memory = max(memory, resident(place.pid))
            used = CpuTimes.now({"server": [place.pid]}).since(cpu)["server"] / (time.monotonic() - began)
        nursery.cancel_scope.cancel()
    return Measured(attack or "none", sorted(bystanders.times), bystanders.sent, before, memory, used, found)


@asynccontextmanager
async def _attack(place: Town, attack: str | None, sizes: Sizes) -> AsyncIterator[dict[str, Any]]:
    """Runs it in the block; afterwards the yielded facts have what came of it."""
    found: dict[str, Any] = {}
    if attack is None:
        yield found
        return
    command = [sys.executable, "-m", "bench.attackers", attack, str(place.address)]
    start = partial(
        trio.lowlevel.open_process,
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_REPOSITORY,
    )
    process = await start()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdin.send_all(json.dumps(place.knowledge(attack, sizes)).encode() + b"\n")
        lines = _Lines(process.stdout)
        with trio.fail_after(300):
            found.update(await lines.next())
        yield found
        await process.stdin.aclose()
        with trio.fail_after(120):
            found.update(await lines.next())
            await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


class _Lines:
    """Lines of JSON that a program prints."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def next(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = await self._stream.receive_some(65536)
            if not data:
                raise RuntimeError("the attackers have failed; their words are above")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def table(results: list[Measured]) -> str:
    """As a table in Markdown."""
    rows = [
        "| attack | messages | p50 / p99 / longest, ms | server: memory before → most, MiB | CPU | what came of it |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for each in results:
        times = " / ".join(f"{each.within(share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))
        memory = f"{each.before / 2**20:.0f} → {each.memory / 2**20:.0f}"
        found = ", ".join(f"{name}: {value:,}" for name, value in each.found.items())
        rows.append(f"| {each.attack} | {len(each.times):,} | {times} | {memory} | {each.cpu:.0%} | {found} |")
    return "\n".join(rows) + "\n"


def _update(text: str) -> None:
    before, begin, rest = _DOCUMENT.read_text(encoding="utf-8").partition("<!-- attacks begin -->\n")
    _, end, after = rest.partition("<!-- attacks end -->")
    if not end:
        raise ValueError(f"{_DOCUMENT} has lost the marks around the table of attacks")
    _DOCUMENT.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(ATTACKS), help="only this attack (repeatable)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is measured (default 10)")
    parser.add_argument("--update-docs", action="store_true", help="put the figures into docs/performance.md")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = Sizes(seconds=options.seconds)
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        for attack in [None, *(options.only or ATTACKS)]:
            # A server for each: what one attack leaves in memory is not the next one's.
            directory = Path(place) / (attack or "none")
            directory.mkdir()
            these = sizes
            if attack == "crowd":
                # Elsewhere lists of members, in thousands of LOGIN_ACKs, are not what is to be measured; and it takes a while.
                these = attrs.evolve(sizes, members=Limits().members, heartbeat=Settings().heartbeat)
            with town(directory, these) as server:
                results.append(trio.run(measure, server, attack, these))
            print(table(results[-1:]).splitlines()[-1], flush=True)
    text = table(results)
    if options.update_docs:
        _update(f"`python -m bench.attacks`, {time.strftime('%Y-%m-%d')}:\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
