"""Logins that end while others begin: who has just logged in is not taken for somebody whose login was revoked."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.wire import log_in, register
from trio_chat import Server
from trio_chat.store.logins import Logins
from trio_chat.wire.messages import Kind


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "classic"])
async def test_a_login_that_begins_while_the_others_are_looked_at_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, modern: bool
) -> None:
    address = server.addresses[0]
    alice = await register(address, "alice")
    read, go_on, standing = trio.Event(), trio.Event(), Logins.standing

    async def read_and_wait(logins: Logins, userid: int) -> Any:
        found = await standing(logins, userid)
        read.set()
        await go_on.wait()
        return found

    async with log_in(address, alice, modern=modern) as wire:
        monkeypatch.setattr(Logins, "standing", read_and_wait)
        await wire.call(Kind.LOGOUT_EVERYWHERE)
        with trio.fail_after(5):
            await read.wait()
        await wire.send(Kind.LOGIN, id=alice, password="secret")
        assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 0
        go_on.set()
        await trio.sleep(0.1)
        await wire.ok(Kind.CONVERSATIONS)
        await wire.quiet()
