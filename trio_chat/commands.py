"""What each request does: one row of the table for each kind.

`now` does a request without waiting and returns True, or returns False where it has to wait for something; `later` is
the same request with the waiting. Both get the decoded request, answer on the connection, and raise `RequestError`
where the request fails; the session's table was asked before either is called.
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
from trio_chat.services.login import log_in
from trio_chat.session import Dialect
from trio_chat.wire.messages import (
    AddFriend,
    CreateGroup,
    Direct,
    FindUser,
    Group,
    GroupInfo,
    Hello,
    History,
    JoinGroup,
    Kind,
    Login,
    Ping,
    Read,
    Received,
    Ref,
    Register,
    Request,
    Search,
    Typing,
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
    now: Callable[[Connection, Any, Ref | None], bool] | None = None
    later: Callable[[Connection, Any, Ref | None], Awaitable[None]] | None = None


def _account(connection: Connection) -> LocalAccount:
    assert connection.account is not None, "the session's table lets nobody here who is not logged in"
    return connection.account


def _hello(connection: Connection, request: Hello, ref: Ref | None) -> bool:
    if request.version != PROTOCOL_VERSION:
        raise BadRequest(f"version: this server speaks version {PROTOCOL_VERSION}", field="version")
    connection.session.greeted()
    connection.client = request.client
    connection.receipts = request.receipts
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
        await connection.node.chat.allow(_account(connection), request)
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
    connection.succeed(ref, {"friend": friend.fields(router.state_of(friend.id))})


async def _create_group(connection: Connection, request: CreateGroup, ref: Ref | None) -> None:
    groupid = await connection.node.chat.create_group(_account(connection), request.groupname, request.groupdesc)
    connection.succeed(ref, {"groupid": groupid})


async def _join_group(connection: Connection, request: JoinGroup, ref: Ref | None) -> None:
    group = await connection.node.chat.join_group(_account(connection), request.groupid)
    connection.succeed(ref, {"group": attrs.asdict(group)})


async def _read(connection: Connection, request: Read, ref: Ref | None) -> None:
    await connection.node.chat.read(_account(connection), request.conv, request.seq)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def _history(connection: Connection, request: History, ref: Ref | None) -> None:
    # Large answers are made no faster than the client reads them.
    await connection.wait_drained()
    page = await connection.node.chat.history(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, **page})


async def _conversations(connection: Connection, _: Request, ref: Ref | None) -> None:
    await connection.wait_drained()
    conversations = await connection.node.chat.conversations(_account(connection))
    connection.answer(Kind.REPLY, ref, {"errno": 0, "conversations": conversations})


def _typing(connection: Connection, request: Typing, ref: Ref | None) -> bool:
    account = _account(connection)
    chat = connection.node.chat
    if not chat.is_party(account, request.conv):
        return False
    if connection.may_tell_typing(request.conv):
        chat.typing(account, request.conv)
    connection.answer(Kind.REPLY, ref, {"errno": 0})
    return True


async def _typing_later(connection: Connection, request: Typing, ref: Ref | None) -> None:
    await connection.node.chat.check_party(_account(connection), request.conv)
    _typing(connection, request, ref)


async def _find_user(connection: Connection, request: FindUser, ref: Ref | None) -> None:
    user = await connection.node.accounts.find(request.name)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "user": user.fields(user.state)})


async def _search(connection: Connection, request: Search, ref: Ref | None) -> None:
    page = await connection.node.search.search(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, **page})


async def _group_info(connection: Connection, request: GroupInfo, ref: Ref | None) -> None:
    group = await connection.node.chat.group_info(_account(connection), request)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "group": group})


#: Every kind of request has its row; a test compares them with `REQUESTS` and with the session's table.
COMMANDS: dict[Kind, Command] = {
    Kind.HELLO: Command(now=_hello),
    Kind.PING: Command(now=_ping),
    Kind.PONG: Command(now=_pong),
    Kind.REGISTER: Command(later=_register),
    Kind.LOGIN: Command(later=_login),
    Kind.LOGOUT: Command(later=_logout),
    Kind.DIRECT: Command(now=_message, later=_message_later),
    Kind.GROUP: Command(now=_message, later=_message_later),
    Kind.ADD_FRIEND: Command(later=_add_friend),
    Kind.CREATE_GROUP: Command(later=_create_group),
    Kind.JOIN_GROUP: Command(later=_join_group),
    Kind.RECEIVED: Command(now=_received),
    Kind.READ: Command(later=_read),
    Kind.HISTORY: Command(later=_history),
    Kind.CONVERSATIONS: Command(later=_conversations),
    Kind.TYPING: Command(now=_typing, later=_typing_later),
    Kind.FIND_USER: Command(later=_find_user),
    Kind.SEARCH: Command(later=_search),
    Kind.GROUP_INFO: Command(later=_group_info),
    Kind.CHANGE_PASSWORD: Command(later=change_password),
    Kind.LOGINS: Command(later=list_logins),
    Kind.REVOKE_LOGIN: Command(later=revoke_login),
    Kind.LOGOUT_EVERYWHERE: Command(later=log_out_everywhere),
    Kind.EXPORT: Command(later=export),
    Kind.DELETE_ACCOUNT: Command(later=delete_account),
}
