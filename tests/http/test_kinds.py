"""The kinds that the web client brought, over both transports: what they do, and to whom."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.http.sockets import CARRIERS, enter
from tests.wire import Frame, Wire, WireClosed
from trio_chat import Limits, Server
from trio_chat.wire.messages import Kind


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
async def people(server: Server, carrier: str) -> Any:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(enter(server, carrier, name, receipts=name == "alice"))
            for name in ("alice", "bob", "carol")
        ]


def direct(wire: Wire, other: Wire) -> str:
    low, high = sorted((wire.id, other.id))
    return f"d:{low}:{high}"


async def only(wire: Wire, kind: Kind) -> Frame:
    frame = await wire.receive(kind)
    await wire.quiet()
    return frame


# -- TYPING ---------------------------------------------------------------------------------------------------------------


async def test_typing_reaches_the_other_one_and_nobody_else(people: list[Wire]) -> None:
    alice, bob, carol = people
    conv = direct(alice, bob)
    await alice.ok(Kind.TYPING, conv=conv)
    assert await bob.receive() == {"msgid": 30, "conv": conv, "id": alice.id}
    # At most once in a while; the rest succeeds and is swallowed.
    for _ in range(5):
        await alice.ok(Kind.TYPING, conv=conv)
    await bob.quiet()
    await bob.ok(Kind.TYPING, conv=conv)
    assert await only(alice, Kind.TYPING) == {"msgid": 30, "conv": conv, "id": bob.id}
    await carol.quiet()


async def test_typing_in_a_group_is_for_its_members(people: list[Wire]) -> None:
    alice, bob, carol = people
    group = (await alice.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
    await bob.ok(Kind.JOIN_GROUP, groupid=group)
    await alice.ok(Kind.TYPING, conv=f"g:{group}")
    assert await only(bob, Kind.TYPING) == {"msgid": 30, "conv": f"g:{group}", "id": alice.id}
    answer = await carol.call(Kind.TYPING, conv=f"g:{group}")
    assert answer["error"] == "not_a_member"
    assert (await carol.call(Kind.TYPING, conv=direct(alice, bob)))["error"] == "not_a_member"
    assert (await carol.call(Kind.TYPING, conv="g:77"))["error"] == "no_such_group"
    await alice.quiet()
    await bob.quiet()


async def test_typing_everywhere_at_once_is_bounded(people: list[Wire]) -> None:
    alice, bob, _ = people
    for number in range(100, 200):
        await alice.ok(Kind.TYPING, conv=f"d:{alice.id}:{number}")
    await alice.ok(Kind.TYPING, conv=direct(alice, bob))
    await bob.quiet()


# -- FIND_USER and GROUP_INFO ---------------------------------------------------------------------------------------------


async def test_finding_people_by_their_name(people: list[Wire]) -> None:
    alice, bob, _ = people
    for name in ("bob", "Bob", "BOB"):
        assert (await alice.ok(Kind.FIND_USER, name=name))["user"] == {"id": bob.id, "name": "bob", "state": "online"}
    for name in ("bo", "b\u043eb", "%", "nobody"):
        assert (await alice.call(Kind.FIND_USER, name=name))["error"] == "no_such_user"


async def test_a_group_shows_its_members_to_its_members(people: list[Wire]) -> None:
    alice, bob, carol = people
    group = (await alice.ok(Kind.CREATE_GROUP, groupname="climbers", groupdesc="Thursdays"))["groupid"]
    await bob.ok(Kind.JOIN_GROUP, groupid=group)
    await alice.ok(Kind.GROUP, groupid=group, msg="one")
    await alice.ok(Kind.GROUP, groupid=group, msg="two")
    await bob.messages(2)
    await bob.send(Kind.RECEIVED, conv=f"g:{group}", seq=2)
    await bob.ok(Kind.READ, conv=f"g:{group}", seq=1)
    known = {"id": group, "groupname": "climbers", "groupdesc": "Thursdays"}
    by_name = (await alice.ok(Kind.GROUP_INFO, groupname="climbers"))["group"]
    assert by_name == {
        **known,
        "users": [
            {"id": alice.id, "name": "alice", "state": "online", "role": "creator", "received_seq": 2, "read_seq": 0},
            {"id": bob.id, "name": "bob", "state": "online", "role": "normal", "received_seq": 2, "read_seq": 1},
        ],
    }
    assert (await bob.ok(Kind.GROUP_INFO, groupid=group))["group"] == by_name
    assert (await carol.ok(Kind.GROUP_INFO, groupid=group))["group"] == known
    assert (await carol.ok(Kind.GROUP_INFO, groupname="climbers"))["group"] == known
    assert (await carol.ok(Kind.GROUP_INFO, groupname="Climbers"))["group"] == known, (
        "names are compared without capitals"
    )
    for fields in ({"groupid": 99}, {"groupname": "runners"}):
        assert (await alice.call(Kind.GROUP_INFO, **fields))["error"] == "no_such_group"
    for fields in ({}, {"groupid": group, "groupname": "climbers"}):
        assert (await alice.call(Kind.GROUP_INFO, **fields))["error"] == "bad_request"


# -- SEARCH ---------------------------------------------------------------------------------------------------------------


async def find(wire: Wire, query: str, **fields: Any) -> list[str]:
    return [message["msg"] for message in (await wire.ok(Kind.SEARCH, query=query, **fields))["messages"]]


async def test_a_search_finds_words_in_ones_own_conversations(people: list[Wire]) -> None:
    alice, bob, carol = people
    group = (await alice.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
    texts = ["The red fox", "a blue FOX, a red hen", "100% _sure_!", "我们明天去北京吧", "Über die Brücke", "😀 smile"]
    for text in texts:
        await alice.ok(Kind.DIRECT, toid=bob.id, msg=text)
    await alice.ok(Kind.GROUP, groupid=group, msg="the fox of the group")
    for wire in (alice, bob):
        assert await find(wire, "red") == [texts[1], texts[0]]
        assert await find(wire, "fox hen") == [texts[1]]
        assert await find(wire, "%") == [texts[2]]
        assert await find(wire, "_sure_!") == [texts[2]]
        assert await find(wire, "北京") == await find(wire, "京") == [texts[3]]
        assert await find(wire, "über BRÜCKE") == [texts[4]]
        assert await find(wire, "😀") == [texts[5]]
        assert await find(wire, "wolf") == []
    assert await find(alice, "fox") == ["the fox of the group", texts[1], texts[0]]
    assert await find(alice, "fox", conv=direct(alice, bob)) == [texts[1], texts[0]]
    assert await find(bob, "group") == []
    assert await find(carol, "fox") == []
    await bob.ok(Kind.JOIN_GROUP, groupid=group)
    assert await find(bob, "group") == ["the fox of the group"]
    result = (await bob.ok(Kind.SEARCH, query="group"))["messages"]
    assert result == (await bob.ok(Kind.HISTORY, conv=f"g:{group}"))["messages"]


async def test_strangers_and_former_members_find_nothing(server: Server, people: list[Wire]) -> None:
    alice, bob, carol = people
    group = (await alice.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
    await bob.ok(Kind.JOIN_GROUP, groupid=group)
    await alice.ok(Kind.GROUP, groupid=group, msg="secret")
    await alice.ok(Kind.DIRECT, toid=bob.id, msg="secret")
    assert (await carol.call(Kind.SEARCH, query="secret", conv=f"g:{group}"))["error"] == "not_a_member"
    assert (await carol.call(Kind.SEARCH, query="secret", conv=direct(alice, bob)))["error"] == "not_a_member"
    assert len(await find(bob, "secret")) == 2

    def leave() -> Any:  # no request does it yet; whatever will, must not leave the past readable
        yield "DELETE FROM GroupUser WHERE userid = ?", (bob.id,)

    await server.node.messages.database.run(leave)
    found = (await bob.ok(Kind.SEARCH, query="secret"))["messages"]
    assert [message["conv"] for message in found] == [direct(alice, bob)]


async def test_results_come_in_pages(people: list[Wire]) -> None:
    alice, bob, carol = people
    for number in range(9):
        await alice.ok(Kind.DIRECT, toid=(bob.id, carol.id)[number % 2], msg=f"word {number}")
    seen: list[str] = []
    page: Frame = {"more": True}
    before: dict[str, Any] = {}
    while page["more"]:
        page = await alice.ok(Kind.SEARCH, query="word", limit=4, **before)
        seen += [message["msg"] for message in page["messages"]]
        before = {"before": {name: page["messages"][-1][name] for name in ("ts", "conv", "seq")}}
    assert sorted(seen) == [f"word {number}" for number in range(9)]
    assert len(await find(alice, "word", limit=5000)) == 9
    assert (await alice.call(Kind.SEARCH, query="   "))["error"] == "bad_request"


@pytest.mark.settings(limits=Limits(search=5))
async def test_a_search_is_bounded(people: list[Wire]) -> None:
    alice, bob, carol = people
    for number in range(4):
        await alice.ok(Kind.DIRECT, toid=bob.id, msg=f"word {number}")
        await alice.ok(Kind.DIRECT, toid=carol.id, msg=f"word {number}")
    assert len(await find(alice, "word")) == 5
    assert len(await find(alice, "word", conv=direct(alice, bob))) == 4


# -- DELIVERED ------------------------------------------------------------------------------------------------------------


async def test_a_sender_hears_what_was_received(server: Server, carrier: str, people: list[Wire]) -> None:
    alice, bob, carol = people
    conv = direct(alice, bob)
    for number in range(10):
        await alice.ok(Kind.DIRECT, toid=bob.id, msg=str(number))
    await bob.messages(10)
    await alice.quiet()
    started = trio.current_time()
    for seq in range(1, 11):
        await bob.send(Kind.RECEIVED, conv=conv, seq=seq)
    heard = [await alice.receive(Kind.DELIVERED)]
    while heard[-1]["seq"] < 10:
        heard.append(await alice.receive(Kind.DELIVERED))
    assert heard[-1] == {"msgid": 34, "conv": conv, "seq": 10, "id": bob.id}
    assert len(heard) <= 2 + (trio.current_time() - started) / 0.2
    await alice.quiet()
    # What it says is durable.
    rows = (await alice.ok(Kind.CONVERSATIONS))["conversations"]
    assert rows == [
        {
            "conv": conv,
            "last_seq": 10,
            "received_seq": 10,
            "read_seq": 0,
            "peer_received_seq": 10,
            "peer_read_seq": 0,
        }
    ]
    # Who did not ask for receipts gets none; nor does a stranger.
    await bob.ok(Kind.DIRECT, toid=alice.id, msg="back")
    await alice.messages(1)
    await alice.send(Kind.RECEIVED, conv=conv, seq=11)
    await alice.ok(Kind.CONVERSATIONS)
    await bob.quiet()
    await carol.quiet()


async def test_reading_shows_in_the_others_list(people: list[Wire]) -> None:
    alice, bob, _ = people
    await alice.ok(Kind.DIRECT, toid=bob.id, msg="?")
    await bob.messages(1)
    await bob.ok(Kind.READ, conv=direct(alice, bob), seq=1)
    (row,) = (await alice.ok(Kind.CONVERSATIONS))["conversations"]
    assert (row["peer_received_seq"], row["peer_read_seq"]) == (0, 1)


async def test_one_alone_is_his_own_peer(people: list[Wire]) -> None:
    alice = people[0]
    await alice.ok(Kind.DIRECT, toid=alice.id, msg="note")
    (row,) = (await alice.ok(Kind.CONVERSATIONS))["conversations"]
    assert (row["conv"], row["peer_received_seq"]) == (f"d:{alice.id}:{alice.id}", 1)
    await alice.quiet()


@pytest.mark.parametrize("kind", [Kind.TYPING, Kind.FIND_USER, Kind.SEARCH, Kind.GROUP_INFO, Kind.DELIVERED])
async def test_nobody_asks_before_he_is_logged_in(server: Server, carrier: str, kind: Kind) -> None:
    async with enter(server, carrier, "alice") as wire:
        await wire.ok(Kind.LOGOUT)
        answer = await wire.call(kind, conv="d:1:1", name="alice", query="x", groupid=1)
        assert answer["error"] == ("unknown_kind" if kind is Kind.DELIVERED else "not_logged_in")


@pytest.mark.settings(limits=Limits(connections=2))
async def test_where_there_is_no_room_one_is_told_to_come_later(server: Server, carrier: str) -> None:
    async with enter(server, carrier, "alice"), enter(server, carrier, "bob"):
        if carrier == "tcp":
            with pytest.raises((WireClosed, trio.BrokenResourceError)):
                async with enter(server, carrier, "carol"):
                    pass
        else:
            from tests.http.raw import address_of, open_raw, upgrade

            async with open_raw(address_of(server)) as raw:
                await raw.send(upgrade())
                assert (await raw.answer()).status == 101
                assert (await raw.event()).opcode == 1
                event = await raw.event()
                assert event.code == 1013
                assert 5 <= int(event.payload[2:]) <= 30
                assert await raw.at_end()
    with trio.fail_after(5):
        while server.node.connections:
            await trio.sleep(0.01)
    async with enter(server, carrier, "carol"):
        pass


async def test_a_conversation_that_cannot_be_is_a_bad_request_everywhere(people: list[Wire]) -> None:
    alice = people[0]
    for kind, more in ((Kind.TYPING, {}), (Kind.READ, {"seq": 1}), (Kind.HISTORY, {}), (Kind.SEARCH, {"query": "x"})):
        assert (await alice.call(kind, conv="d:2:1", **more))["error"] == "bad_request"
    await alice.send(Kind.RECEIVED, conv="d:2:1", seq=1)
    await alice.quiet()
