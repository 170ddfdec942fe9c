"""What the requests about one's own account do: its password, its logins, its data, its end.

Each gets the decoded request, answers on the connection, and raises `RequestError` where it fails, as in `commands.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_chat.errors import BadRequest
from trio_chat.services.logins import login_id
from trio_chat.session import Dialect
from trio_chat.wire.messages import ChangePassword, DeleteAccount, Export, Kind, Ref, Request, RevokeLogin

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = [
    "change_password",
    "delete_account",
    "export",
    "list_logins",
    "log_out_everywhere",
    "revoke_login",
    "settle",
]


async def settle(connection: Connection) -> None:
    """Before a login ends: what was sent before is answered before, each message in its place. Cancelling is safe.

    Nobody is kept here for long by a backlog that he does not read, or that the database does not give: what then waits
    for its place is answered without it.
    """
    await connection.wait_stored()
    if connection.session.dialect is Dialect.MODERN:
        with trio.move_on_after(connection.node.settings.store_timeout):
            await connection.wait_answered()


async def change_password(connection: Connection, request: ChangePassword, ref: Ref | None) -> None:
    node = connection.node
    userid = _userid(connection)
    with node.endings.spared(connection):
        connection.epoch = await node.logins.change_password(
            userid, request.password, request.newpassword, connection.token, connection.network
        )
    node.endings.tell(userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def list_logins(connection: Connection, _: Request, ref: Ref | None) -> None:
    logins = await connection.node.logins.of(_userid(connection), connection.token)
    connection.answer(Kind.REPLY, ref, {"errno": 0, "logins": logins})


async def revoke_login(connection: Connection, request: RevokeLogin, ref: Ref | None) -> None:
    userid = _userid(connection)
    if connection.token is not None and login_id(connection.token) == request.login:
        raise BadRequest("login: is the one of this connection; use LOGOUT", field="login")
    await connection.node.logins.revoke(userid, request.login)
    connection.node.endings.tell(userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def log_out_everywhere(connection: Connection, _: Request, ref: Ref | None) -> None:
    node = connection.node
    userid = _userid(connection)
    await settle(connection)
    with node.endings.spared(connection):
        await node.logins.end_all(userid)
        _leave(connection, Kind.LOGOUT_EVERYWHERE)
    node.endings.tell(userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


async def export(connection: Connection, request: Export, ref: Ref | None) -> None:
    # Large answers are made no faster than the client reads them.
    await connection.wait_drained()
    page = await connection.node.export.page(_userid(connection), request.after, connection.token)
    connection.answer(Kind.REPLY, ref, {"errno": 0, **page})


async def delete_account(connection: Connection, request: DeleteAccount, ref: Ref | None) -> None:
    node = connection.node
    userid = _userid(connection)
    await settle(connection)
    with node.endings.spared(connection):
        await node.deletion.delete(userid, request.password, connection.network)
        _leave(connection, Kind.DELETE_ACCOUNT)
    node.endings.tell(userid)
    connection.answer(Kind.REPLY, ref, {"errno": 0})


def _userid(connection: Connection) -> int:
    assert connection.account is not None, "the session's table lets nobody here who is not logged in"
    return connection.account.id


def _leave(connection: Connection, kind: Kind) -> None:
    """The login of this connection has ended by its own request: it is anonymous again."""
    connection.log_out()
    connection.session.logged_out(kind)
