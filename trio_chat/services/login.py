"""Logging in: from a proven identity to a connection that the router delivers to, without a gap and without repetition.

The order is what makes it whole: first the bus is subscribed, then the database is read, and then, in one synchronous
step, the connection is registered at what was read and what came meanwhile, and LOGIN_ACK is queued before any message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_chat.errors import AccountInUse
from trio_chat.outbox import Receipt
from trio_chat.services.accounts import Credentials
from trio_chat.session import Dialect
from trio_chat.store.log import Cursor
from trio_chat.wire import classic
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind, Login, Ref

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["log_in"]

#: How many missed messages a classic login reads at once, to bring them in order over all conversations.
_OFFLINE = 300


#: A classic login is refused where the account is connected; who has just hung up on another node may call here at once,
#: so it is tried so often, with pauses (seconds) in which others have their turn.
_TRIES = 4
_PAUSE = 0.1
#: A login that took longer, in seconds, is compared with the database once more.
_LONG = 1.0


async def log_in(connection: Connection, request: Login, ref: Ref | None) -> None:
    """Do a LOGIN and answer it. Raises `RequestError`; then, and when cancelled, nothing of it remains."""
    node = connection.node
    began = trio.current_time()
    credentials: Credentials | None = None
    if request.token is None:
        # The hashes of passwords have a queue of their own.
        credentials = await node.accounts.authenticate(request, connection.origin, connection.network)
    for _ in range(_TRIES - 1):
        try:
            async with node.admission.turn():
                credentials = credentials or await node.accounts.authenticate(
                    request, connection.origin, connection.network
                )
                await _enter(connection, credentials, ref)
                break
        except AccountInUse:
            await trio.sleep(_PAUSE)
    else:
        async with node.admission.turn():
            assert credentials is not None
            await _enter(connection, credentials, ref)
    assert credentials is not None
    if trio.current_time() - began > _LONG:
        # What was revoked since may have been looked for before this connection was there.
        node.endings.check(credentials.identity.id)


async def _enter(connection: Connection, credentials: Credentials, ref: Ref | None) -> None:
    node = connection.node
    router = node.router
    is_classic = connection.session.dialect is Dialect.CLASSIC
    identity = credentials.identity
    async with node.presence.entering(identity.id, exclusive=is_classic):
        with router.loading(identity.id) as channels:
            groups = await node.login_reads.groups(identity.id, node.settings.limits.members)
            await router.subscribe_groups(channels, (group.id for group in groups))
            await node.receipts.flush()
            token = credentials.token
            if token is None and not is_classic:
                token = await node.accounts.make_token(identity.id, credentials.epoch, connection.origin)
            while True:
                missed: list[Delivery] = []
                moves = router.moves(identity.id)
                state = await node.login_reads.state(identity.id)
                cursors = state.cursors
                if is_classic and any(cursor.received < cursor.last_seq for cursor in cursors):
                    missed = await node.messages.undelivered(identity.id, _OFFLINE)
                    cursors, missed = _own_are_received(identity.id, cursors, missed)
                if router.moves(identity.id) == moves:
                    break
            # From here on without an await.
            account = router.attach(
                connection,
                identity.id,
                identity.name,
                cursors,
                (friend.as_change() for friend in state.friends),
                state.apart,
            )
            connection.log_in(identity, account, token)
            connection.epoch = credentials.epoch
            friend_list = [friend.fields(router.state_of(account, friend.id)) for friend in state.friends]
            group_list = [attrs.asdict(node.group_service.as_seen(account, group)) for group in groups]
            if is_classic:
                _acknowledge_classic(connection, friend_list, group_list, missed)
            else:
                fields = {
                    "errno": 0,
                    "id": identity.id,
                    "name": identity.name,
                    "friends": friend_list,
                    "groups": group_list,
                    "token": token,
                }
                connection.answer(Kind.LOGIN_ACK, ref, fields)
            connection.catch_up()


def _own_are_received(
    userid: int, cursors: list[Cursor], missed: list[Delivery]
) -> tuple[list[Cursor], list[Delivery]]:
    """One's own messages count as received where everything before them is: pass over them.

    Those of a conversation that has begun since the cursors were read are left to the router.
    """
    received = {cursor.conv: cursor.received for cursor in cursors}
    rest = []
    for message in missed:
        if message.conv not in received:
            continue
        if message.sender == userid and received[message.conv] == message.seq - 1:
            received[message.conv] = message.seq
        else:
            rest.append(message)
    return [attrs.evolve(cursor, received=received[cursor.conv]) for cursor in cursors], rest


def _acknowledge_classic(
    connection: Connection, friends: list[dict[str, Any]], groups: list[dict[str, Any]], missed: list[Delivery]
) -> None:
    """LOGIN_ACK with as many of the missed messages as fit; the others follow as frames of their own."""
    limit = classic.BUFFER - 1 if connection.paced else connection.node.settings.limits.frame
    # Only what the node has delivered is handed out here; the router brings the rest in its turn.
    ready = []
    for message in missed:
        if message.seq > (connection.node.router.head(message.conv) or 0):
            break
        ready.append(message)
    assert connection.account is not None
    account = connection.account
    # One's own messages do not come back; they are received where everything before them is.
    shown = [place for place, message in enumerate(ready) if not message.is_own(account.id)]
    offline = [ready[place] for place in shown]
    frame, count = classic.fit_login_ack(account.id, account.name, friends, groups, offline, limit)
    end = shown[count] if count < len(shown) else len(ready)
    last: dict[str, int] = {message.conv: message.seq for message in ready[:end]}
    connection.lag.update(last)
    receipts: tuple[Receipt, ...] = tuple((account.id, conv, seq) for conv, seq in last.items())
    connection.send(frame, receipts)
    connection.prefetched.extend(ready[end:])
