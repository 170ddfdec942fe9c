"""Every kind of request, by everybody who may stand in some relation to what it is about: what he gets, and learns.

There is a group of alice's, and a conversation of two between alice and her friend. Who is told what is one table; a
new kind fails here until it has its row.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest

from tests.http.sockets import CARRIERS, open_wire
from tests.wire import Frame, Wire
from trio_chat import Server
from trio_chat.commands import COMMANDS
from trio_chat.services.authorization import Rule
from trio_chat.store.relations import Relations
from trio_chat.wire.messages import REQUESTS, Kind

#: Who asks. The creator is alice herself; all others are somebody to her and to her group.
RELATIONS = ("stranger", "friend", "member", "former", "removed", "creator", "blocked", "disabled")

#: What the others must never see, wherever it stands.
SECRET = "the rope is in the shed"

OK, NO, AL = "ok", "not_a_member", "already_logged_in"


@attrs.frozen
class Row:
    """A request, and what comes of it for each of `RELATIONS` but the disabled one, who cannot log in.

    In the fields `alice`, `member` and `group` stand for their ids, `G` for the group's conversation, `D` for that of
    alice and her friend, `N` for one of alice's that has not begun.
    """

    fields: dict[str, Any]
    outcomes: tuple[str, str, str, str, str, str, str]


def same(outcome: str) -> tuple[str, str, str, str, str, str, str]:
    return (outcome,) * 7


IN_GROUP = (NO, NO, OK, NO, NO, OK, NO)
IN_DIRECT = (NO, OK, NO, NO, NO, OK, NO)
ALICE_ONLY = (NO, NO, NO, NO, NO, OK, NO)

#: In this order: what changes a relation comes last.
WALK: dict[Kind, list[Row]] = {
    Kind.HELLO: [Row({"version": 1}, same(AL))],
    Kind.REGISTER: [Row({"name": "new", "password": "secret"}, same(AL))],
    Kind.LOGIN: [Row({"name": "alice", "password": "secret"}, same(AL))],
    Kind.PING: [Row({}, same(OK))],
    Kind.PONG: [Row({}, same("nothing"))],
    Kind.READ: [
        Row({"conv": "G", "seq": 1}, IN_GROUP),
        Row({"conv": "D", "seq": 1}, IN_DIRECT),
        Row({"conv": "N", "seq": 1}, ALICE_ONLY),
    ],
    Kind.HISTORY: [
        Row({"conv": "G"}, IN_GROUP),
        Row({"conv": "D"}, IN_DIRECT),
        Row({"conv": "N"}, ALICE_ONLY),
        Row({"conv": "G", "after": 0, "limit": 1}, IN_GROUP),
    ],
    Kind.TYPING: [
        Row({"conv": "G"}, IN_GROUP),
        Row({"conv": "D"}, IN_DIRECT),
        Row({"conv": "N"}, ALICE_ONLY),
    ],
    Kind.SEARCH: [
        Row({"query": "rope"}, same(OK)),
        Row({"query": "rope", "conv": "G"}, IN_GROUP),
        Row({"query": "rope", "conv": "D"}, IN_DIRECT),
        Row({"query": "nothing", "conv": "D", "before": {"ts": 1, "conv": "D", "seq": 1}}, IN_DIRECT),
    ],
    Kind.RECEIVED: [Row({"conv": "G", "seq": 9}, same("nothing")), Row({"conv": "D", "seq": 9}, same("nothing"))],
    Kind.CONVERSATIONS: [Row({}, same(OK))],
    Kind.FIND_USER: [Row({"name": "alice"}, same(OK))],
    Kind.GROUP_INFO: [Row({"groupid": "group"}, same(OK)), Row({"groupname": "climbers"}, same(OK))],
    Kind.GROUP: [Row({"groupid": "group", "msg": "hello", "key": "g"}, IN_GROUP)],
    Kind.DIRECT: [Row({"toid": "alice", "msg": "hello", "key": "d"}, (OK, OK, OK, OK, OK, OK, "forbidden"))],
    Kind.ADD_FRIEND: [
        Row({"friendid": "alice"}, (OK, "already_exists", OK, OK, OK, "bad_request", "forbidden")),
    ],
    Kind.CREATE_GROUP: [Row({"groupname": "of one's own"}, (OK, *("already_exists",) * 6))],
    Kind.REMOVE_MEMBER: [
        Row({"groupid": "group", "userid": "alice"}, (NO, NO, "forbidden", NO, NO, "bad_request", NO)),
        Row({"groupid": "group", "userid": "member"}, (NO, NO, "forbidden", NO, NO, OK, NO)),
    ],
    Kind.BLOCKED: [Row({}, same(OK))],
    Kind.LOGINS: [Row({}, same(OK))],
    Kind.REVOKE_LOGIN: [Row({"login": "0123456789abcdef"}, same("no_such_login"))],
    Kind.EXPORT: [Row({}, same(OK)), Row({"after": {"conv": "D", "seq": 0}}, same(OK))],
    Kind.CHANGE_PASSWORD: [Row({"password": "wrong", "newpassword": "another"}, same("bad_credentials"))],
    Kind.DELETE_ACCOUNT: [Row({"password": "wrong"}, same("bad_credentials"))],
    Kind.LEAVE_GROUP: [Row({"groupid": "group"}, IN_GROUP)],
    Kind.JOIN_GROUP: [Row({"groupid": "group"}, (OK, OK, OK, OK, "forbidden", OK, OK))],
    Kind.BLOCK: [Row({"userid": "alice"}, (OK, OK, OK, OK, OK, "bad_request", OK))],
    Kind.UNBLOCK: [Row({"userid": "alice"}, same(OK))],
    Kind.LOGOUT: [Row({}, same(OK))],
    # Nobody is logged in any more.
    Kind.LOGOUT_EVERYWHERE: [Row({}, same("not_logged_in"))],
}


def test_every_kind_has_its_row() -> None:
    assert set(WALK) == set(REQUESTS)
    assert all(WALK.values())


def test_every_kind_has_its_rule() -> None:
    """A row about a conversation or a user has a rule that looks at it."""
    for kind, request in REQUESTS.items():
        named = {field.name for field in getattr(request, "__attrs_attrs__", ())}
        rule = COMMANDS[kind].rule
        if "conv" in named:
            assert rule is Rule.PARTY or kind is Kind.RECEIVED, kind
        if {"toid", "friendid"} & named:
            assert rule in {Rule.WRITER, Rule.TOGETHER}, kind
        if "groupid" in named:
            assert rule in {Rule.WRITER, Rule.MEMBER, Rule.CREATOR, Rule.PUBLIC}, kind


_refs = itertools.count(1_000_000)


class Asker:
    """Somebody, over either dialect: what he asks, and all that he ever got."""

    def __init__(self, wire: Wire, *, modern: bool) -> None:
        self.wire = wire
        self.modern = modern
        self.got: list[Frame] = []

    async def ask(self, kind: Kind, fields: dict[str, Any]) -> Frame:
        """What comes of a request: its answer, or nothing. For a classic session nothing means success."""
        ref, barrier = next(_refs), next(_refs)
        await self.wire.send(kind, ref=ref, **fields)
        if kind not in {Kind.LOGOUT, Kind.PING} and (kind in {Kind.RECEIVED, Kind.PONG} or not self.modern):
            # What waits for the database is done in order, so this comes after whatever that request has led to.
            await self.wire.send(Kind.CONVERSATIONS, ref=barrier)
            await self.until(barrier)
            found = [frame for frame in self.got if frame.get("ref") == ref]
            return found[0] if found else {}
        return await self.until(ref) if self.modern or kind is Kind.PING else {}

    async def until(self, ref: int) -> Frame:
        while not self.got or self.got[-1].get("ref") != ref:
            self.got.append(await self.wire.receive())
        return self.got[-1]

    async def settle(self) -> None:
        """All that was on its way to him is in `got`."""
        ref = next(_refs)
        await self.wire.send(Kind.CONVERSATIONS, ref=ref)
        await self.until(ref)

    def saw(self, text: str) -> bool:
        return text in json.dumps(self.got)


@attrs.define
class World:
    server: Server
    carrier: str
    modern: bool
    stack: AsyncExitStack
    ids: dict[str, int] = attrs.field(factory=dict)
    alice: Any = None

    async def enter(self, name: str, *, modern: bool) -> Asker:
        wire = await self.stack.enter_async_context(open_wire(self.server, self.carrier))
        if modern:
            await wire.ok(Kind.HELLO, version=1)
        await wire.send(Kind.LOGIN, name=name, password="secret")
        wire.ack = await wire.receive(Kind.LOGIN_ACK)
        assert wire.ack["errno"] == 0, wire.ack
        asker = Asker(wire, modern=modern)
        asker.got.append(wire.ack)
        return asker

    def fill(self, value: Any) -> Any:
        alice, friend = self.ids["creator"], self.ids["friend"]
        stands = {
            "alice": alice,
            "member": self.ids["another"],
            "group": 1,
            "G": "g:1",
            "D": f"d:{min(alice, friend)}:{max(alice, friend)}",
            "N": f"d:{alice}:777777",
        }
        if isinstance(value, dict):
            return {
                name: each if name in {"name", "groupname", "query", "msg"} else self.fill(each)
                for name, each in value.items()
            }
        return stands.get(value, value) if isinstance(value, str) else value


@asynccontextmanager
async def world(server: Server, carrier: str, *, modern: bool) -> AsyncIterator[World]:
    """Alice, her group and her friend, and everybody's relation to them."""
    async with AsyncExitStack() as stack:
        made = World(server, carrier, modern, stack)
        wires: dict[str, Wire] = {}
        for relation in (*RELATIONS, "another"):
            wire = wires[relation] = await stack.enter_async_context(open_wire(server, carrier))
            await wire.ok(Kind.HELLO, version=1)
            name = "alice" if relation == "creator" else relation
            made.ids[relation] = (await wire.ok(Kind.REGISTER, name=name, password="secret"))["id"]
            await wire.ok(Kind.LOGIN, name=name, password="secret")
        alice, ids = wires["creator"], made.ids
        assert (await alice.ok(Kind.CREATE_GROUP, groupname="climbers"))["groupid"] == 1
        for relation in ("member", "former", "removed", "another"):
            await wires[relation].ok(Kind.JOIN_GROUP, groupid=1)
        await wires["former"].ok(Kind.LEAVE_GROUP, groupid=1)
        await alice.ok(Kind.REMOVE_MEMBER, groupid=1, userid=ids["removed"])
        for one, other in (("creator", "friend"), ("friend", "creator"), ("blocked", "creator")):
            await wires[one].ok(Kind.ADD_FRIEND, friendid=ids[other])
        await alice.ok(Kind.BLOCK, userid=ids["blocked"])
        await alice.ok(Kind.GROUP, groupid=1, msg=SECRET)
        await alice.ok(Kind.DIRECT, toid=ids["friend"], msg=SECRET)
        for wire in wires.values():
            await wire.ok(Kind.LOGOUT)
        made.alice = await made.enter("alice", modern=True)
        yield made


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("modern", [True, False], ids=["modern", "classic"])
async def test_everybody_gets_what_is_his(server: Server, carrier: str, modern: bool) -> None:
    async with world(server, carrier, modern=modern) as made:
        await Relations(server.node.messages.database).disable("disabled")
        for place, relation in enumerate(RELATIONS):
            if relation not in {"creator", "disabled"}:
                await _walk(made, relation, place)
        await _disabled_walk(made)
        if not modern:
            # Classic sessions are one at a time.
            await made.alice.wire.ok(Kind.LOGOUT)
            made.alice = None
        await _walk(made, "creator", RELATIONS.index("creator"))


