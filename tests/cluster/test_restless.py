"""A user who comes and goes all the time, on both nodes, while others write to him: he gets everything, in order."""

from __future__ import annotations

import itertools
import random

import pytest
import trio

from tests.wire import Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Server
from trio_chat.wire.messages import Kind

TOTAL = 500


class Restless:
    """One device of a user: connects, reads a little, writes a little, says what it has received or does not, and goes.

    `seen` has the seqs of all messages and replies it ever got, in the conversation `conv`.
    """

    def __init__(self, addresses: list[Address], name: str, conv: str, peer: int, seed: int) -> None:
        self.addresses = addresses
        self.name = name
        self.conv = conv
        self.peer = peer
        self.seen: set[int] = set()
        self.sent: set[int] = set()
        self.visits: list[list[int]] = []
        self.choose = random.Random(seed)

    async def run(self, over: trio.Event) -> None:
        while not over.is_set():
            await self.visit(self.choose.uniform(0, 0.06))

    async def visit(self, stay: float) -> None:
        choose = self.choose
        async with connect(choose.choice(self.addresses)) as wire:
            await wire.send(Kind.LOGIN, name=self.name, password="secret")
            visit: list[int] = []
            self.visits.append(visit)
            try:
                with trio.move_on_after(stay + 0.05):
                    assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 0
                    while True:
                        if choose.random() < 0.1:
                            await wire.send(Kind.DIRECT, toid=self.peer, msg="answer", ref=1)
                        self.take(await wire.receive(within=30), visit)
                        if visit and choose.random() < 0.1:
                            await wire.send(Kind.RECEIVED, conv=self.conv, seq=visit[-1])
                how = choose.randrange(3)
                if how == 0:
                    wire.abort()
                elif how == 1:
                    await wire.send(Kind.LOGOUT)
            except WireClosed:
                pass

    def take(self, frame: dict[str, object], visit: list[int]) -> None:
        if frame.get("conv") != self.conv:
            return
        seq = frame["seq"]
        assert isinstance(seq, int)
        if frame["msgid"] == Kind.REPLY:
            self.sent.add(seq)
        visit.append(seq)
        self.seen.add(seq)


@pytest.mark.parametrize("devices", [1, 2])
async def test_a_restless_user_gets_everything(nodes: tuple[Server, Server], devices: int) -> None:
    addresses = [node.addresses[0] for node in nodes]
    alice, bob = await register(addresses[0], "alice"), await register(addresses[1], "bob")
    conv = f"d:{alice}:{bob}"
    over = trio.Event()
    fleet = [Restless(addresses, "bob", conv, alice, number) for number in range(devices)]
    hers: set[int] = set()

    async def write(wire: Wire) -> None:
        for _ in range(TOTAL):
            hers.add((await wire.ok(Kind.DIRECT, toid=bob, msg="m"))["seq"])
        over.set()

    async with log_in(addresses[0], alice) as a, trio.open_nursery() as busy:
        busy.start_soon(write, a)
        for device in fleet:
            busy.start_soon(device.run, over)
    last = Restless(addresses, "bob", conv, alice, 99)
    async with log_in(addresses[1], bob) as wire:
        visit: list[int] = []
        with trio.move_on_after(5):
            while max(hers) not in last.seen and not any(max(hers) in device.seen for device in fleet):
                last.take(await wire.receive(within=30), visit)
        last.visits.append(visit)
        log: list[dict[str, object]] = []
        more = True
        while more:
            page = await wire.ok(Kind.HISTORY, conv=conv, after=len(log), limit=200)
            log += page["messages"]
            more = page["more"]
    own = {message["seq"] for message in log if message["id"] == bob}
    seen = set().union(*(device.seen for device in [*fleet, last]))
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    assert hers == {message["seq"] for message in log if message["id"] == alice}
    assert sorted(hers - seen) == []  # nothing is lost
    for device in [*fleet, last]:
        for visit in device.visits:
            for before, after in itertools.pairwise(visit):
                # Rising, and what is left out are his own messages, which count as received.
                assert before < after
                assert set(range(before + 1, after)) <= own
