"""The client library in programs on asyncio and on Trio, against a server that is killed under it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest

from tests.client.conftest import Live
from tests.client.fake import FakeServer
from tests.client.fake_link import FakeDial
from trio_chat.client import (
    Chat,
    Group,
    Member,
    Message,
    NotReachable,
    Options,
    Person,
    ReadBy,
    ReceivedBy,
    TypingBy,
    connect,
)
from trio_chat.errors import BadCredentials, BadRequest, NameTaken, NoSuchGroup, NoSuchUser, NotAMember

Main = Callable[[Live], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest, live: Live) -> Callable[[Main], None]:
    def run_main(main: Main) -> None:
        async def limited() -> None:
            with anyio.fail_after(40):
                await main(live)

        anyio.run(limited, backend=request.param)

    return run_main


async def take(chat: Chat, count: int) -> list[Message]:
    taken = []
    async for message in chat.messages():
        taken.append(message)
        if len(taken) == count:
            chat.received(message)
            break
    return taken


def test_a_conversation(run: Callable[[Main], None]) -> None:
    async def main(live: Live) -> None:
        async with connect(live.address) as alice, connect(live.address) as bob:
            a, b = await alice.register("alice", "pw"), await bob.register("bob", "pw")
            with pytest.raises(NameTaken):
                await bob.register("bob", "pw")
            with pytest.raises(BadCredentials):
                await alice.login("alice", "wrong")
            assert (await alice.login("alice", "pw")).id == a
            assert (await bob.login(b, "pw")).name == "bob"
            friend = await alice.add_friend(b)
            assert friend.online
            sent = await alice.send(friend, "hello", key="k")
            assert await alice.send(b, "hello", key="k") == sent
            [message] = await take(bob, 1)
            assert (message.text, message.sender, message.name, message.seq) == ("hello", a, "alice", 1)
            assert not message.mine
            await bob.read(message)
            group = await alice.create_group("g", "d")
            with pytest.raises(NotAMember):
                await bob.send(f"g:{group.id}", "x")
            await bob.join_group(group.id)
            await bob.send(f"g:{group.id}", "from bob")
            assert [m.text for m in await take(alice, 1)] == ["from bob"]
            page = await alice.history(message.conv)
            assert [(m.text, m.mine) for m in page.messages] == [("hello", True)]
            with pytest.raises(NoSuchUser):
                await alice.send(4711, "x")
            assert await alice.ping() < 5
            token = bob.token
            assert token
        async with connect(live.address) as bob:
            assert (await bob.login(token=token)).id == b

    run(main)


def test_looking_up_and_who_is_doing_what(run: Callable[[Main], None]) -> None:
    async def main(live: Live) -> None:
        options = Options(receipts=True)
        async with connect(live.address, options=options) as alice, connect(live.address) as bob:
            a, b = await alice.register("alice", "pw"), await bob.register("bob", "pw")
            await alice.login("alice", "pw")
            with pytest.raises(NoSuchUser):
                await alice.find_user("Bobby")
            person = await alice.find_user("Bob")
            assert person == Person(b, "bob", online=False)
            await bob.login("bob", "pw")
            conv = (await alice.send(person, "the rope is in the car")).conv
            for text in ("今天下午去爬山吗", "另一条"):
                await alice.send(person, text)
            page = await alice.search("爬山")
            assert [(m.text, m.seq, m.mine, page.more) for m in page.messages] == [("今天下午去爬山吗", 2, True, False)]
            latest = await bob.search("a", conv=conv, limit=1)
            assert [m.seq for m in (await bob.search("r", before=page.messages[0])).messages] == [1]
            assert [m.seq for m in latest.messages] == [1]
            with pytest.raises(NotAMember):
                await bob.search("a", conv="d:77:78")

            await bob.typing(a)
            [*_, last] = await take(bob, 3)
            await bob.read(last)
            bob.received(last)
            seen: set[object] = set()
            expected = {TypingBy(conv, b), ReadBy(conv, 3, b), ReceivedBy(conv, 3, b)}
            async for event in alice.events():
                seen.add(event)
                if expected <= seen:
                    break
            [entry] = await alice.conversations()
            assert (entry.conv, entry.peer_received_seq, entry.peer_read_seq) == (conv, 3, 3)

            group = await alice.create_group("climbers", "Thursdays")
            await alice.send(group, "hello")
            await alice.typing(group)
            assert (await bob.group_info("climbers")) == Group(group.id, "climbers", "Thursdays")
            info = await alice.group_info(group.id)
            assert info.members == (Member(a, "alice", True, "creator", 1, 0),)
            with pytest.raises(NoSuchGroup):
                await alice.group_info("runners")

    run(main)


def test_nobody_there(run: Callable[[Main], None]) -> None:
    async def main(live: Live) -> None:
        live.kill()
        with pytest.raises(NotReachable, match="no chat server could be reached"):
            async with connect(live.address):
                pass

    run(main)


def test_killed_servers_cost_no_message_and_double_none(run: Callable[[Main], None]) -> None:
    """The server is killed again and again while two people write to each other as fast as they can."""
    count = 300
    options = Options(reconnect_first=0.05, reconnect_limit=0.3, retry_first=0.05)

    async def main(live: Live) -> None:
        async with connect(live.address, options=options) as alice, connect(live.address, options=options) as bob:
            await alice.register("alice", "pw")
            b = await bob.register("bob", "pw")
            a = (await alice.login("alice", "pw")).id
            await bob.login("bob", "pw")
            seqs: list[int] = []
            got: dict[str, list[tuple[int, str]]] = {"alice": [], "bob": []}

            async def write(chat: Chat, to: int) -> None:
                for i in range(count):
                    seqs.append((await chat.send(to, f"{to} {i}")).seq)
                    if i % 20 == 0:
                        await anyio.sleep(0.02)

            async def read(chat: Chat, name: str) -> None:
                got[name] = [(m.seq, m.text) for m in await take(chat, count)]

            async def kill() -> None:
                for _ in range(3):
                    await anyio.sleep(0.4)
                    live.kill()
                    await anyio.to_thread.run_sync(live.start)

            async with anyio.create_task_group() as tasks:
                for function in (
                    functools.partial(write, alice, b),
                    functools.partial(write, bob, a),
                    functools.partial(read, alice, "alice"),
                    functools.partial(read, bob, "bob"),
                    kill,
                ):
                    tasks.start_soon(function)
            assert sorted(seqs) == list(range(1, 2 * count + 1))
            assert [text for _, text in got["bob"]] == [f"{b} {i}" for i in range(count)]
            assert [text for _, text in got["alice"]] == [f"{a} {i}" for i in range(count)]
            assert sorted(seq for name in got for seq, _ in got[name]) == list(range(1, 2 * count + 1))

    run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_cannot_be_encoded_fails_its_caller_and_nobody_else(backend: str) -> None:
    async def main() -> None:
        server = FakeServer()
        server.account("alice")
        dial = FakeDial(server)
        async with connect("fake:1", dial=dial, options=Options(reconnect_first=0.01)) as chat:
            with pytest.raises(BadRequest, match=r"password: .* lone surrogate"):
                await chat.login("alice", "\udc80")
            await chat.login("alice", "pw")
            with anyio.fail_after(10):
                for down in (False, True):
                    dial.down = down
                    if down:
                        dial.cut()
                    with pytest.raises(BadRequest, match="msg: character 3 is a lone surrogate") as caught:
                        await chat.send(1, "xy\udc80")
                    assert caught.value.field == "msg"
                    with pytest.raises(BadRequest, match="key"):
                        await chat.send(1, "x", key="\udc80")
                    with pytest.raises(BadRequest, match="groupname"):
                        await chat.create_group("\udc80")
                dial.down = False
                assert (await chat.send(1, "ok")).seq == 1

    anyio.run(main, backend=backend)
