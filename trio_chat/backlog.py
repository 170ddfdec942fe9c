"""What a connection missed: brought from the log, in bounded memory, until the connection is where the node is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_chat.session import Dialect
from trio_chat.wire.delivery import Delivery

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["catch_up"]

#: Messages that are read at once, at first and at most; more only while they are short, this many characters together.
_PAGE, _LONGEST_PAGE, _SHORT = 50, 800, 65536
#: How long to wait for the node itself to deliver what the connection must not get before it (seconds).
_WAIT = 0.02


async def catch_up(connection: Connection) -> None:
    """Hand the connection what it lags behind. A conversation leaves `lag` once it is level with the node's head.

    What was read with the login comes first, as it is in order over all conversations; then one conversation after the
    other. Raises `Unavailable`; then, and when cancelled, `lag` says where to go on.
    """
    while connection.prefetched:
        delivery = connection.prefetched.pop(0)
        head = connection.node.router.head(delivery.conv)
        if connection.lag.get(delivery.conv) == delivery.seq - 1 and head is not None and delivery.seq <= head:
            await _hand(connection, delivery)
    for conv in list(connection.lag):
        await _catch_up_with(connection, conv)


async def _catch_up_with(connection: Connection, conv: str) -> None:
    router = connection.node.router
    size = _PAGE
    while (position := connection.lag.get(conv)) is not None:
        head = router.head(conv)
        if head is None or position == head:
            # No await since the head was read: from here on the router delivers to this connection.
            del connection.lag[conv]
            connection.begun.pop(conv, None)
            return
        if position > head:
            await trio.sleep(_WAIT)
            continue
        page = await connection.node.messages.after(conv, position, size)
        short = sum(len(delivery.msg) for delivery in page) <= _SHORT
        size = min(2 * size, _LONGEST_PAGE) if short else _PAGE
        for delivery in page:
            if delivery.seq > (router.head(conv) or 0) or connection.lag.get(conv) != delivery.seq - 1:
                break
            if (
                connection.storing
                and connection.node.writer.may_have_stored(conv, delivery.sender)
                and (conv, delivery.seq) not in connection.own
            ):
                # Perhaps sent here, and the commit not answered yet: then its reply is to stand in its place.
                await connection.node.writer.wait_reported()
                break
            await _hand(connection, delivery)
        router.flush()
        if not page:
            await trio.sleep(_WAIT)


async def _hand(connection: Connection, delivery: Delivery) -> None:
    account = connection.account
    if account is None:
        return
    conv, seq = delivery.conv, delivery.seq
    connection.lag[conv] = seq
    if (conv, seq) in connection.own:
        connection.node.router.reply_in_place(connection, delivery, connection.own.pop((conv, seq)))
        connection.begun[conv] = None
    else:
        # One's own message counts as received where everything before it is.
        received = delivery.sender == account.id and account.pending.get(conv) == seq - 1
        if received:
            connection.node.chat.received(connection, account, conv, seq)
        # But what a modern connection gets has no hole, once it has begun.
        if not received or (conv in connection.begun and connection.session.dialect is Dialect.MODERN):
            connection.begun[conv] = None
            connection.deliver(delivery)
    await connection.wait_drained()
