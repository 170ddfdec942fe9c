"""A simulated person's device that speaks the modern dialect, as a careful client does.

It keeps each message with its key until it is acknowledged, sends it again after every login, says RECEIVED now and then, and
looks for another node when its connection ends. Otherwise it does whatever its seed says: sends in bursts, joins groups,
logs out, breaks off, stops reading, falls silent, leaves groups, removes and blocks people. All that it asks, gets and sees is in the world's history.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from tests.simulation.cluster import Refused
from tests.simulation.streams import ClientEnd
from tests.simulation.world import Account, Phase, World
from trio_chat.transport.contract import TransportBroken
from trio_chat.verify.history import (
    Answered,
    Closed,
    Delivered,
    Left,
    Logged,
    LoggedIn,
    LoggedOut,
    LogRead,
    Noticed,
    Opened,
    Received,
    Requested,
)
from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.messages import Kind

__all__ = ["ModernDevice"]

Frame = dict[str, Any]

#: How long the device waits for an answer to PING or LOGIN before it gives a connection up, in seconds.
_PATIENCE = 8.0
#: Refusals of a message that last, until somebody lets the sender in, or unblocks him.
_KEPT_OUT = frozenset({"not_a_member", "forbidden"})


@attrs.frozen
class _Message:
    kind: Kind
    target: int
    key: str | None
    text: str

    def fields(self) -> Frame:
        where = "toid" if self.kind is Kind.DIRECT else "groupid"
        fields: Frame = {where: self.target, "msg": self.text}
        if self.key is not None:
            fields["key"] = self.key
        return fields


@attrs.define
class _Waiting:
    kind: Kind
    fields: Frame
    since: float
    done: trio.Event = attrs.field(factory=trio.Event)
    answer: Frame = attrs.field(factory=dict)


class _Gone(Exception):
    """The connection has ended, or is given up; the text says why."""


class ModernDevice:
    """One device of an account. `ready` is set while it is logged in, and has nothing left to send or to hear of."""

    def __init__(self, world: World, account: Account, name: str, chance: random.Random) -> None:
        self.world = world
        self.account = account
        self.name = name
        self.session: _Session | None = None
        self.token: str | None = None
        self.unacknowledged: dict[str, _Message] = {}
        self.chance = chance
        self._sent: list[_Message] = []

    @property
    def ready(self) -> bool:
        return self.session is not None and self.session.settled and not self.unacknowledged

    async def run(self) -> None:
        """Until the world is over."""
        world, chance = self.world, self.chance
        while world.phase < Phase.OVER:
            try:
                line = world.cluster.connect(chance)
            except Refused:
                await trio.sleep(chance.uniform(0.05, 0.3))
                continue
            self.session = _Session(self, line)
            await self.session.run()
            self.session = None
            away = chance.random() < 0.2 and world.phase is Phase.UNREST
            await trio.sleep(chance.uniform(1, 8) if away else chance.expovariate(5))

    def message(self) -> _Message | None:
        """A new one, or one that was sent before."""
        world, chance = self.world, self.chance
        if self._sent and chance.random() < 0.1:
            return chance.choice(self._sent)
        text = f"{self.name}/{next(world.numbers)}"
        if chance.random() < 0.05:
            text += " " + "." * chance.randrange(4000)
        # Where it may leave groups it writes to one now and then that it may not be in.
        astray = world.plan.parting > 0 and chance.random() < 0.1
        groups = list(world.groups if astray else self.account.groups)
        if groups and chance.random() < 0.5:
            kind, target = Kind.GROUP, chance.choice(groups)
        else:
            others = [account.id for account in world.accounts if account.id]
            if not others:
                return None
            target = chance.choice(others)
            kind = Kind.DIRECT
        key = None if chance.random() < world.plan.keyless else text[:60]
        message = _Message(kind, target, key, text)
        if key is not None:
            self._sent.append(message)
            self.unacknowledged[key] = message
        return message


class _Session:
    """One connection of a device, from its opening to its end."""

    def __init__(self, device: ModernDevice, line: ClientEnd) -> None:
        self._device = device
        self._world = device.world
        self._chance = device.chance
        self._line = line
        self._number = next(device.world.numbers)
        self._refs = 0
        self._waiting: dict[int, _Waiting] = {}
        self._positions: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._logged_in = False
        self.friends: dict[int, str] = {}
        self._reading = trio.Event()
        self._reading.set()

    @property
    def settled(self) -> bool:
        """Logged in, and every request was answered but for the PING that is always on its way."""
        return self._logged_in and all(waiting.kind is Kind.PING for waiting in self._waiting.values())

    async def run(self) -> None:
        self._world.record(Opened, self._number)
        why = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self._greet()
                await self._act()
        except* _Gone as gone:
            why = "; ".join(str(error) for error in gone.exceptions)
        except* TransportBroken:
            why = "broken"
        self._world.record(Closed, self._number, why)

    # -- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, kind: Kind, **fields: Any) -> _Waiting:
        """Send a request. Raises `TransportBroken`."""
        self._refs += 1
        message: tuple[str, str | None, str] = ("", None, "")
        if kind is Kind.DIRECT:
            message = direct_conv(self._device.account.id, fields["toid"]), fields.get("key"), fields["msg"]
        elif kind is Kind.GROUP:
            message = group_conv(fields["groupid"]), fields.get("key"), fields["msg"]
        elif "groupid" in fields:
            message = group_conv(fields["groupid"]), None, ""
        about = fields.get("userid", 0)
        self._world.record(Requested, self._number, self._refs, kind.name, *message, about=about)
        waiting = self._waiting[self._refs] = _Waiting(kind, fields, trio.current_time())
        self._send({"msgid": int(kind), "ref": self._refs, **fields})
        return waiting

    def _send(self, frame: Frame) -> None:
        self._line.send(json.dumps(frame).encode() + b"\n")

    async def _call(self, kind: Kind, **fields: Any) -> Frame:
        """Raises `_Gone` where no answer comes."""
        waiting = self._ask(kind, **fields)
        with trio.move_on_after(_PATIENCE):
            await waiting.done.wait()
            return waiting.answer
        self._line.close()
        raise _Gone(f"no answer to {kind.name}")

    def _send_message(self, message: _Message) -> None:
        self._ask(message.kind, **message.fields())

    async def _greet(self) -> None:
        """Say HELLO, log in (after registering, where that has never succeeded) and send again what was not acknowledged."""
        device, account = self._device, self._device.account
        await self._call(Kind.HELLO, version=1)
        while not self._logged_in:
            if device.token is not None:
                answer = await self._call(Kind.LOGIN, token=device.token)
            elif account.id or self._chance.random() < 0.5:
                answer = await self._call(Kind.LOGIN, name=account.name, password=account.password)
            else:
                answer = await self._call(Kind.REGISTER, name=account.name, password=account.password)
            if answer.get("error") == "bad_credentials":
                device.token = None
            if answer["errno"]:
                await trio.sleep(self._chance.uniform(0.05, 0.5))
        for message in list(device.unacknowledged.values()):
            self._send_message(message)

    # -- doing --------------------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        world, chance = self._world, self._chance
        actions = self._actions()
        while world.phase < Phase.OVER:
            calm = world.phase > Phase.UNREST
            await trio.sleep(0.5 if calm else chance.expovariate(1 / world.plan.action_gap))
            if not self._logged_in:
                await self._greet()
            self._check_alive()
            if calm:
                self._say_received()
                self._send_again()
            elif chance.random() < world.plan.restless:
                await self._leave()
            elif chance.random() < world.plan.parting:
                chance.choice([self._leave_group, self._remove, self._block, self._unblock])()
            else:
                await chance.choice(actions)()
        if chance.random() < 0.5:
            await self._log_out()
        self._line.close()
        raise _Gone("the end")

    def _check_alive(self) -> None:
        """PING, and give the connection up where an earlier one is not answered."""
        pings = [waiting for waiting in self._waiting.values() if waiting.kind is Kind.PING]
        now = trio.current_time()
        if pings and now - pings[0].since > _PATIENCE:
            self._line.close()
            raise _Gone("no sign of life")
        # Also while the answer to one is on a slow way: the node wants signs of life as well.
        if not pings or now - pings[-1].since > 1:
            self._ask(Kind.PING)

    def _send_again(self) -> None:
        waiting = {waiting.fields.get("key") for waiting in self._waiting.values()}
        for key, message in list(self._device.unacknowledged.items()):
            if key not in waiting:
                self._send_message(message)

    def _actions(self) -> list[Callable[[], Awaitable[None]]]:
        rare = [self._befriend, self._found, self._join, self._look_back, self._list, self._mark, self._nonsense]
        return [*(6 * [self._talk]), *(4 * [self._receive]), *rare, self._talk_twice, self._be_slow]

    async def _talk(self) -> None:
        for _ in range(self._chance.choice([1, 1, 1, 2, 8])):
            message = self._device.message()
            if message is not None:
                self._send_message(message)

    async def _talk_twice(self) -> None:
        """A nervous client: sends again what may well be on its way."""
        for message in list(self._device.unacknowledged.values())[:3]:
            self._send_message(message)

    async def _receive(self) -> None:
        self._say_received()

    def _say_received(self) -> None:
        for conv, position in self._positions.items():
            if position > self._told.get(conv, 0) and self._chance.random() < 0.7:
                self._told[conv] = position
                self._world.record(Received, self._number, conv, position)
                self._send({"msgid": int(Kind.RECEIVED), "conv": conv, "seq": position})

    async def _befriend(self) -> None:
        if others := self._others():
            self._ask(Kind.ADD_FRIEND, friendid=self._chance.choice(others))

    async def _found(self) -> None:
        if len(self._world.groups) < 3:
            self._ask(Kind.CREATE_GROUP, groupname=f"group {next(self._world.numbers)}")

    async def _join(self) -> None:
        if self._world.groups:
            group = self._chance.choice(list(self._world.groups))
            self._ask(Kind.JOIN_GROUP, groupid=group)

    def _leave_group(self) -> None:
        if self._device.account.groups:
            self._ask(Kind.LEAVE_GROUP, groupid=self._chance.choice(list(self._device.account.groups)))

    def _remove(self) -> None:
        """Who is not the creator is refused; and who comes, with a bar, is back only after another one without."""
        if self._device.account.groups and (others := self._others()):
            group, user = self._chance.choice(list(self._device.account.groups)), self._chance.choice(others)
            self._ask(Kind.REMOVE_MEMBER, groupid=group, userid=user, barred=self._chance.random() < 0.3)

    def _block(self) -> None:
        if others := self._others():
            self._device.account.blocked[other := self._chance.choice(others)] = None
            self._ask(Kind.BLOCK, userid=other)

    def _unblock(self) -> None:
        if self._device.account.blocked:
            self._ask(Kind.UNBLOCK, userid=self._chance.choice(list(self._device.account.blocked)))

    def _others(self) -> list[int]:
        return [account.id for account in self._world.accounts if account.id and account is not self._device.account]

    async def _look_back(self) -> None:
        if self._positions:
            self._ask(Kind.HISTORY, conv=self._chance.choice(list(self._positions)), after=0)

    async def _list(self) -> None:
        self._ask(Kind.CONVERSATIONS)

    async def _mark(self) -> None:
        if self._positions:
            conv = self._chance.choice(list(self._positions))
            self._ask(Kind.READ, conv=conv, seq=self._positions[conv])

    async def _nonsense(self) -> None:
        self._line.send(self._chance.choice([b"nonsense\n", b"{}\n", b'{"msgid":6}\n', b"\n\n", b'{"msgid":"1"}\n']))

    async def _be_slow(self) -> None:
        """Read nothing for a while."""
        self._reading = trio.Event()
        await trio.sleep(self._chance.uniform(0.1, 2))
        self._reading.set()

    async def _leave(self) -> None:
        match self._chance.randrange(5):
            case 0:
                self._line.close()
                raise _Gone("closed")
            case 1:
                self._line.line.reset()
                raise _Gone("reset")
            case 2:
                self._line.end()
                await trio.sleep(_PATIENCE)  # what was asked is answered, then the server closes
                raise _Gone("half closed")
            case _:
                await self._log_out()

    async def _log_out(self) -> None:
        # What it asks for meanwhile would be refused: it waits until all is answered.
        with trio.move_on_after(_PATIENCE):
            while self._waiting:
                await next(iter(self._waiting.values())).done.wait()
        answer = await self._call(Kind.LOGOUT)
        if not answer["errno"] and self._world.phase < Phase.OVER:
            await trio.sleep(self._chance.expovariate(2))

    # -- hearing ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        rest = b""
        while data := await self._line.receive():
            *frames, rest = (rest + data).split(b"\n")
            for frame in frames:
                self._take(json.loads(frame))
            await self._reading.wait()
        self._line.close()
        raise _Gone("closed by the node")

    def _take(self, frame: Frame) -> None:
        kind = Kind(frame["msgid"])
        if kind in {Kind.DIRECT, Kind.GROUP}:
            self._deliver(frame)
        elif kind is Kind.PRESENCE:
            self._notice(frame["id"], frame["state"])
        elif kind is Kind.PING:
            self._send({"msgid": int(Kind.PONG)})
        elif kind is Kind.LEAVE_GROUP:
            self._world.record(Left, self._number, group_conv(frame["groupid"]))
            self._is_out(frame["groupid"])
        elif kind is Kind.READ:
            pass
        elif "ref" in frame:
            self._answer(frame["ref"], frame)

    def _deliver(self, frame: Frame) -> None:
        conv, seq = frame["conv"], frame["seq"]
        self._world.record(Delivered, self._number, conv, seq, frame["id"], frame.get("key"), frame["msg"], frame["ts"])
        self._positions[conv] = seq

    def _answer(self, ref: int, frame: Frame) -> None:
        error, conv, seq, ts = (frame.get(name, default) for name, default in _PLACE)
        if "groupid" in frame:
            conv = group_conv(frame["groupid"])
        self._world.record(Answered, self._number, ref, error, conv, seq, ts)
        waiting = self._waiting.pop(ref, None)
        if waiting is None:
            return
        waiting.answer = frame
        waiting.done.set()
        if error == "account_in_use":
            self._world.complaints.append(f"{self._device.name}: a modern login was refused with {error}")
        if not frame.get("errno"):
            self._succeeded(waiting, frame)
        elif waiting.kind in {Kind.DIRECT, Kind.GROUP} and error in _KEPT_OUT:
            self._device.unacknowledged.pop(waiting.fields.get("key", ""), None)

    def _succeeded(self, waiting: _Waiting, frame: Frame) -> None:
        world, device, account = self._world, self._device, self._device.account
        match waiting.kind:
            case Kind.LOGIN:
                account.id = frame["id"]
                device.token = frame["token"]
                self._logged_in = True
                groups = [group["id"] for group in frame["groups"]]
                world.record(LoggedIn, self._number, account.id, [group_conv(group) for group in groups])
                account.groups.clear()
                for group in groups:
                    self._is_in(group)
                for friend in frame["friends"]:
                    self._notice(friend["id"], friend["state"])
            case Kind.LOGOUT:
                self._logged_in = False
                device.token = None
                self._positions.clear()
                self.friends.clear()
                self._told.clear()
                world.record(LoggedOut, self._number)
            case Kind.DIRECT | Kind.GROUP:
                device.unacknowledged.pop(waiting.fields.get("key", ""), None)
            case Kind.CREATE_GROUP:
                self._is_in(frame["groupid"])
            case Kind.JOIN_GROUP:
                self._is_in(frame["group"]["id"])
            case Kind.LEAVE_GROUP:
                self._is_out(waiting.fields["groupid"])
            case Kind.UNBLOCK:
                account.blocked.pop(waiting.fields["userid"], None)
            case Kind.ADD_FRIEND:
                self._notice(frame["friend"]["id"], frame["friend"]["state"])
            case _:
                pass

    def _notice(self, friend: int, state: str) -> None:
        self.friends[friend] = state
        self._world.record(Noticed, self._number, friend, state)

    def _is_in(self, group: int) -> None:
        self._world.groups[group] = None
        self._device.account.groups[group] = None

    def _is_out(self, group: int) -> None:
        self._device.account.groups.pop(group, None)
        self._positions.pop(group_conv(group), None)

    # -- the end of the run -------------------------------------------------------------------------------------------

    async def read_log(self, conv: str) -> bool:
        """Read a conversation's whole log into the history; returns whether this one may. Raises `_Gone`."""
        after, more = 0, True
        while more:
            page = await self._call(Kind.HISTORY, conv=conv, after=after, limit=5)
            if page.get("error") == "unavailable":
                continue
            if page.get("error") == "not_a_member":
                return False
            for message in page["messages"]:
                after = message["seq"]
                self._world.record(
                    Logged, conv, after, message["id"], message.get("key"), message["msg"], message["ts"]
                )
            more = page["more"]
        self._world.record(LogRead, conv, self._device.account.id)
        return True


_PLACE: list[tuple[str, Any]] = [("error", ""), ("conv", ""), ("seq", 0), ("ts", 0)]