async def _walk(made: World, relation: str, place: int) -> None:
    somebody = await made.enter("alice" if relation == "creator" else relation, modern=made.modern)
    in_group, in_direct = relation in {"member", "creator"}, relation in {"friend", "creator"}
    # What the others do meanwhile reaches whom it is for.
    if relation != "creator":
        for connection in made.server.node.connections:
            connection._typing = {}  # who types tells it once in a while only
        for kind, fields in (
            (Kind.GROUP, {"groupid": 1, "msg": SECRET}),
            (Kind.DIRECT, {"toid": made.ids["friend"], "msg": SECRET}),
            (Kind.TYPING, {"conv": "g:1"}),
            (Kind.READ, {"conv": "g:1", "seq": place + 2}),
            (Kind.READ, {"conv": made.fill("D"), "seq": place + 2}),
        ):
            await made.alice.wire.ok(kind, **fields)
        await somebody.settle()
        kinds = {frame["msgid"] for frame in somebody.got}
        assert (Kind.GROUP in kinds) == in_group
        assert (Kind.DIRECT in kinds) == in_direct
        assert (Kind.READ in kinds) == ((in_group or in_direct) and made.modern)
        assert (Kind.TYPING in kinds) == (in_group and made.modern)
    if relation == "blocked":
        # Alice is there, and he is told nothing of it.
        friends = [json.loads(each) if isinstance(each, str) else each for each in somebody.wire.ack["friends"]]
        assert [friend["state"] for friend in friends] == ["offline"]
    for kind, rows in WALK.items():
        for row in rows:
            answer = await somebody.ask(kind, made.fill(row.fields))
            expected = _expected(kind, row, place, relation, modern=made.modern)
            outcome = answer.get("error", "ok" if answer or not made.modern else "nothing")
            assert outcome == expected, (relation, kind.name, row.fields, answer)
            _check_answer(kind, answer, relation, in_group=in_group)
    if not (in_group or in_direct):
        # Not even by joining, which is the last thing but a few: what was said before is in HISTORY only.
        assert not somebody.saw(SECRET)


