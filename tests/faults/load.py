"""Clients that go on through every fault: what they send and get is counted, and must come out even at the end."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from tests.wire import Frame, Wire, WireClosed, log_in
from trio_chat import Address
from trio_chat.wire.messages import Kind

__all__ = ["Receiver", "Sender", "whole_log"]

#: Pause before the next attempt, in seconds.
RETRY = 0.05
WINDOW = 20

#: What an attempt may end with while something is broken.
_BROKEN = (WireClosed, OSError, trio.BrokenResourceError, trio.TooSlowError)


@asynccontextmanager
async def attempt(address: Address, user: str) -> AsyncIterator[Wire]:
    """A connection that is logged in. Raises one of `_BROKEN` where there is none to be had."""
    async with AsyncExitStack() as stack:
        with trio.fail_after(15):
            try:
                wire = await stack.enter_async_context(log_in(address, user))
            except AssertionError as error:  # the login was refused, or nothing came in time
                raise WireClosed from error
        yield wire


class Sender:
    """Sends numbered texts to `target` (`toid` or `groupid`), with keys, a window of them at a time.

    A text is sent again until it is acknowledged, over whichever of the addresses answers. `acknowledged` has the seq
    that each was acknowledged with.
    """

    def __init__(self, addresses: Sequence[Address], user: str, count: int, **target: int) -> None:
        self.user = user
        self.count = count
        self.acknowledged: dict[str, int] = {}
        self.told: list[str] = []  # errors, in the order in which they came
        self._addresses = itertools.cycle(addresses)
        self._target = target
        self._kind = Kind.DIRECT if "toid" in target else Kind.GROUP
        self._waiting = [f"{user} {number}" for number in range(count)]
        self._progress = trio.Event()

    async def wait_acknowledged(self, count: int) -> None:
        """Wait until this many have been acknowledged."""
        while len(self.acknowledged) < count:
            self._progress = trio.Event()
            await self._progress.wait()

    async def run(self) -> None:
        while self._waiting:
            try:
                async with attempt(next(self._addresses), self.user) as wire:
                    while self._waiting:
                        await self._send_some(wire)
            except _BROKEN:
                await trio.sleep(RETRY)

    async def _send_some(self, wire: Wire) -> None:
        some = self._waiting[:WINDOW]
        requests = [
            json.dumps({"msgid": int(self._kind), "msg": key, "key": key, "ref": key, **self._target}) for key in some
        ]
        await wire.send_bytes("".join(request + "\n" for request in requests).encode())
        failed = False
        for _ in some:
            try:
                reply = await wire.receive(Kind.REPLY, within=10)
            except AssertionError as error:
                raise WireClosed from error
            if reply["errno"]:
                assert reply["error"] in {"unavailable", "shutting_down"}, reply
                self.told.append(reply["error"])
                failed = True
                if "ref" not in reply:
                    break
            else:
                assert reply["ref"] not in self.acknowledged
                self.acknowledged[reply["ref"]] = reply["seq"]
                self._waiting.remove(reply["ref"])
                self._progress.set()
        if failed:
            raise WireClosed


@attrs.define
class Receiver:
    """Reads one conversation in which it writes nothing, and says what it has received; after each break it goes on.

    `messages` is what it has got, each once, in order. `again` counts those that came a second time, after a break.
    """

    addresses: Sequence[Address]
    user: str
    conv: str
    messages: list[Frame] = attrs.field(factory=list)
    again: int = 0
    _progress: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Until cancelled."""
        for address in itertools.cycle(self.addresses):
            try:
                async with attempt(address, self.user) as wire:
                    await self._read(wire)
            except _BROKEN:
                await trio.sleep(RETRY)

    async def wait(self, count: int, *, within: float) -> None:
        """Wait until it has this many messages. Raises `AssertionError`."""
        with trio.move_on_after(within):
            while len(self.messages) < count:
                self._progress = trio.Event()
                await self._progress.wait()
        assert len(self.messages) >= count, f"{len(self.messages)} of {count} messages after {within} s"

    async def _read(self, wire: Wire) -> None:
        before = None
        while True:
            frame = await wire.receive(within=100)
            if frame["msgid"] == Kind.PING:
                await wire.send(Kind.PONG)
            if frame.get("conv") != self.conv or "msg" not in frame:
                continue
            seq = frame["seq"]
            # On one connection there is no hole and no repetition; it begins no later than where the last one ended.
            assert seq <= len(self.messages) + 1 if before is None else seq == before + 1, (before, seq)
            before = seq
            if seq == len(self.messages) + 1:
                self.messages.append(frame)
                self._progress.set()
            else:
                assert frame["key"] == self.messages[seq - 1]["key"]
                self.again += 1
            await wire.send(Kind.RECEIVED, conv=self.conv, seq=seq)


async def whole_log(wire: Wire, conv: str) -> list[Frame]:
    """A conversation as HISTORY has it; without a hole."""
    messages: list[Frame] = []
    more = True
    while more:
        page = await wire.ok(Kind.HISTORY, conv=conv, after=len(messages), limit=200)
        messages += page["messages"]
        more = page["more"]
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
    return messages


async def _read_log(address: Address, user: str, conv: str) -> list[Frame]:
    """As soon as somebody answers: nginx leaves a node that failed alone for a moment, and both may just have failed."""
    with trio.fail_after(10):
        while True:
            try:
                async with attempt(address, user) as wire:
                    return await whole_log(wire, conv)
            except _BROKEN:
                await trio.sleep(RETRY)


async def check(address: Address, user: str, conv: str, senders: Sequence[Sender], *receivers: Receiver) -> None:
    """All that was acknowledged is in the log, once, where it was said to be; and the receivers got just that."""
    acknowledged = {key: seq for sender in senders for key, seq in sender.acknowledged.items()}
    assert len(acknowledged) == sum(sender.count for sender in senders)
    log = await _read_log(address, user, conv)
    assert {message["key"]: message["seq"] for message in log} == acknowledged
    assert len(log) == len(acknowledged)
    for sender in senders:
        own = [message["msg"] for message in log if message["name"] == sender.user]
        assert sorted(own, key=lambda text: int(text.split()[1])) == [f"{sender.user} {n}" for n in range(sender.count)]
    for receiver in receivers:
        assert [message["key"] for message in receiver.messages] == [message["key"] for message in log]
