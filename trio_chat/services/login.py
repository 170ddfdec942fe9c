"""Logging in: from who somebody says to be to a connection that the router delivers to, without a gap and without repetition.

The order is what makes it whole: first the bus is subscribed, then the database is read, and then, in one synchronous
step, the connection is registered at what was read and what came meanwhile, and LOGIN_ACK is queued before any message.
Logins that come together take each step together (`Admission`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_chat.errors import AccountInUse, BadCredentials
from trio_chat.outbox import Receipt
from trio_chat.services.accounts import AccountService, Credentials
from trio_chat.services.admission import Entrant
from trio_chat.services.groups import GroupService
from trio_chat.services.login_reads import AccountState, LoginReads
from trio_chat.session import Dialect
from trio_chat.store.groups import GroupRecord
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.presence import Entry
from trio_chat.wire import classic
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind, Login, Ref

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.router import Router
    from trio_chat.services.endings import Endings
    from trio_chat.services.presence import Presence
    from trio_chat.services.receipts import Receipts

__all__ = ["Attempt", "LoginSteps", "log_in"]

#: How many missed messages a classic login reads at once, to bring them in order over all conversations.
_OFFLINE = 300
#: A classic login is refused where the account is connected; who has just hung up on another node may call here at once,
#: so it is tried so often, with pauses (seconds) in which others have their turn.
_TRIES = 4
_PAUSE = 0.1
#: A login that took longer, in seconds, is compared with the database once more.
_LONG = 1.0


@attrs.define(eq=False)
class Attempt(Entrant):
    """A LOGIN that is under way. With a password it has `credentials` already; `began` is when they were asked for."""

    connection: Connection
    request: Login
    ref: Ref | None
    credentials: Credentials | None
    began: float
    token: str | None = None

    @property
    def userid(self) -> int:
        assert self.credentials is not None
        return self.credentials.identity.id

    @property
    def is_classic(self) -> bool:
        return self.connection.session.dialect is Dialect.CLASSIC


async def log_in(connection: Connection, request: Login, ref: Ref | None) -> None:
    """Do a LOGIN and answer it. Raises `RequestError`; then, and when cancelled, nothing of it remains."""
    node = connection.node
    began = trio.current_time()
    credentials: Credentials | None = None
    if request.token is None:
        # The hashes of passwords have a queue of their own.
        credentials = await node.accounts.authenticate(request, connection.network)
    for _ in range(_TRIES - 1):
        try:
            await node.admission.enter(Attempt(connection, request, ref, credentials, began))
        except AccountInUse:
            await trio.sleep(_PAUSE)
        else:
            return
    await node.admission.enter(Attempt(connection, request, ref, credentials, began))


@attrs.frozen(eq=False)
class LoginSteps:
    """What is done for logins that are under way, for all of a group at once. May raise `Unavailable`; cancelling is safe.

    Groups in an answer have at most `members` members in all, and a classic answer has at most `frame` bytes.
    """

    _accounts: AccountService
    _presence: Presence
    _reads: LoginReads
    _messages: MessageLog
    _router: Router
    _receipts: Receipts
    _groups: GroupService
    _endings: Endings
    _members: int
    _frame: int

    async def announce(self, group: Sequence[Attempt]) -> None:
        """Find out who they are, and note that they are connected here."""
        await self._use_tokens([attempt for attempt in group if attempt.credentials is None])
        group = [attempt for attempt in group if not attempt.ended]
        if not group:
            return
        entries = [Entry(attempt.userid, attempt.is_classic) for attempt in group]
        refusals = await self._presence.enter(entries)
        for attempt, refusal in zip(group, refusals, strict=True):
            # Whoever goes away is not here any more from then on, whatever the others of his group still do.
            attempt.at_end(partial(self._presence.entered, attempt.userid))
            if refusal is not None:
                attempt.end(refusal)

    async def admit(self, group: Sequence[Attempt]) -> None:
        """Read what is theirs, and register and answer them."""
        router = self._router
        userids = list(dict.fromkeys(attempt.userid for attempt in group))
        with router.loading(*userids) as channels:
            groups = await self._reads.groups(userids, self._members)
            await router.subscribe_groups(channels, (each.id for found in groups.values() for each in found))
            await self._receipts.flush()
            await self._make_tokens(group)
            while group := [attempt for attempt in group if not attempt.ended]:
                moves = {attempt.userid: router.moves(attempt.userid) for attempt in group}
                states = await self._reads.states(list(moves))
                missed = {attempt: await self._missed(attempt, states[attempt.userid]) for attempt in group}
                # From here on without an await.
                for attempt in [each for each in group if router.moves(each.userid) == moves[each.userid]]:
                    if not attempt.ended:
                        self._finish(attempt, groups[attempt.userid], states[attempt.userid], missed[attempt])
                router.flush()

    async def _use_tokens(self, group: Sequence[Attempt]) -> None:
        if not group:
            return
        now = trio.current_time()
        tokens = [(attempt.request.token or "", attempt.connection.origin) for attempt in group]
        for attempt, credentials in zip(group, await self._accounts.use_tokens(tokens), strict=True):
            if credentials is None:
                attempt.end(BadCredentials("this token is not valid; log in with the password"))
            else:
                attempt.began, attempt.credentials, attempt.token = now, credentials, credentials.token

    async def _make_tokens(self, group: Sequence[Attempt]) -> None:
        """Those who came with a password come with a token the next time."""
        for attempt in group:
            if attempt.token is None and not attempt.is_classic and not attempt.ended:
                assert attempt.credentials is not None
                try:
                    attempt.token = await self._accounts.make_token(
                        attempt.userid, attempt.credentials.epoch, attempt.connection.origin
                    )
                except BadCredentials as error:
                    attempt.end(error)

    async def _missed(self, attempt: Attempt, state: AccountState) -> list[Delivery]:
        """The messages that a classic client gets with its answer."""
        if attempt.is_classic and any(cursor.received < cursor.last_seq for cursor in state.cursors):
            return await self._messages.undelivered(attempt.userid, _OFFLINE)
        return []

    def _finish(self, attempt: Attempt, groups: list[GroupRecord], state: AccountState, missed: list[Delivery]) -> None:
        """Register the connection and answer. Never raises: it is one's own affair."""
        try:
            self._answer(attempt, groups, state, missed)
        except Exception as error:  # noqa: BLE001 - it is raised where he waits
            attempt.end(error)
        else:
            attempt.end()
        if trio.current_time() - attempt.began > _LONG:
            # What was revoked since may have been looked for before this connection was there.
            self._endings.check(attempt.userid)

    def _answer(self, attempt: Attempt, groups: list[GroupRecord], state: AccountState, missed: list[Delivery]) -> None:
        connection, credentials, router = attempt.connection, attempt.credentials, self._router
        assert credentials is not None
        identity = credentials.identity
        cursors = state.cursors
        if missed:
            cursors, missed = _own_are_received(identity.id, cursors, missed)
        account = router.attach(
            connection,
            identity.id,
            identity.name,
            cursors,
            (friend.as_change() for friend in state.friends),
            state.apart,
        )
        connection.log_in(identity, account, attempt.token)
        connection.epoch = credentials.epoch
        friends = [friend.fields(router.state_of(account, friend.id)) for friend in state.friends]
        seen = [self._groups.as_seen(account, group) for group in groups]
        if attempt.is_classic:
            _acknowledge_classic(connection, friends, [attrs.asdict(group) for group in seen], missed, self._frame)
        else:
            fields = {
                "errno": 0,
                "id": identity.id,
                "name": identity.name,
                "friends": friends,
                "groups": seen,
                "token": attempt.token,
            }
            connection.answer(Kind.LOGIN_ACK, attempt.ref, fields)
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
    connection: Connection,
    friends: list[dict[str, Any]],
    groups: list[dict[str, Any]],
    missed: list[Delivery],
    largest: int,
) -> None:
    """LOGIN_ACK with as many of the missed messages as fit; the others follow as frames of their own."""
    limit = classic.BUFFER - 1 if connection.paced else largest
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
