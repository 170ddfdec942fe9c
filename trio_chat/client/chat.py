"""The client library's front: `connect`, and the `Chat` that it gives.

    async with connect("127.0.0.1:6000") as chat:
        await chat.login("alice", "her password")
        await chat.send(to=2, text="Hello, Bob!")
        async for message in chat.messages():
            print(message.name, message.text)

Works in programs on asyncio and on Trio. All methods are to be called in the event loop that opened the chat.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import MappingProxyType
from typing import Any, TypeVar, overload

import anyio
import anyio.lowlevel

from trio_chat.client.connection import Dial, Link, only_error, tcp_dial
from trio_chat.client.errors import ConnectionLost
from trio_chat.client.incoming import (
    BlockedUsers,
    ConversationList,
    Exported,
    Found,
    FriendAdded,
    GroupCreated,
    GroupJoined,
    HistoryPage,
    LoginList,
    Registered,
    Stored,
    UserFound,
    convert,
    message_of,
)
from trio_chat.client.model import (
    Conversation,
    ExportPage,
    Friend,
    Group,
    Login,
    Member,
    Message,
    Page,
    Person,
    Sent,
    User,
)
from trio_chat.client.options import DEFAULT_SERVER, Endpoint, Options
from trio_chat.client.outgoing import Request
from trio_chat.client.protocol import Protocol
from trio_chat.client.session import State
from trio_chat.client.streams import Events, Messages
from trio_chat.errors import NotLoggedIn
from trio_chat.wire.conversation import direct_conv, group_conv, parse_conv
from trio_chat.wire.messages import Kind

T = TypeVar("T")

__all__ = ["Chat", "connect"]


@asynccontextmanager
async def connect(
    *servers: str,
    options: Options | None = None,
    ssl_context: SSLContext | None = None,
    client: str = "trio-chat",
    dial: Dial | None = None,
) -> AsyncGenerator[Chat]:
    """Connect to a server, and stay connected until the block is left.

    `servers` are addresses of one cluster (`HOST:PORT` or `tls://HOST:PORT`); after a loss the next one is tried. Without any
    it is the server on this machine. `client` is what the server is told about this program; `dial` opens connections in another
    way than TCP. Leaving the block sends the receipts that are due (at most `options.farewell` seconds) and hangs up;
    it does not log out.

    Raises `NotReachable` where no server greets at first, and `ValueError` for an address that is none. Cancelling is safe.
    """
    options = options or Options()
    addresses = [Endpoint.parse(server) for server in servers or (DEFAULT_SERVER,)]
    protocol = Protocol(options, client)
    link = Link(protocol, addresses, dial or tcp_dial(ssl_context), options)
    chat = Chat(protocol, link, options)
    with only_error():
        async with anyio.create_task_group() as tasks:
            try:
                await tasks.start(link.run)
                yield chat
            finally:
                with anyio.move_on_after(options.farewell, shield=True):
                    protocol.flush_receipts()
                    link.kick()
                    await link.drain()
                protocol.close()
                link.tell()
                tasks.cancel_scope.cancel()


class Chat:
    """A connection to a chat server that mends itself. Made by `connect`.

    Unless a method says otherwise: it waits while the connection is down, cancelling it is safe, and it raises the
    server's refusal (a `RequestError`), `NotLoggedIn` where a login is needed, `ConnectionLost` where the connection broke
    while the answer was awaited and the request could not be repeated, `ChatClosed` after the block was left. There are no
    timeouts: use `anyio.fail_after`, `trio.fail_after` or `asyncio.timeout`.
    """

    def __init__(self, protocol: Protocol, link: Link, options: Options) -> None:
        self._protocol = protocol
        self._link = link
        self._send_slots = anyio.Semaphore(options.send_limit, fast_acquire=True)
        self._request_slots = anyio.Semaphore(options.request_limit, fast_acquire=True)
        self._messages = Messages(protocol, link)
        self._events = Events(protocol, link)

    # Who and where.

    @property
    def user(self) -> User | None:
        """Who is logged in; stays so while the connection is down."""
        return self._protocol.account.user

    @property
    def token(self) -> str | None:
        """Logs in again without the password, also in another process. It is a secret, and renewed by each login."""
        return self._protocol.account.token

    @property
    def friends(self) -> Mapping[int, Friend]:
        """One's friends by id."""
        return MappingProxyType(self._protocol.account.friends)

    @property
    def groups(self) -> Mapping[int, Group]:
        """One's groups by id."""
        return MappingProxyType(self._protocol.account.groups)

    @property
    def connected(self) -> bool:
        """Whether requests are answered at present: connected, and logged in where there was a login."""
        return self._protocol.state is (State.ANONYMOUS if self.user is None else State.ONLINE)

    @property
    def closed(self) -> bool:
        """Whether the `async with connect(...)` block was left."""
        return self._protocol.closed

    @property
    def node(self) -> str:
        """What the server that one was last connected to calls itself."""
        return self._protocol.greeting.node

    # The account.

    async def register(self, name: str, password: str, *, invitation: str | None = None) -> int:
        """Make an account; returns its id. Does not log in.

        `name` has 1 to 50 characters, `password` 1 to 1024; `invitation` is a code, where the server asks for one.
        Raises `NameTaken`, `BadRequest`, `RateLimited`, `RegistrationClosed`, `BadInvitation`, and `AlreadyLoggedIn`
        where somebody is. Cancelled, the account may or may not have been made.
        """
        fields: dict[str, Any] = {"name": name, "password": password}
        if invitation is not None:
            fields["invitation"] = invitation
        return (await self._ask(Kind.REGISTER, Registered, fields)).id

    @overload
    async def login(self, who: int | str, password: str) -> User: ...

    @overload
    async def login(self, *, token: str) -> User: ...

    async def login(
        self, who: int | str | None = None, password: str | None = None, *, token: str | None = None
    ) -> User:
        """Log in by id (an `int`) or name, or by a token.

        From then on this client logs itself in again after each loss of the connection, by token and, where that is
        refused, by password. Raises `BadCredentials`; `AlreadyLoggedIn` where somebody is. Cancelled, it may or may not have
        happened: see `user`.
        """
        if token is not None:
            fields: dict[str, Any] = {"token": token}
        else:
            fields = {"id" if isinstance(who, int) else "name": who, "password": password}
        request = self._protocol.login(fields, anyio.current_time())
        await self._outcome(request)
        if self.user is None:
            raise NotLoggedIn
        return self.user

    async def logout(self) -> None:
        """Log out, and revoke the token.

        Messages that were not acknowledged fail with `NotLoggedIn`; those not processed come again after the next login.
        After `ConnectionLost` one is logged out here; whether the token was revoked is not known.
        """
        await self._ask(Kind.LOGOUT, None, {})

    async def change_password(self, password: str, new: str) -> None:
        """Change the password from `password` to `new`, and end all other logins of this account.

        Raises `BadCredentials` where `password` is not the present one, `BadRequest`, `RateLimited`. Cancelled, or after
        `ConnectionLost`, it may or may not have happened.
        """
        await self._ask(Kind.CHANGE_PASSWORD, None, {"password": password, "newpassword": new})

    async def logins(self) -> tuple[Login, ...]:
        """Where this account is logged in, the latest used first."""
        return (await self._ask(Kind.LOGINS, LoginList, {}, repeatable=True)).entries()

    async def revoke_login(self, login: Login | str) -> None:
        """End a login: its token is of no more use, and the connection that it has ends within seconds.

        Raises `NoSuchLogin`, and `BadRequest` for this client's own: see `logout`.
        """
        name = login.id if isinstance(login, Login) else login
        await self._ask(Kind.REVOKE_LOGIN, None, {"login": name})

    async def logout_everywhere(self) -> None:
        """End all logins of this account, this one too. The rest is as with `logout`."""
        await self._ask(Kind.LOGOUT_EVERYWHERE, None, {})

    async def export(self, after: Message | None = None) -> ExportPage:
        """A part of all that the server has of this account: the first, or the one behind the message `after`."""
        fields = {} if after is None else {"after": {"conv": after.conv, "seq": after.seq}}
        answer = await self._ask(Kind.EXPORT, dict[str, Any], fields, repeatable=True)
        page = convert(answer, Exported)
        me = 0 if self.user is None else self.user.id
        profile = None
        if after is None:
            apart = {"msgid", "ref", "errno", "messages", "more"}
            profile = {name: value for name, value in answer.items() if name not in apart}
        return ExportPage(profile, tuple(message_of(frame, me) for frame in page.messages), page.more)

    async def delete_account(self, password: str) -> None:
        """Delete this account for good, with the texts of its messages. Nobody is logged in afterwards.

        Raises `BadCredentials`, `RateLimited`. Cancelled, or after `ConnectionLost`, it may or may not have happened.
        """
        await self._ask(Kind.DELETE_ACCOUNT, None, {"password": password})

    # Messages.

    async def send(self, to: int | str | Friend | Person | User | Group, text: str, *, key: str | None = None) -> Sent:
        """Send a message, and wait until it is durable.

        `to` is a user's id, a conversation (`"g:7"`, `message.conv`), a friend or a group. The message is sent again until the
        server has acknowledged or refused it, over any number of connections and servers, and is stored once: by `key`,
        which is made where it is left out. Messages to one conversation are stored in the order of the calls, each after
        the one before. At most `options.send_limit` messages are under way, further calls wait for their turn.

        `text` has 1 character to 16 KiB of UTF-8 (as the server is set), `key` 1 to 64 characters, unique per sender.
        Raises the server's refusal (`NoSuchUser`, `NotAMember`, `TooLarge`, `BadRequest` …) and `ValueError` for a
        conversation that is none, or not one's own. A refusal that passes (`Unavailable`, `RateLimited`, `ShuttingDown`)
        is never raised, and neither is `ConnectionLost`: the message is tried again. Cancelled, the message may or may not have
        been stored: the same call with the same `key` finds out, and does no harm.
        """
        kind, target = self._target(to)
        async with self._send_slots:
            request = self._protocol.send(kind, target, text, key, anyio.current_time())
            return convert(await self._outcome(request), Stored).sent()

    def messages(self) -> Messages:
        """What others write, and what one's other devices send: every message of a conversation, once and in order.

        A message counts as processed when the next one is asked for; the server is told so a little later, and delivers again,
        to the next process, what was not. Leaving a loop early leaves its last message unprocessed; `received`
        changes that. What this very `Chat` sends is not in it: `send` has returned its place.

        One task at a time may iterate; another gets `anyio.BusyResourceError`. It ends when the block is left. Where the
        server refuses to log this client in again after a reconnect, that refusal is raised, once; iterating may go on, and
        gives what comes after the next `login`. Cancelling is safe: no message is taken.
        """
        return self._messages

    def received(self, message: Message) -> None:
        """Say that nothing of this message's conversation up to it is needed any more. Never blocks or raises.

        The server is told within `options.receipt_delay` seconds, or when the block is left.
        """
        self._protocol.processed(message.conv, message.seq, anyio.current_time())
        self._link.kick()

    async def read(self, message: Message) -> None:
        """Tell the others in the conversation that one has read it up to this message. Raises `NotAMember`."""
        await self._ask(Kind.READ, None, {"conv": message.conv, "seq": message.seq}, repeatable=True)

    async def history(self, conv: str, *, after: int | None = None, before: int | None = None, limit: int = 50) -> Page:
        """A part of a conversation's log: at most `limit` messages after, or before, a `seq`; without either its end.

        The server gives no more than 200 at once (as it is set) and no more than 64 KiB: `Page.more` says whether to go on.
        Looking back marks nothing as received or read. Raises `NotAMember`, and `BadRequest` for both directions at once.
        """
        fields: dict[str, Any] = {"conv": conv, "limit": limit}
        if after is not None:
            fields["after"] = after
        if before is not None:
            fields["before"] = before
        page = await self._ask(Kind.HISTORY, HistoryPage, fields, repeatable=True)
        return page.page(0 if self.user is None else self.user.id)

    async def conversations(self) -> tuple[Conversation, ...]:
        """All conversations that one is in, with how far this account has received and read them."""
        return (await self._ask(Kind.CONVERSATIONS, ConversationList, {}, repeatable=True)).entries()

    async def search(
        self, query: str, *, conv: str | None = None, before: Message | None = None, limit: int = 20
    ) -> Page:
        """One's messages that hold every word of `query`, anywhere, also inside of words; the newest first.

        Looks through all of one's conversations, or one (`conv`), there at the latest 100,000 messages (as the server is set).
        At most `limit` are found (50 count); where there are `more`, the next come with the last one as `before`. `query` has 1
        to 100 characters. Raises `NotAMember`, `BadRequest`.
        """
        fields: dict[str, Any] = {"query": query, "limit": limit}
        if conv is not None:
            fields["conv"] = conv
        if before is not None:
            fields["before"] = {"ts": before.ts, "conv": before.conv, "seq": before.seq}
        found = await self._ask(Kind.SEARCH, Found, fields, repeatable=True)
        return found.page(0 if self.user is None else self.user.id)

    async def typing(self, to: int | str | Friend | Person | User | Group) -> None:
        """Tell the others that one is writing; `to` is as in `send`. Call it as often as a key is pressed, about.

        The server passes it on once in three seconds. Raises `NotAMember`, and `ConnectionLost` where it was lost: it is not repeated.
        """
        kind, target = self._target(to)
        me = self.user
        if me is None:
            raise NotLoggedIn
        conv = group_conv(target) if kind is Kind.GROUP else direct_conv(me.id, target)
        await self._ask(Kind.TYPING, None, {"conv": conv})

    # People.

    async def find_user(self, name: str) -> Person:
        """Who has this name, in capitals or not. Raises `NoSuchUser`, `BadRequest`."""
        return (await self._ask(Kind.FIND_USER, UserFound, {"name": name}, repeatable=True)).user.person()

    async def group_info(self, group: int | str) -> Group:
        """What a group is, by its id or its name; its members, and how far each has received and read, where one is one of them.

        Raises `NoSuchGroup`, `BadRequest`.
        """
        fields: dict[str, Any] = {"groupid" if isinstance(group, int) else "groupname": group}
        return (await self._ask(Kind.GROUP_INFO, GroupJoined, fields, repeatable=True)).group.group()

    async def add_friend(self, user: int) -> Friend:
        """Put a user on one's own list; nobody is asked. From then on `events` tells of this user's presence.

        Raises `NoSuchUser`, `AlreadyExists` for somebody who is on the list, `BadRequest` for oneself, and `Forbidden` where
        one of the two has blocked the other.
        """
        return (await self._ask(Kind.ADD_FRIEND, FriendAdded, {"friendid": user})).friend.friend()

    async def create_group(self, name: str, description: str = "") -> Group:
        """Make a group with oneself in it. `name` has 1 to 50 characters, `description` up to 200.

        Raises `AlreadyExists` where the name is taken, and `BadRequest`.
        """
        answer = await self._ask(Kind.CREATE_GROUP, GroupCreated, {"groupname": name, "groupdesc": description})
        me = self.user
        members = () if me is None else (Member(me.id, me.name, online=True, role="creator"),)
        group = Group(answer.groupid, name, description, members)
        self._protocol.account.groups[group.id] = group
        return group

    async def join_group(self, group: int) -> Group:
        """Become a member. What was said before is in `history` only.

        Raises `NoSuchGroup`, `AlreadyExists` for a member, and `Forbidden` where one was removed from it.
        """
        return (await self._ask(Kind.JOIN_GROUP, GroupJoined, {"groupid": group})).group.group()

    async def leave_group(self, group: int) -> None:
        """Be a member no longer. What is queued of the group's messages is still given. Raises `NotAMember`, `NoSuchGroup`."""
        await self._ask(Kind.LEAVE_GROUP, None, {"groupid": group})

    async def remove_member(self, group: int, user: int, *, barred: bool = True) -> None:
        """Remove another one from a group that one has created; unless `barred` is false he may not join again.

        For who is not in the group only that is noted. Raises `Forbidden`, `NotAMember`, `NoSuchGroup`, `NoSuchUser`.
        """
        await self._ask(Kind.REMOVE_MEMBER, None, {"groupid": group, "userid": user, "barred": barred}, repeatable=True)

    async def block(self, user: int) -> None:
        """End all dealings with another: neither can write to the other, nor see whether he is there. Raises `NoSuchUser`."""
        await self._ask(Kind.BLOCK, None, {"userid": user}, repeatable=True)

    async def unblock(self, user: int) -> None:
        """Take that back; where there is nothing to take back nothing happens."""
        await self._ask(Kind.UNBLOCK, None, {"userid": user}, repeatable=True)

    async def blocked(self) -> tuple[User, ...]:
        """Whom one has blocked."""
        return (await self._ask(Kind.BLOCKED, BlockedUsers, {}, repeatable=True)).entries()

    # The rest.

    def events(self) -> Events:
        """What else happens: `Connected`, `Disconnected`, `SignedOut`, `PresenceChanged`, `ReadBy`, `ReceivedBy`, `TypingBy`,
        `RemovedFrom`.

        The latest on each subject is kept, not every step, and at most `options.event_limit` of them. One task at a time may
        iterate; another gets `anyio.BusyResourceError`. It ends when the block is left. Cancelling is safe.
        """
        return self._events

    async def ping(self) -> float:
        """Ask for a sign of life; returns the seconds that it took, waiting for a connection included."""
        began = anyio.current_time()
        await self._ask(Kind.PING, None, {}, repeatable=True)
        return anyio.current_time() - began

    @overload
    async def _ask(self, kind: Kind, shape: None, fields: dict[str, Any], *, repeatable: bool = False) -> None: ...

    @overload
    async def _ask(self, kind: Kind, shape: type[T], fields: dict[str, Any], *, repeatable: bool = False) -> T: ...

    async def _ask(
        self, kind: Kind, shape: type[T] | None, fields: dict[str, Any], *, repeatable: bool = False
    ) -> T | None:
        async with self._request_slots:
            request = self._protocol.request(kind, fields, anyio.current_time(), repeatable=repeatable)
            answer = await self._outcome(request)
        return None if shape is None else convert(answer, shape)

    async def _outcome(self, request: Request) -> dict[str, Any]:
        self._link.kick()
        try:
            if request.done:
                await anyio.lowlevel.checkpoint()
            else:
                done = anyio.Event()
                request.on_done = lambda _: done.set()
                await done.wait()
        finally:
            if not request.done:
                self._protocol.abandon(request)
                self._link.kick()
        if request.error is not None:
            raise request.error
        if request.answer is None:
            raise ConnectionLost("no answer", request.kind)
        return request.answer

    def _target(self, to: int | str | Friend | Person | User | Group) -> tuple[Kind, int]:
        match to:
            case Group():
                return Kind.GROUP, to.id
            case Friend() | Person() | User():
                return Kind.DIRECT, to.id
            case int():
                return Kind.DIRECT, to
            case _:
                parties = parse_conv(to)
        if parties.groupid is not None:
            return Kind.GROUP, parties.groupid
        me = self.user
        if me is None:
            raise NotLoggedIn
        if parties.users is None or me.id not in parties.users:
            raise ValueError(f"{me.name} (id {me.id}) is not in the conversation {to}")
        one, other = parties.users
        return Kind.DIRECT, other if one == me.id else one
