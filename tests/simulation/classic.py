"""A simulated client of the classic dialect, whose frames end with a newline or with NUL, and what it may expect.

It sees no `seq`, so each text that anybody sends in a simulation occurs once, and what it got is compared with the logs at
the end: on a connection rising and without a hole, over all its connections without a loss. A message counts as received
once its frame is with the kernel: what was there, whole, when a connection ended may be lost, and nothing else.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import attrs
import trio

from tests.simulation.cluster import Refused
from tests.simulation.streams import ClientEnd
from tests.simulation.world import Account, Phase, World
from trio_chat.transport.contract import TransportBroken
from trio_chat.verify.courses import Courses
from trio_chat.verify.history import Closed, Logged, LoggedIn, Opened, Requested
from trio_chat.wire.classic import BUFFER
from trio_chat.wire.conversation import direct_conv, group_conv, parse_conv
from trio_chat.wire.messages import Kind

__all__ = ["ClassicDevice"]

Frame = dict[str, Any]

_PATIENCE = 8.0


class _Gone(Exception):
    """The connection has ended."""


@attrs.define(eq=False)
class _Visit:
    """What came over one connection: texts, without those parts of long ones that follow the first.

    `rest` is the beginning of a frame whose end has not come.
    """

    number: int
    line: ClientEnd
    texts: list[str] = attrs.field(factory=list)
    rest: bytes = b""

    def lost(self, terminator: bytes) -> Iterator[str]:
        """What the node had handed to the kernel, and the client never read."""
        for frame in (self.rest + self.line.line.to_client.rest()).split(terminator)[:-1]:
            yield from _texts_in(frame)


class ClassicDevice:
    """The one device of its account, which nothing else logs in to."""

    def __init__(self, world: World, account: Account, name: str, chance: random.Random) -> None:
        self.world = world
        self.account = account
        self.name = name
        self.chance = chance
        self.logged_in = False
        self.visits: list[_Visit] = []
        self._terminator = chance.choice([b"\0", b"\n"])
        self._answers: dict[Kind, tuple[trio.Event, Frame]] = {}

    @property
    def ready(self) -> bool:
        return self.logged_in

    async def run(self) -> None:
        """Until the logs are read."""
        while self.world.phase < Phase.READING:
            try:
                line = self.world.cluster.connect(self.chance)
            except Refused:
                await trio.sleep(self.chance.uniform(0.05, 0.3))
                continue
            await self._visit(line)
            await trio.sleep(self.chance.expovariate(5))

    async def _visit(self, line: ClientEnd) -> None:
        number = next(self.world.numbers)
        self.visits.append(_Visit(number, line))
        self.world.record(Opened, number)
        why = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, line)
                await self._log_in(line, number)
                await self._act(line, number)
        except* _Gone as gone:
            why = "; ".join(str(error) for error in gone.exceptions)
        except* TransportBroken:
            why = "broken"
        self.logged_in = False
        self.world.record(Closed, number, why)
        line.close()

    def _send(self, line: ClientEnd, kind: Kind, **fields: Any) -> None:
        line.send(json.dumps({"msgid": int(kind), **fields}).encode() + self._terminator)

    async def _call(self, line: ClientEnd, kind: Kind, answer: Kind, **fields: Any) -> Frame:
        event, frame = self._answers[answer] = trio.Event(), {}
        self._send(line, kind, **fields)
        with trio.move_on_after(_PATIENCE):
            await event.wait()
            return frame
        raise _Gone(f"no answer to {kind.name}")

    async def _log_in(self, line: ClientEnd, number: int) -> None:
        account = self.account
        while not account.id:
            answer = await self._call(
                line, Kind.REGISTER, Kind.REGISTER_ACK, name=account.name, password=account.password
            )
            if answer["errno"] == 1:
                # The answer to an earlier attempt was lost. These clients know no login by name: people try ids.
                account.id = self.world.cluster.engine.look("SELECT id FROM User WHERE name = ?", (account.name,))[0][0]
            account.id = answer.get("id", account.id)
        while not self.logged_in:
            answer = await self._call(line, Kind.LOGIN, Kind.LOGIN_ACK, id=account.id, password=account.password)
            if answer["errno"]:
                await trio.sleep(self.chance.uniform(0.1, 0.5))
                continue
            self.logged_in = True
            groups = [json.loads(text)["id"] for text in answer.get("groups", [])]
            account.groups = dict.fromkeys(groups)
            self.world.groups.update(account.groups)
            self.world.record(LoggedIn, number, account.id, [group_conv(group) for group in groups])

    async def _act(self, line: ClientEnd, number: int) -> None:
        world, chance = self.world, self.chance
        while world.phase is Phase.UNREST:
            await trio.sleep(chance.expovariate(1 / world.plan.action_gap))
            if chance.random() < world.plan.restless:
                if chance.random() < 0.5:
                    line.line.reset()
                raise _Gone("closed")
            draw = chance.random()
            if draw < 0.7:
                self._talk(line, number)
            elif draw < 0.8 and world.groups:
                group = chance.choice(list(world.groups))
                world.record(Requested, number, next(world.numbers), "JOIN_GROUP", group_conv(group))
                self._send(line, Kind.JOIN_GROUP, groupid=group)
            elif draw < 0.9:
                others = [account.id for account in world.accounts if account.id]
                self._send(line, Kind.ADD_FRIEND, friendid=chance.choice(others))
        while world.phase < Phase.READING:
            await trio.sleep(0.5)
        raise _Gone("the end")

    def _talk(self, line: ClientEnd, number: int) -> None:
        world, account = self.world, self.account
        text = f"{self.name}/{next(world.numbers)}"
        if account.groups and self.chance.random() < 0.5:
            group = self.chance.choice(list(account.groups))
            world.record(Requested, number, next(world.numbers), "GROUP", group_conv(group), None, text)
            self._send(line, Kind.GROUP, groupid=group, msg=text)
        else:
            target = self.chance.choice([other.id for other in world.accounts if other.id])
            conv = direct_conv(account.id, target)
            world.record(Requested, number, next(world.numbers), "DIRECT", conv, None, text)
            self._send(line, Kind.DIRECT, toid=target, msg=text)

    async def _read(self, line: ClientEnd) -> None:
        visit = self.visits[-1]
        while data := await line.receive():
            *frames, visit.rest = (visit.rest + data).split(self._terminator)
            for frame in frames:
                self._take(frame)
        raise _Gone("closed by the node")

    def _take(self, frame: bytes) -> None:
        if self._terminator == b"\0" and len(frame) >= BUFFER:
            self.world.complaints.append(f"{self.name}: a frame of {len(frame)} bytes kills such a client")
        fields = json.loads(frame)
        if fields["msgid"] in self._answers:
            event, answer = self._answers.pop(fields["msgid"])
            answer.update(fields)
            event.set()
        self.visits[-1].texts.extend(_texts_in(frame))

    # -- the end of the run -------------------------------------------------------------------------------------------

    def check(self, courses: Courses) -> Iterator[str]:
        """What is wrong with what it got, in words."""
        facts, user = courses.facts, self.account.id
        places = {message.text: (conv, seq) for conv, log in facts.logs.items() for seq, message in log.items()}
        places = {_head(text): place for text, place in places.items()}
        got: set[tuple[str, int]] = set()
        for visit in self.visits:
            yield from self._check_visit(visit, places, courses, got)
            got.update(places[text] for text in visit.lost(self._terminator) if text in places)
        for conv, log in facts.logs.items():
            if not courses.is_party(user, conv) or (base := courses.base(user, conv, len(facts.records) - 1)) is None:
                continue
            for seq, message in log.items():
                if seq > base and (conv, seq) not in got and not self._is_own(message):
                    yield f"{self.name} never got {conv}/{seq} ({_head(message.text)!r})"

    def _check_visit(
        self, visit: _Visit, places: dict[str, tuple[str, int]], courses: Courses, got: set[tuple[str, int]]
    ) -> Iterator[str]:
        where = f"{self.name}, connection {visit.number}"
        last: dict[str, int] = {}
        for text in visit.texts:
            if text not in places:
                yield f"{where}: got {text!r}, which is in no log"
                continue
            conv, seq = places[text]
            parties = parse_conv(conv)
            if parties.users is not None and self.account.id not in parties.users:
                yield f"{where}: got {text!r} of {conv}"
            got.add((conv, seq))
            before = last.get(conv)
            last[conv] = seq
            if before is None:
                continue
            if seq <= before:
                yield f"{where}: got {conv}/{seq} after {conv}/{before}"
            if courses.membership(self.account.id, conv).ends:
                continue  # he may have been out in between
            for between in range(before + 1, seq):
                if not self._is_own(courses.facts.logs[conv][between]):
                    yield f"{where}: got {conv}/{seq} next after {conv}/{before}"
                    break

    def _is_own(self, message: Logged) -> bool:
        return message.sender == self.account.id


def _head(text: str) -> str:
    """What is left of a long text where it is split: its first word says which it is."""
    return text.split(maxsplit=1)[0]


def _texts_in(frame: bytes) -> Iterator[str]:
    """The messages of a frame, by their first words; of one that is not whole none."""
    try:
        fields = json.loads(frame)
    except ValueError:
        return
    inner = [fields, *(json.loads(text) for text in fields.get("offlinemsg", []))]
    for message in inner:
        if message["msgid"] in {Kind.DIRECT, Kind.GROUP} and message["msg"].strip("."):
            yield _head(message["msg"])
