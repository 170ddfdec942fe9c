"""Leaving, removing and blocking by the client library; the same in the terminal."""

from __future__ import annotations

import anyio
import pytest

from tests.client.conftest import Live
from trio_chat.client import Chat, Friend, RemovedFrom, User, connect
from trio_chat.client.terminal_commands import BadCommand, Console
from trio_chat.errors import Forbidden, NoSuchUser, NotAMember


async def removal(chat: Chat) -> int:
    async for event in chat.events():
        if isinstance(event, RemovedFrom):
            return event.group
    raise AssertionError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_groups_and_blocks(live: Live, backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(40):
            async with connect(live.address) as alice, connect(live.address) as bob, connect(live.address) as phone:
                a, b = await alice.register("alice", "pw"), await bob.register("bob", "pw")
                for chat, who in ((alice, a), (bob, b), (phone, b)):
                    await chat.login(who, "pw")
                group = await alice.create_group("climbers")
                await bob.join_group(group.id)
                await bob.leave_group(group.id)
                assert await removal(phone) == group.id
                assert group.id not in bob.groups
                with pytest.raises(NotAMember):
                    await bob.leave_group(group.id)
                await alice.send(group, "without him")
                await bob.join_group(group.id)
                await alice.send(group, "with him")
                async for message in bob.messages():
                    assert (message.seq, message.text) == (2, "with him")
                    break
                await alice.remove_member(group.id, b)
                assert await removal(bob) == group.id
                with pytest.raises(Forbidden):
                    await bob.join_group(group.id)
                await alice.remove_member(group.id, b, barred=False)
                await bob.join_group(group.id)

                await alice.block(b)
                assert await alice.blocked() == (User(b, "bob"),)
                with pytest.raises(Forbidden):
                    await bob.send(a, "?")
                with pytest.raises(NoSuchUser):
                    await alice.block(4711)
                await alice.unblock(b)
                assert await bob.add_friend(a) == Friend(a, "alice", online=True)
                await bob.send(a, "!")

    anyio.run(main, backend=backend)


def test_in_the_terminal(live: Live) -> None:
    async def nobody() -> str:
        raise BadCommand("nobody can be asked")

    async def main() -> None:
        lines: list[str] = []
        async with connect(live.address) as alice, connect(live.address) as bob:
            console = Console(alice, lines.append, nobody)
            for line in (
                "register:alice:pw",
                "register:bob:pw",
                "login:alice:pw",
                "creategroup:climbers",
                "block:bob",
                "blocked",
            ):
                await console.do(line)
            assert lines[-2:] == ["blocked: neither of you can write to the other", "  blocked 2 bob"]
            await bob.login("bob", "pw")
            await bob.join_group(1)
            for line in ("unblock:bob", "blocked", "removemember:climbers:bob", "leavegroup:climbers"):
                await console.do(line)
            assert lines[-3:] == [
                "not blocked any more",
                "removed; he cannot join again",
                "you are not in this group any more",
            ]

    anyio.run(main, backend="trio")
