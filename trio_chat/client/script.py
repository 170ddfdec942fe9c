"""`python -m trio_chat script FILE…`: play scenarios of several people against a server.

Prints one line for each that passes and, for each that does not, the first difference. The exit status is 0 where all
passed, 1 where a server did something else than a scenario says, 2 where a scenario or an address cannot be used.

A scenario is played like this: each person is a connection, each step is done in turn, the first difference ends it.
It speaks the wire as it is, without the client library, so that it can be played against any server of the family.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from trio_chat.client.options import DEFAULT_SERVER, Endpoint
from trio_chat.client.script_file import (
    Abort,
    Close,
    Closed,
    Connect,
    Expect,
    Nothing,
    Scenario,
    ScenarioError,
    Send,
    Step,
    Wait,
    load,
)
from trio_chat.client.script_matching import UnknownVariable, differences, find, resolve
from trio_chat.client.script_person import Person, WireError
from trio_chat.errors import ChatError
from trio_chat.wire.messages import Kind

__all__ = ["Difference", "add_arguments", "main", "play"]

_GREETING = 5.0


class Difference(ChatError):
    """The server did something else than the scenario says: `where` it was, `reasons` what differs, one line each.

    `expected` and `received` are what was compared, as text; empty where there is nothing to show.
    """

    def __init__(self, where: str, reasons: Sequence[str], expected: str = "", received: str = "") -> None:
        self.where = where
        self.reasons = list(reasons)
        self.expected = expected
        self.received = received
        lines = [where, *(f"  {reason}" for reason in reasons)]
        if expected:
            lines.append(f"  expected {expected}")
        if received:
            lines.append(f"  received {received}")
        super().__init__("\n".join(lines))


async def play(scenario: Scenario, addresses: Sequence[str | Endpoint], *, unique: str | None = None) -> None:
    """Play a scenario against the servers at `addresses`, of which each connection uses the one it names.

    `unique` is what `$unique` stands for; by default something new in each run. Raises `Difference`, `ScenarioError` where the
    scenario itself is wrong (a variable that nobody saved, a person who is not connected), and `OSError` where a server
    cannot be connected to. Cancelling is safe. Works on asyncio and on Trio.
    """
    parsed = [address if isinstance(address, Endpoint) else Endpoint.parse(address) for address in addresses]
    playing = _Playing(scenario, parsed, unique or secrets.token_hex(4))
    failure: ChatError | OSError | None = None
    async with anyio.create_task_group() as tasks:
        try:
            await playing.run(tasks)
        except (ChatError, OSError) as error:
            failure = error  # raised below, outside of the task group, so that it comes as it is
        finally:
            with anyio.move_on_after(1, shield=True):  # it does not wait for anybody
                await playing.hang_up()
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Playing:
    def __init__(self, scenario: Scenario, addresses: Sequence[Endpoint], unique: str) -> None:
        self._scenario = scenario
        self._addresses = addresses
        self._variables: dict[str, Any] = {"unique": unique}
        self._people: dict[str, Person] = {}
        self._where = ""

    async def run(self, tasks: TaskGroup) -> None:
        scenario = self._scenario
        for number, step in enumerate(scenario.steps, 1):
            line = scenario.lines[number - 1] if scenario.lines else 0
            self._where = f"{scenario.file or scenario.about}, step {number}{f' (line {line})' if line else ''}"
            try:
                await self._step(step, tasks)
            except (UnknownVariable, LookupError) as error:
                raise ScenarioError(f"{self._where}: {error}") from None
            except WireError as error:
                raise Difference(self._where, [str(error)]) from None

    async def hang_up(self) -> None:
        """Close the connections that no step has closed."""
        for person in self._people.values():
            await person.close()

    async def _step(self, step: Step, tasks: TaskGroup) -> None:
        match step:
            case Connect():
                await self._connect(step, tasks)
            case Send():
                await self._person(step.send).send(self._bytes(step), step.pieces)
            case Expect():
                await self._expect(step)
            case Nothing():
                await self._nothing(step)
            case Closed():
                await self._closed(step)
            case Close():
                await self._people.pop(self._person(step.close).name).close()
            case Abort():
                await self._people.pop(self._person(step.abort).name).abort()
            case Wait():
                await anyio.sleep(step.wait)

    def _person(self, name: str) -> Person:
        if name not in self._people:
            raise ScenarioError(f"{self._where}: {name} is not connected")
        return self._people[name]

    async def _connect(self, step: Connect, tasks: TaskGroup) -> None:
        if step.connect in self._people:
            raise ScenarioError(f"{self._where}: {step.connect} is connected already")
        address = self._addresses[step.via % len(self._addresses)]
        person = await Person.connect(step, address)
        self._people[step.connect] = person
        tasks.start_soon(person.listen)
        if step.dialect == "modern":
            await person.send(person.terminated({"msgid": int(Kind.HELLO), "version": 1, "client": "scenario"}))
            hello = await self._receive(person, 1, _GREETING)
            self._compare({"msgid": int(Kind.HELLO_ACK), "version": 1}, hello[0])

    def _bytes(self, step: Send) -> bytes:
        if step.raw is not None:
            return str(resolve(step.raw, self._variables)).encode()
        if step.hex is not None:
            return bytes.fromhex(step.hex)
        frames = step.frames if step.frames is not None else [step.frame or {}]
        person = self._person(step.send)
        return b"".join(person.terminated(resolve(frame, self._variables)) for frame in frames)

    async def _expect(self, step: Expect) -> None:
        person = self._person(step.expect)
        expected = step.frames if step.frames is not None else [step.frame or {}]
        received = await self._receive(person, len(expected), step.within, expected)
        if step.unordered:
            received = self._in_order(expected, received)
        for wanted, frame in zip(expected, received, strict=True):
            self._compare(wanted, frame, person.name)
        for variable, path in step.save.items():
            whole: Any = received if step.frames is not None else received[0]
            try:
                self._variables[variable] = find(whole, path)
            except (LookupError, ValueError, TypeError):
                raise Difference(self._where, [f"there is no {path} to save"], received=_show(whole)) from None

    async def _receive(
        self, person: Person, count: int, within: float, expected: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        frames: list[dict[str, Any]] = []
        with anyio.move_on_after(within):
            for _ in range(count):
                frame = await person.receive()
                frames.append(frame)
        if len(frames) < count:
            got = f"{person.name} received {len(frames)} of {count} frames within {within:g} s"
            wanted = _show(expected[len(frames)]) if expected else ""
            raise Difference(self._where, [got], wanted, ", ".join(map(_show, frames)))
        return frames

    def _in_order(self, expected: Sequence[Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The received frames in the order of those that they match; as they came where they do not."""
        left = list(received)
        ordered: list[dict[str, Any]] = []
        for wanted in expected:
            fitting = [frame for frame in left if not any(differences(wanted, frame, self._variables))]
            if not fitting:
                raise Difference(
                    self._where, ["no frame is like one that is expected"], _show(wanted), ", ".join(map(_show, left))
                )
            ordered.append(fitting[0])
            left.remove(fitting[0])
        return ordered

    def _compare(self, expected: Any, received: Any, who: str = "") -> None:
        reasons = list(differences(expected, received, self._variables))
        if reasons:
            reasons[0] = f"{who}: {reasons[0]}" if who else reasons[0]
            raise Difference(self._where, reasons, _show(expected), _show(received))

    async def _nothing(self, step: Nothing) -> None:
        people = [self._person(name) for name in step.nothing]
        await anyio.sleep(step.lasting)
        for person in people:
            frame = person.receive_nowait()
            if frame is not None:
                raise Difference(self._where, [f"{person.name} expected nothing"], received=_show(frame))

    async def _closed(self, step: Closed) -> None:
        person = self._person(step.closed)
        with anyio.move_on_after(step.within) as patience:
            await person.wait_closed()
        if patience.cancelled_caught:
            late = f"the server has not closed {person.name}'s connection within {step.within:g} s"
            raise Difference(self._where, [late])
        await self._people.pop(step.closed).close()


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 1000 else f"{text[:800]} … ({len(text)} characters)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `main`."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a scenario in TOML")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT[,HOST:PORT]",
        default=DEFAULT_SERVER,
        help="the server, or the nodes of a cluster, among which the scenario's connections choose; default %(default)s",
    )


def main(args: argparse.Namespace) -> int:
    """Play the files in turn; see the head of this file for the exit status."""
    try:
        addresses = [Endpoint.parse(server) for server in args.server.split(",")]
        scenarios = [load(file) for file in args.files]
    except (ChatError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return anyio.run(_play_all, scenarios, addresses, backend="trio")


async def _play_all(scenarios: list[Scenario], addresses: list[Endpoint]) -> int:
    status = 0
    for scenario in scenarios:
        try:
            await play(scenario, addresses)
        except Difference as difference:
            print(f"FAIL {difference}")
            status = max(status, 1)
        except ChatError as error:
            print(f"FAIL {error}")
            status = 2
        except OSError as error:
            print(f"FAIL {scenario.file}: {error}; is a server running? start one: trio-chat serve")
            status = 2
        else:
            print(f"ok   {scenario.file}: {scenario.about}")
    return status