def _expected(kind: Kind, row: Row, place: int, relation: str, *, modern: bool) -> str:
    outcome = row.outcomes[RELATIONS[:7].index(relation)]
    if kind is Kind.CREATE_GROUP and place == 0:
        return "ok"
    return "ok" if outcome == "nothing" and not modern else outcome


def _check_answer(kind: Kind, answer: Frame, relation: str, *, in_group: bool) -> None:
    if answer.get("errno"):
        # An error tells nothing that was not in the request.
        assert set(answer) <= {"msgid", "ref", "errno", "error", "errmsg"}
        assert SECRET not in answer["errmsg"]
    elif kind is Kind.GROUP_INFO:
        assert ("users" in answer["group"]) == in_group
    elif kind is Kind.FIND_USER and relation == "blocked":
        assert answer["user"]["state"] == "offline"
    elif kind is Kind.CONVERSATIONS:
        assert ("g:1" in [each["conv"] for each in answer["conversations"]]) == in_group


async def _disabled_walk(made: World) -> None:
    """Whose account is disabled is told so only with the right password, and may do what strangers to the server may."""
    wire = await made.stack.enter_async_context(open_wire(made.server, made.carrier))
    if made.modern:
        await wire.ok(Kind.HELLO, version=1)
    assert (await wire.call(Kind.LOGIN, name="disabled", password="wrong"))["error"] == "bad_credentials"
    assert (await wire.call(Kind.LOGIN, name="disabled", password="secret"))["error"] == "forbidden"
    for kind, rows in WALK.items():
        if kind in {Kind.HELLO, Kind.LOGIN, Kind.REGISTER, Kind.PING, Kind.PONG, Kind.RECEIVED}:
            continue
        for row in rows:
            assert (await wire.call(kind, **made.fill(row.fields)))["error"] == "not_logged_in"


async def test_a_conversation_of_others_is_refused_alike_whether_there_is_one_or_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words, and without asking the database, which could take the longer the more there is."""
    kinds: dict[Kind, Frame] = {Kind.HISTORY: {}, Kind.READ: {"seq": 1}, Kind.TYPING: {}, Kind.SEARCH: {"query": "x"}}
    async with world(server, "tcp", modern=True) as made:
        stranger = await made.enter("stranger", modern=True)

        async def read(*_: object) -> None:
            raise AssertionError("the database was asked")

        monkeypatch.setattr(type(server.node.messages.database), "read", read)
        for kind, more in kinds.items():
            answers = []
            for conv in (made.fill("D"), "d:888888:999999", made.fill("N")):
                answer = await stranger.ask(kind, {"conv": conv, **more})
                answers.append({name: value for name, value in answer.items() if name != "ref"})
            assert answers[0] == answers[1] == answers[2]
            assert answers[0]["error"] == NO
        monkeypatch.undo()
