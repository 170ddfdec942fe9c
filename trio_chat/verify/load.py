"""The load: accounts with several devices that write, read, receive, come and go, and go on through every fault."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trio_chat.config import Address
from trio_chat.verify.link import Frame, Link, LinkBroken, open_link
from trio_chat.verify.plan import AccountPlan, Plan
from trio_chat.verify.recorder import Recorder
from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.messages import Kind

__all__ = ["Device", "Load", "Refused"]

#: A connection that nothing was heard from for so long is given up; one is asked for a sign of life before (seconds).
_SILENCE = 5.0
_ASK = 1.5
#: A device has at most so many messages that were not acknowledged; then it waits.
_WINDOW = 60
_PAUSES = (0.02, 0.25)  # before the next attempt to connect, in seconds
#: Failures that pass: the request is sent again.
_PASSING = frozenset({"unavailable", "shutting_down", "internal", "rate_limited"})


class Refused(Exception):
    """The server refused what the load cannot do without; the text says what."""


@attrs.define(eq=False)
class _Message:
    conv: str
    kind: Kind
    fields: dict[str, object]


@attrs.define(eq=False)
class Account:
    plan: AccountPlan
    name: str
    id: int = 0
    groups: set[int] = attrs.field(factory=set)  # numbers of the plan
    acknowledged: deque[_Message] = attrs.field(factory=lambda: deque(maxlen=500))
    leave: trio.Event = attrs.field(factory=trio.Event)  # for good


class Load:
    """All accounts of a plan, on the servers at `addresses`. `name` tells this run's accounts from others' there."""

    def __init__(
        self, plan: Plan, addresses: Sequence[Address], recorder: Recorder, *, name: str, pace: float = 0.15
    ) -> None:
        self.plan = plan
        self.addresses = list(addresses)
        self.recorder = recorder
        self.pace = pace
        self.accounts = [Account(each, f"{name} {each.number}") for each in plan.accounts]
        self.groups: dict[int, int] = {}  # numbers of the plan to ids
        self.name = name
        self.ending = False
        self.devices = [
            Device(self, account, number) for account in self.accounts for number in range(account.plan.devices)
        ]

    async def set_up(self) -> None:
        """Make the accounts, friendships and groups. Raises `Refused`, `LinkBroken`."""
        for account in self.accounts:
            async with self.connected() as link:
                account.id = (
                    await self.ask(link, Kind.REGISTER, name=account.name, password=self.password(account.name))
                )["id"]
        for account in self.accounts:
            async with self.connected() as link:
                await self.ask(link, Kind.LOGIN, id=account.id, password=self.password(account.name))
                for friend in account.plan.friends:
                    await self.ask(link, Kind.ADD_FRIEND, friendid=self.accounts[friend].id)
                for number, founder in enumerate(self.plan.founders):
                    if founder == account.plan.number:
                        made = await self.ask(link, Kind.CREATE_GROUP, groupname=f"{self.name} g{number}")
                        self.groups[number] = made["groupid"]
                        account.groups.add(number)
        for account in self.accounts:
            if account.plan.groups:
                async with self.connected() as link:
                    await self.ask(link, Kind.LOGIN, id=account.id, password=self.password(account.name))
                    for number in account.plan.groups:
                        await self.ask(link, Kind.JOIN_GROUP, groupid=self.groups[number])
                        account.groups.add(number)

    @asynccontextmanager
    async def connected(self, recorder: Recorder | None = None) -> AsyncIterator[Link]:
        """A connection that reads what comes. What breaks it comes out in an exception group."""
        async with open_link(self.addresses[0], recorder or self.recorder) as link, trio.open_nursery() as nursery:
            nursery.start_soon(link.write)
            nursery.start_soon(link.read, _ignore)
            yield link
            nursery.cancel_scope.cancel()

    @staticmethod
    def password(name: str) -> str:
        return f"the password of {name}"

    @staticmethod
    async def ask(link: Link, kind: Kind, **fields: object) -> Frame:
        """A request that must succeed. Raises `Refused`."""
        with trio.move_on_after(10):
            answer = await link.call(kind, **fields)
            if answer.get("errno"):
                raise Refused(f"{kind.name} was refused: {answer['error']}, {answer.get('errmsg', '')}")
            return answer
        raise Refused(f"{kind.name} was not answered within 10 s")

    async def run(self) -> None:
        """Until cancelled. Raises `Refused`."""
        async with trio.open_nursery() as nursery:
            for device in self.devices:
                nursery.start_soon(device.run)

    async def finish(self) -> None:
        """Nothing new is written; who has everything acknowledged and is to leave leaves. Cancelling is safe."""
        self.ending = True
        while any(device.outstanding for device in self.devices):
            await trio.sleep(0.1)
        for account in self.accounts:
            if account.plan.leaves:
                account.leave.set()

    @property
    def settled(self) -> bool:
        """Whether all who stay are connected, with nothing unacknowledged and the right idea of who is there."""
        return all(device.settled for device in self.devices if not device.account.leave.is_set())


def _ignore(_: Frame) -> None:
    pass


class Device:
    """One connection of an account at a time; `run` makes a new one whenever it breaks, until the account leaves."""

    def __init__(self, load: Load, account: Account, number: int) -> None:
        self.load = load
        self.account = account
        self.link: Link | None = None
        self.outstanding: dict[str, _Message] = {}
        self.friends: dict[int, str] = {}
        self._draw = random.Random(f"{load.plan.seed} {account.plan.number} {number}")
        self._receipts = random.Random(f"{load.plan.seed} {account.plan.number} {number} receipts")
        self._name = f"{account.plan.number}.{number}"
        self._sent = 0
        self._token = ""
        self._refs: dict[int, str] = {}
        self._again = trio.Event()
        self._answered = trio.Event()
        self._unreceived: dict[str, tuple[int, int]] = {}
        self._away = 0.0
        self._late = list(account.plan.late) if number == 0 else []
        self._fickle = account.plan.fickle if number == 0 else ()

    @property
    def settled(self) -> bool:
        gone = {account.id for account in self.load.accounts if account.leave.is_set()}
        return (
            self.link is not None
            and not self.link.blackholed
            and self.link.user != 0
            and not self.outstanding
            and all(state == ("offline" if friend in gone else "online") for friend, state in self.friends.items())
        )

    async def run(self) -> None:
        while not self.account.leave.is_set():
            try:
                address = self._draw.choice(self.load.addresses)
                async with open_link(address, self.load.recorder, self._name) as link:
                    self.link = link
                    await self._use(link)
            except* LinkBroken:
                pass
            finally:
                self.link = None
            pause, self._away = self._away + self._draw.uniform(*_PAUSES), 0.0
            with trio.move_on_after(pause):
                await self.account.leave.wait()

    async def _use(self, link: Link) -> None:
        self._refs.clear()
        self._unreceived.clear()
        self.friends.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.write)
            nursery.start_soon(link.read, partial(self._take, link))
            nursery.start_soon(self._watch, link)
            await self._log_in(link)
            await self._act(link)
            nursery.cancel_scope.cancel()

    async def _log_in(self, link: Link) -> None:
        if self._token:
            answer = await link.call(Kind.LOGIN, token=self._token)
            if answer.get("error") == "bad_credentials":
                self._token = ""
                raise LinkBroken("the token is not valid any more")
        else:
            answer = await link.call(Kind.LOGIN, id=self.account.id, password=self.load.password(self.account.name))
        if answer["errno"]:
            if answer["error"] not in _PASSING:
                raise Refused(f"LOGIN was refused: {answer['error']}, {answer.get('errmsg', '')}")
            raise LinkBroken(answer["error"])
        self._token = answer["token"]

    # -- reading ------------------------------------------------------------------------------------------------------

    def _take(self, link: Link, frame: Frame) -> None:
        kind = frame["msgid"]
        if kind in (Kind.DIRECT, Kind.GROUP):
            self._delivered(link, frame["conv"], frame["seq"])
        elif kind == Kind.LOGIN_ACK and not frame["errno"]:
            self.friends.update((friend["id"], friend["state"]) for friend in frame["friends"])
        elif kind == Kind.PRESENCE:
            self.friends[frame["id"]] = frame["state"]
        elif kind == Kind.REPLY:
            self._replied(frame)

    def _delivered(self, link: Link, conv: str, seq: int) -> None:
        """Say RECEIVED, not for each message: some are said to be received late, some never."""
        until = self._unreceived.get(conv, (0, self._receipts.randint(1, 12)))[1] - 1
        if until > 0:
            self._unreceived[conv] = (seq, until)
        else:
            self._unreceived.pop(conv, None)
            link.received(conv, seq)

    def _replied(self, frame: Frame) -> None:
        if "ref" not in frame:
            raise LinkBroken(frame.get("error", "a REPLY without ref"))
        key = self._refs.pop(frame["ref"], None)
        if key is None:
            return
        if frame.get("error") in _PASSING:
            self._again.set()
        elif (message := self.outstanding.pop(key, None)) is not None and not frame["errno"]:
            self.account.acknowledged.append(message)
        self._answered.set()

    async def _watch(self, link: Link) -> None:
        while True:
            await trio.sleep(_ASK)
            silent = trio.current_time() - link.heard
            if silent > _SILENCE:
                raise LinkBroken("silent")
            link.request(Kind.PING)

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _act(self, link: Link) -> None:
        self._send_again(link)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_failed_again, link)
            stays = True
            while stays and not self.load.ending:
                await trio.sleep(self._draw.expovariate(1 / self.load.pace))
                while len(self.outstanding) > _WINDOW:
                    await self._wait_answered()
                stays = await self._do_something(link)
            if stays:
                while self.outstanding:
                    await self._wait_answered()
                await self.account.leave.wait()
            nursery.cancel_scope.cancel()

    async def _wait_answered(self) -> None:
        self._answered = trio.Event()
        await self._answered.wait()

    async def _do_something(self, link: Link) -> bool:
        """The next thing of this device's plan; whether it stays connected."""
        what = self._draw.random()
        if what < 0.05 and self.account.acknowledged:
            # Once more, perhaps much later and through another node: nobody is to notice.
            message = self._draw.choice(self.account.acknowledged)
            link.request(message.kind, message.conv, **message.fields)
        elif what < 0.80:
            conv, kind, target = self._choose()
            for _ in range(self._draw.randint(1, 8)):
                self._write(link, conv, kind, target)
        elif what < 0.86:
            await self._join_or_leave(link)
        elif what < 0.90:
            link.request(Kind.CONVERSATIONS)
        elif what < 0.94:
            conv, _, _ = self._choose()
            link.request(Kind.READ, conv=conv, seq=self._draw.randint(0, 1000))
        elif what < 0.97:
            conv, _, _ = self._choose()
            link.request(Kind.HISTORY, conv=conv, limit=20)
        else:
            self._away = self._draw.uniform(0.2, 3.0)
            return False
        return True

    def _choose(self) -> tuple[str, Kind, dict[str, object]]:
        groups = sorted(self.account.groups)
        if groups and self._draw.random() < 0.6:
            groupid = self.load.groups[self._draw.choice(groups)]
            return group_conv(groupid), Kind.GROUP, {"groupid": groupid}
        peer = self.load.accounts[self._draw.choice(self.account.plan.peers)]
        return direct_conv(self.account.id, peer.id), Kind.DIRECT, {"toid": peer.id}

    def _write(self, link: Link, conv: str, kind: Kind, target: dict[str, object]) -> None:
        self._sent += 1
        text = f"{self._name} {self._sent}"
        if self._draw.random() < 0.1:  # without a key it is never sent again
            link.request(kind, conv, msg=text, **target)
            return
        key = f"{self.load.name} {text}"
        self.outstanding[key] = _Message(conv, kind, {"msg": text, "key": key, **target})
        self._refs[link.request(kind, conv, **self.outstanding[key].fields)] = key

    def _send_again(self, link: Link) -> None:
        waiting = set(self._refs.values())
        for key, message in self.outstanding.items():
            if key not in waiting:
                self._refs[link.request(message.kind, message.conv, **message.fields)] = key

    async def _send_failed_again(self, link: Link) -> None:
        while True:
            await self._again.wait()
            self._again = trio.Event()
            await trio.sleep(0.2)
            self._send_again(link)

    async def _join_or_leave(self, link: Link) -> None:
        """The account's first device joins what it joins late; then it leaves and joins again where it is fickle."""
        if self._late:
            await self._join(link, self._late[0])
        elif self._fickle:
            number = self._draw.choice(self._fickle)
            if number in self.account.groups:
                await self._leave(link, number)
            else:
                await self._join(link, number)

    async def _leave(self, link: Link, number: int) -> None:
        answer = await link.call(Kind.LEAVE_GROUP, groupid=self.load.groups[number])
        if not answer["errno"] or answer["error"] == "not_a_member":
            self.account.groups.discard(number)
        elif answer["error"] not in _PASSING:
            raise Refused(f"LEAVE_GROUP was refused: {answer['error']}, {answer.get('errmsg', '')}")

    async def _join(self, link: Link, number: int) -> None:
        answer = await link.call(Kind.JOIN_GROUP, groupid=self.load.groups[number])
        if not answer["errno"] or answer["error"] == "already_exists":
            self.account.groups.add(number)
            if number in self._late:
                self._late.remove(number)
        elif answer["error"] not in _PASSING:
            raise Refused(f"JOIN_GROUP was refused: {answer['error']}, {answer.get('errmsg', '')}")
