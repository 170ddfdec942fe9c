"""Tokens over the wire: their life, and too many logins by password at once."""

from __future__ import annotations

import sqlite3
import time

import pytest
import trio

from tests.wire import connect, log_in, register
from trio_chat import Address, Limits, Server
from trio_chat.services.passwords import Passwords
from trio_chat.wire.messages import Kind

DAY = 86_400_000


def days_left(database: sqlite3.Connection) -> list[float]:
    now = time.time() * 1000
    return [(expires - now) / DAY for (expires,) in database.execute("SELECT expires FROM Token ORDER BY expires")]


@pytest.mark.settings(token_days=2)
async def test_each_login_renews_its_token(address: Address, database: sqlite3.Connection) -> None:
    await register(address, "alice")
    async with log_in(address, "alice") as a:
        token = a.ack["token"]
    assert days_left(database) == [pytest.approx(2, abs=0.01)]
    database.execute("UPDATE Token SET expires = expires - ?", (DAY / 10,))
    async with connect(address) as a:
        assert (await a.ok(Kind.LOGIN, token=token))["token"] == token
    assert days_left(database) == [pytest.approx(2, abs=0.01)]


async def test_an_expired_token_is_refused_and_goes(address: Address, database: sqlite3.Connection) -> None:
    await register(address, "alice")
    async with log_in(address, "alice") as a:
        token = a.ack["token"]
    database.execute("UPDATE Token SET expires = expires - ?", (30 * DAY,))
    async with connect(address) as a:
        refused = await a.call(Kind.LOGIN, token=token)
        assert (refused["msgid"], refused["error"]) == (Kind.LOGIN_ACK, "bad_credentials")
        assert "password" in refused["errmsg"]
    await register(address, "bob")
    async with log_in(address, "bob"):  # anybody's new token takes the expired ones away
        assert days_left(database) == [pytest.approx(30, abs=0.01)]


@pytest.mark.settings(limits=Limits(password_checks=1))
async def test_too_many_logins_at_once(server: Server, address: Address) -> None:
    await register(address, "alice")
    passwords = server.node.accounts._passwords
    assert isinstance(passwords, Passwords)
    threads = passwords._limiter
    busy = [object() for _ in range(int(threads.total_tokens))]
    for each in busy:
        threads.acquire_on_behalf_of_nowait(each)
    async with connect(address) as first, connect(address) as second, connect(address) as third:
        await first.send(Kind.LOGIN, name="alice", password="secret")
        with trio.fail_after(5):
            while not threads.statistics().tasks_waiting:
                await trio.sleep(0.001)
        for answer in (
            await second.call(Kind.LOGIN, name="alice", password="secret"),
            await third.call(Kind.REGISTER, name="bob", password="secret"),
        ):
            assert (answer["errno"], answer["error"]) == (121, "rate_limited")
            assert answer["retry_after"] > 0
        for each in busy:
            threads.release_on_behalf_of(each)
        assert (await first.receive(Kind.LOGIN_ACK))["errno"] == 0
        await second.ok(Kind.LOGIN, name="alice", password="secret")
