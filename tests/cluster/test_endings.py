"""Whoever is logged in on another node is out there too: told by Redis at once, or without it found in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import attrs
import pytest
import trio

from tests.wire import Wire, WireClosed, connect, log_in, register
from trio_chat import Server, Settings
from trio_chat.store.mysql import MySQL
from trio_chat.store.relations import Relations
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

pytestmark = pytest.mark.slow

Nodes = tuple[Server, Server]
#: Ends the logins of `elsewhere` by a request on `here`.
Way = Callable[[Wire, Wire], Awaitable[object]]


@pytest.fixture(params=["hints", "looks"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With hints nobody looks into the database for a minute, and without Redis twice a second."""
    return attrs.evolve(settings, sweep=60.0 if request.param == "hints" else 0.5)


async def everywhere(here: Wire, _: Wire) -> object:
    return await here.ok(Kind.LOGOUT_EVERYWHERE)


async def revoke(here: Wire, elsewhere: Wire) -> object:
    logins = (await elsewhere.ok(Kind.LOGINS))["logins"]
    (login,) = [each["login"] for each in logins if each["current"]]
    return await here.ok(Kind.REVOKE_LOGIN, login=login)


async def change_password(here: Wire, _: Wire) -> object:
    return await here.ok(Kind.CHANGE_PASSWORD, password="secret", newpassword="a new secret")


async def delete(here: Wire, _: Wire) -> object:
    return await here.ok(Kind.DELETE_ACCOUNT, password="secret")


async def out(wire: Wire) -> None:
    """Within some sweeps it is told why, and closed."""
    frame = await wire.receive(Kind.REPLY, within=5)
    assert (frame["error"], "ref" in frame) == ("login_revoked", False)
    with pytest.raises(WireClosed):
        await wire.receive()


async def test_a_login_that_is_ended_ends_on_the_other_node(nodes: Nodes, settings: Settings, redis: Redis) -> None:
    one, two = (node.addresses[0] for node in nodes)
    ways: dict[str, Way] = {each.__name__: each for each in (everywhere, revoke, change_password, delete)}
    names = [*ways, "classic", "disabled", "bystander"]
    ids = {name: await register(one, name) for name in names}
    async with AsyncExitStack() as stack:
        # A classic login has to be its account's first.
        elsewhere = {
            name: await stack.enter_async_context(log_in(two, ids[name], modern=name != "classic")) for name in names
        }
        here = {name: await stack.enter_async_context(log_in(one, name)) for name in names}
        if settings.sweep < 1:
            redis.kill()
            with trio.fail_after(10):
                while any(node.node.router.bus_up for node in nodes):
                    await trio.sleep(0.02)
        for name, way in ways.items():
            await way(here[name], elsewhere[name])
            await out(elsewhere[name])
            async with connect(two) as wire:
                answer = await wire.call(Kind.LOGIN, token=elsewhere[name].ack["token"])
                assert answer["error"] == "bad_credentials"
        await change_password(here["classic"], elsewhere["classic"])
        await out(elsewhere["classic"])
        if settings.sweep < 1:
            # `trio-chat account disable` tells no node: with Redis too they find it in the database.
            async with MySQL.from_url(settings.database, timeout=10).open() as database:
                await Relations(database).disable("disabled")
            await out(here["disabled"])
            await out(elsewhere["disabled"])
        for wire in (here["revoke"], here["change_password"], here["bystander"], elsewhere["bystander"]):
            await wire.quiet()
