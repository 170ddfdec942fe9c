"""Wrong passwords against a running server: who is delayed, and that nobody learns which accounts there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.wire import Frame, Wire, connect, log_in, register
from trio_chat import Address, Limits, Server
from trio_chat.services.passwords import Passwords
from trio_chat.store.accounts import Accounts
from trio_chat.store.guesses import Guesses
from trio_chat.wire.messages import Kind

FEW = Limits(guesses=2, guess_delay=1)


@asynccontextmanager
async def from_elsewhere(address: Address, host: str) -> AsyncIterator[Wire]:
    """A modern connection from another address of this machine."""
    sock = trio.socket.socket()
    await sock.bind((host, 0))
    await sock.connect(address)
    wire = Wire(trio.SocketStream(sock))
    await wire.ok(Kind.HELLO, version=1)
    yield wire
    sock.close()


async def guess(wire: Wire, who: Frame, times: int) -> None:
    for _ in range(times):
        assert (await wire.call(Kind.LOGIN, **who, password="wrong"))["error"] == "bad_credentials"


@pytest.mark.settings(limits=FEW)
async def test_who_guesses_has_to_wait_and_nobody_else(server: Server, address: Address) -> None:
    alice = await register(address, "alice")
    await register(address, "bob")
    async with log_in(address, alice) as wire:
        token = wire.ack["token"]
    async with connect(address) as wire:
        await guess(wire, {"name": "alice"}, 1)
        await guess(wire, {"id": alice}, 1)  # the same account
        refused: Frame = {}
        for who in ({"name": "alice"}, {"id": alice}):
            refused = await wire.call(Kind.LOGIN, **who, password="secret")
            assert (refused["msgid"], refused["errno"], refused["error"]) == (Kind.LOGIN_ACK, 121, "rate_limited")
            assert 0 < refused["retry_after"] <= 1
        assert (await wire.ok(Kind.LOGIN, name="bob", password="secret"))["name"] == "bob"
    async with connect(address) as wire:
        await wire.ok(Kind.LOGIN, token=token)  # a device that is known is not delayed
    async with from_elsewhere(address, "127.0.0.9") as wire:
        await wire.ok(Kind.LOGIN, name="alice", password="secret")
    async with connect(address) as wire:
        await trio.sleep(refused["retry_after"])
        await wire.ok(Kind.LOGIN, name="alice", password="secret")
    assert server.node.counters.reached["guesses"] == 2
    assert server.node.counters.logins["rate_limited"] == 2


@pytest.mark.settings(limits=FEW)
@pytest.mark.parametrize("who", [{"id": 1}, {"id": 77}])
async def test_the_classic_dialect_is_told_likewise(address: Address, who: Frame) -> None:
    await register(address, "alice")
    async with connect(address, modern=False, terminator=b"\0") as wire:
        for expected in (1, 1, 121):
            await wire.send(Kind.LOGIN, **who, password="wrong")
            answer = await wire.receive(Kind.LOGIN_ACK)
            assert answer["errno"] == expected
            assert answer["errmsg"]


async def test_an_account_that_is_not_there_costs_as_much_as_a_wrong_password(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer after the same work, from the first try on."""
    await register(address, "alice")
    work: list[str] = []

    def count(owner: type, name: str) -> None:
        method = getattr(owner, name)

        async def counted(*args: Any) -> Any:
            work.append(f"{owner.__name__}.{name}")
            return await method(*args)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in ((Accounts, "by_id"), (Accounts, "by_name"), (Guesses, "read"), (Guesses, "add")):
        count(owner, name)
    count(Passwords, "_in_thread")
    done = []
    async with connect(address) as wire:
        await guess(wire, {"name": "somebody"}, 1)  # the first one of all makes the hash that nobody has
        for who in ({"name": "alice"}, {"name": "nobody"}, {"id": 1}, {"id": 77}):
            work.clear()
            answer = await wire.call(Kind.LOGIN, **who, password="wrong")
            done.append((answer["errno"], answer["error"], answer["errmsg"], *work[1:]))
            assert work[0] == ("Accounts.by_name" if "name" in who else "Accounts.by_id")
    assert set(done) == {(1, "bad_credentials", done[0][2], "Guesses.read", "Passwords._in_thread", "Guesses.add")}


@pytest.mark.settings(limits=FEW)
async def test_nor_do_the_delays_tell_which_accounts_there_are(address: Address) -> None:
    await register(address, "alice")
    answers = []
    for who in ({"name": "alice"}, {"name": "nobody"}, {"id": 77}):
        async with connect(address) as wire:
            answers.append([(await wire.call(Kind.LOGIN, **who, password="wrong"))["error"] for _ in range(4)])
    assert answers == [["bad_credentials", "bad_credentials", "rate_limited", "rate_limited"]] * 3


@pytest.mark.settings(limits=Limits(address_guesses=3, guess_delay=60))
async def test_who_has_a_device_at_a_place_is_not_delayed_for_what_others_guess_there(
    server: Server, address: Address
) -> None:
    for name in ("alice", "bob", "carol"):
        await register(address, name)
    async with log_in(address, "alice"):  # gets a token
        pass
    server.node.accounts._guard._known.clear()  # type: ignore[union-attr]  # as after a restart, or on another node
    async with connect(address) as wire:
        await guess(wire, {"name": "bob"}, 3)
        assert (await wire.call(Kind.LOGIN, name="carol", password="secret"))["error"] == "rate_limited"
        await wire.ok(Kind.LOGIN, name="alice", password="secret")
    assert server.node.counters.reached["address_guesses"] == 1
