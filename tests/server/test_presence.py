"""What friends are told when news of a user takes several ways to a node."""

from __future__ import annotations

import pytest
import trio

from tests.wire import log_in, register
from trio_chat import Server
from trio_chat.store.presence import Entry, StateChange
from trio_chat.wire.messages import Kind


async def test_who_watches_already_is_told_what_a_later_login_has_read(server: Server) -> None:
    address, router = server.addresses[0], server.node.router
    bob = await register(address, "bob")
    for name in ("alice", "carol"):
        await register(address, name)
    async with log_in(address, "alice") as a, log_in(address, "carol") as c:
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        await c.ok(Kind.ADD_FRIEND, friendid=bob)
        # The bus has lost that bob came, on another node; a login here reads it.
        router.watch(router.accounts[c.id], StateChange(bob, "online", 2**50))
        router.flush()
        for wire in (a, c):
            assert await wire.receive() == {"msgid": Kind.PRESENCE, "id": bob, "state": "online"}


async def test_a_login_that_read_an_old_state_answers_with_what_has_come_since(server: Server) -> None:
    address, router = server.addresses[0], server.node.router
    bob = await register(address, "bob")
    for name in ("alice", "carol"):
        await register(address, name)
    async with log_in(address, "alice") as a:
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        async with log_in(address, "carol") as c:
            await c.ok(Kind.ADD_FRIEND, friendid=bob)
        router.state_changed(StateChange(bob, "online", 2**50))
        async with log_in(address, "carol") as c:
            assert c.ack["friends"] == [{"id": bob, "name": "bob", "state": "online"}]
            assert c.ack["id"] == c.id  # and nothing came before it


@pytest.mark.settings(lease=0.5)
async def test_a_node_that_has_ended_its_life_begins_no_new_one(server: Server) -> None:
    presence = server.node.presence
    await presence.stop()
    await trio.sleep(0.3)  # for longer than from beat to beat
    assert await presence._table.nodes() == []


async def test_who_came_back_before_the_database_was_told_is_no_work_any_more(server: Server) -> None:
    address, presence = server.addresses[0], server.node.presence
    alice = await register(address, "alice")
    await presence.enter([Entry(alice)])
    presence.left(alice)  # a former connection has ended while this login goes on
    async with log_in(address, alice):
        pass
    async with log_in(address, alice) as a:
        with trio.fail_after(5):
            while presence._left or presence._leaving:
                await trio.sleep(0.001)
        await a.quiet()
    presence.entered(alice)
