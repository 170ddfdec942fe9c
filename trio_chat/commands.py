"""What each request does: one row of the table for each kind.

`now` does a request without waiting and returns True, or returns False where it has to wait for something; `later` is
the same request with the waiting. Both get the decoded request, answer on the connection, and raise `RequestError`
where the request fails; the session's table was asked before either is called. Whether the account may ask for it says
the row's rule: `later` begins with the check of it, what `now` does asks by itself (`Authorization`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_chat.account_commands import (
    change_password,
    delete_account,
    export,
    list_logins,
    log_out_everywhere,
    revoke_login,
    settle,
)
from trio_chat.errors import BadRequest, RateLimited
from trio_chat.services.authorization import Rule
from trio_chat.services.login import log_in
from trio_chat.session import Dialect
from trio_chat.wire.messages import (
    AddFriend,
    Block,
    CreateGroup,
    Direct,
    FindUser,
    Group,
    GroupInfo,
    Hello,
    History,
    JoinGroup,
    Kind,
    LeaveGroup,
    Login,
    Ping,
    Read,
    Received,
    Ref,
    Register,
    RemoveMember,
    Request,
    Search,
    Typing,
    Unblock,
)
from trio_chat.writer import Submission

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.router import LocalAccount

__all__ = ["COMMANDS", "DEAF", "Command"]

PROTOCOL_VERSION = 1

#: The kinds that a draining server still takes: they ask nothing of it.
DEAF = frozenset({Kind.PING, Kind.PONG, Kind.RECEIVED})


@attrs.frozen
class Command:
    rule: Rule
    now: Callable[[Connection, Any, Ref | None], bool] | None = None
    later: Callable[[Connection, Any, Ref | None], Awaitable[None]] | None = None


def _row(
    rule: Rule,
    *,
    now: Callable[[Connection, Any, Ref | None], bool] | None = None,
    later: Callable[[Connection, Any, Ref | None], Awaitable[None]] | None = None,
) -> Command:
    """A row whose `later` checks its rule first. Where there is none it is `now`, which then does not have to wait."""

    async def checked(connection: Connection, request: Any, ref: Ref | None) -> None:
        await connection.node.authorization.check(rule, connection.account, request)
        if later is not None:
            await later(connection, request, ref)
        elif now is None or not now(connection, request, ref):
            raise AssertionError("what is allowed can be done")

    return Command(rule, now, checked)


def _account(connection: Connection) -> LocalAccount:
    assert connection.account is not None, "the session's table lets nobody here who is not logged in"
    return connection.account


def _hello(connection: Connection, request: Hello, ref: Ref | None) -> bool:
    if request.version != PROTOCOL_VERSION:
        raise BadRequest(f"version: this server speaks version {PROTOCOL_VERSION}", field="version")
    connection.session.greeted()
    connection.client = request.client
    connection.want_receipts(wanted=request.receipts)
    node = connection.node
    limits = node.settings.limits
    fields = {
        "version": PROTOCOL_VERSION,
        "server": node.server_name,
        "node": node.name,
        "limits": {"frame": limits.frame, "message": limits.message},
        "heartbeat": node.settings.heartbeat,
    }
    connection.answer(Kind.HELLO_ACK, ref, fields)
    return True


def _ping(connection: Connection, request: Ping, ref: Ref | None) -> bool:
    connection.answer(Kind.PONG, ref, {"data": request.data} if request.data else {})
    return True


def _pong(_: Connection, __: Request, ___: Ref | None) -> bool:
    return True


def _message(connection: Connection, request: Direct | Group, ref: Ref | None) -> bool:
    draft = connection.node.chat.draft(_account(connection), request)
    if draft is None:
        return False
    if isinstance(request, Group) and (over := _fan_out(connection, request.groupid)):
        if connection.session.dialect is Dialect.MODERN:
            raise RateLimited(
                math.ceil(over * 10) / 10, "this group is large; you send too much", limit="deliveries_per_second"
            )
        return False
    connection.message_submitted()
    connection.node.writer.submit(Submission(draft, connection, ref))
    return True


async def _message_later(connection: Connection, request: Direct | Group, ref: Ref | None) -> None:
    while True:
        await connection.node.authorization.check(Rule.WRITER, _account(connection), request)
        await connection.node.chat.find_target(request)
        if _message(connection, request, ref):
            return
        # A classic session that sends too much to a large group is not refused but kept waiting.
        pause = 0.0 if connection.meter is None else connection.meter.deliveries_over(trio.current_time())
        if pause <= 0:
            raise AssertionError("an allowed message has a draft")
        connection.node.counters.reached["deliveries_per_second"] += 1
        await trio.sleep(pause)


def _fan_out(connection: Connection, groupid: int) -> float:
    """Charge the sender for a message to a group; returns the seconds that it has to wait, 0 where it was counted."""
    if connection.meter is None:
        return 0.0
    count = connection.node.router.online_members(groupid)
    return connection.meter.charge_deliveries(trio.current_time(), count)


def _received(connection: Connection, request: Received, _: Ref | None) -> bool:
    connection.node.chat.received(connection, _account(connection), request.conv, request.seq)
    return True


async def _register(connection: Connection, request: Register, ref: Ref | None) -> None:
    userid = await connection.node.accounts.register(request, connection.network)
    connection.answer(Kind.REGISTER_ACK, ref, {"errno": 0, "id": userid})


async def _login(connection: Connection, request: Login, ref: Ref | None) -> None:
    await log_in(connection, request, ref)


async def _logout(connection: Connection, _: Request, ref: Ref | None) -> None:
    await settle(connection)
    token = connection.token
    if token is not None:
        await connection.node.accounts.revoke_token(token)
    connection.log_out()
    connection.session.logged_out()
    connection.succeed(ref, {})


async def _add_friend(connection: Connection, request: AddFriend, ref: Ref | None) -> None:
    account = _account(connection)
    friend = await connection.node.accounts.add_friend(account.id, request.friendid)
    router = connection.node.router
    router.watch(account, friend.as_change())
    connection.succeed(ref, {"friend": friend.fields(router.state_of(account, friend.id))})


async def _create_group(connection: Connection, request: CreateGroup, ref: Ref | None) -> None:
    groupid = await connection.node.group_service.create(_account(connection), request.groupname, request.groupdesc)
    connection.succeed(ref, {"groupid": groupid})


async def _join_group(connection: Connection, request: JoinGroup, ref: Ref | None) -> None:
    group = await connection.node.group_service.join(_account(connection), request.groupid)
    connection.succeed(ref, {"group": attrs.asdict(group)})


async def _read(connection: Connection, request: Read, ref: Ref | None) -> None:
    await connection.node.chat.read(_account(connection), request.conv, request.seq)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _history(connection: Connection, request: History, ref: Ref | None) -> None:
    # Large answers are made no faster than the client reads them.
    await connection.wait_drained()
    page = await connection.node.chat.history(request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, **page})


async def _conversations(connection: Connection, _: Request, ref: Ref | None) -> None:
    await connection.wait_drained()
    conversations = await connection.node.chat.conversations(_account(connection))
    connection.answer(Kind.REPLY, ref, {"errno": 0, "conversations": conversations})


def _typing(connection: Connection, request: Typing, ref: Ref | None) -> bool:
    account = _account(connection)
    if not connection.node.authorization.is_party(account, request.conv):
        return False
    if connection.may_tell_typing(request.conv):
        connection.node.chat.typing(account, request.conv)
    connection.answer(Kind.REPLY, ref, {"errno": 0})
    return True


async def _find_user(connection: Connection, request: FindUser, ref: Ref | None) -> None:
    user = await connection.node.accounts.find(request.name)
    state = connection.node.authorization.state(_account(connection), user.id, user.state)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "user": user.fields(state)})


async def _search(connection: Connection, request: Search, ref: Ref | None) -> None:
    page = await connection.node.search.search(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, **page})


async def _group_info(connection: Connection, request: GroupInfo, ref: Ref | None) -> None:
    group = await connection.node.group_service.info(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "group": group})


async def _leave_group(connection: Connection, request: LeaveGroup, ref: Ref | None) -> None:
    # What was sent before is answered before, each message in its place.
    await connection.wait_stored()
    await connection.node.group_service.leave(connection, _account(connection), request.groupid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _remove_member(connection: Connection, request: RemoveMember, ref: Ref | None) -> None:
    await connection.node.group_service.remove(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _block(connection: Connection, request: Block, ref: Ref | None) -> None:
    await connection.node.relationships.block(_account(connection).id, request.userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _unblock(connection: Connection, request: Unblock, ref: Ref | None) -> None:
    await connection.node.relationships.unblock(_account(connection).id, request.userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _blocked(connection: Connection, _: Request, ref: Ref | None) -> None:
    users = await connection.node.relationships.blocked(_account(connection).id)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "users": [{"id": userid, "name": name} for userid, name in users]})


#: Every kind of request has its row; a test compares them with `REQUESTS` and with the session's table.
COMMANDS: dict[Kind, Command] = {
    Kind.HELLO: _row(Rule.NOTHING, now=_hello),
    Kind.PING: _row(Rule.NOTHING, now=_ping),
    Kind.PONG: _row(Rule.NOTHING, now=_pong),
    Kind.REGISTER: _row(Rule.NOTHING, later=_register),
    Kind.LOGIN: _row(Rule.NOTHING, later=_login),
    Kind.LOGOUT: _row(Rule.OWN, later=_logout),
    Kind.DIRECT: _row(Rule.WRITER, now=_message, later=_message_later),
    Kind.GROUP: _row(Rule.WRITER, now=_message, later=_message_later),
    Kind.ADD_FRIEND: _row(Rule.TOGETHER, later=_add_friend),
    Kind.CREATE_GROUP: _row(Rule.OWN, later=_create_group),
    Kind.JOIN_GROUP: _row(Rule.PUBLIC, later=_join_group),
    Kind.RECEIVED: _row(Rule.OWN, now=_received),
    Kind.READ: _row(Rule.PARTY, later=_read),
    Kind.HISTORY: _row(Rule.PARTY, later=_history),
    Kind.CONVERSATIONS: _row(Rule.OWN, later=_conversations),
    Kind.TYPING: _row(Rule.PARTY, now=_typing),
    Kind.FIND_USER: _row(Rule.PUBLIC, later=_find_user),
    Kind.SEARCH: _row(Rule.PARTY, later=_search),
    Kind.GROUP_INFO: _row(Rule.PUBLIC, later=_group_info),
    Kind.LEAVE_GROUP: _row(Rule.MEMBER, later=_leave_group),
    Kind.REMOVE_MEMBER: _row(Rule.CREATOR, later=_remove_member),
    Kind.BLOCK: _row(Rule.OWN, later=_block),
    Kind.UNBLOCK: _row(Rule.OWN, later=_unblock),
    Kind.BLOCKED: _row(Rule.OWN, later=_blocked),
    Kind.CHANGE_PASSWORD: _row(Rule.OWN, later=change_password),
    Kind.LOGINS: _row(Rule.OWN, later=list_logins),
    Kind.REVOKE_LOGIN: _row(Rule.OWN, later=revoke_login),
    Kind.LOGOUT_EVERYWHERE: _row(Rule.OWN, later=log_out_everywhere),
    Kind.EXPORT: _row(Rule.OWN, later=export),
    Kind.DELETE_ACCOUNT: _row(Rule.OWN, later=delete_account),
}
