"""The client's side of the protocol: pure, without I/O and without a clock.

Bytes and the time go in (`connected`, `receive`, `tick`, `lost`), and so do the application's wishes (`request`,
`send`, `login`, `take`). Bytes come out (`take_output`), outcomes come out through `Request.on_done`, messages through
`take`, the rest through `events`. `deadline` says when `tick` has to be called. Times are seconds of any steady clock.

`receive` and `tick` raise `ConnectionLost` where the connection is of no more use; the shell then closes it, calls
`lost`, connects again and calls `connected`. Nothing else escapes them, whatever the server sends.

Who does what: `Inbox` keeps the order of what is received, `Outgoing` that of what is sent, `Account` knows who is
logged in, `state.TRANSITIONS` where the session stands. This file ties them together: what answers what, what is due.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from trio_chat.backoff import Backoff
from trio_chat.client.errors import PUT_OFF, ChatClosed, ConnectionLost, ProtocolViolation, refusal, wait_after
from trio_chat.client.inbox import CatchUp, Inbox
from trio_chat.client.incoming import (
    FriendAdded,
    Greeting,
    GroupJoined,
    GroupLeft,
    Presence,
    ReadMark,
    SignedIn,
    Stored,
    TypingMark,
    convert,
    message_of,
    parse,
)
from trio_chat.client.model import (
    Connected,
    Disconnected,
    EventQueue,
    Message,
    PresenceChanged,
    ReadBy,
    ReceivedBy,
    RemovedFrom,
    SignedOut,
    TypingBy,
)
from trio_chat.client.options import Options
from trio_chat.client.outgoing import Outgoing, OwnKeys, Request
from trio_chat.client.session import ALLOWED, TRANSITIONS, Account, Cause, Liveness, State
from trio_chat.errors import (
    AlreadyLoggedIn,
    ChatError,
    LoginRevoked,
    NotLoggedIn,
    RequestError,
    ShuttingDown,
    TooLarge,
)
from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.delivery import DeliveredFrame
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind, encode

__all__ = ["Protocol"]


class Protocol:
    """See the head of this file.

    `greeting` is what the server said of itself; `closed` says whether `close` was called. `draw` gives the random part of waiting times, between 0 and 1.
    """

    def __init__(self, options: Options, client: str = "trio-chat", draw: Callable[[], float] = random.random) -> None:
        self.state = State.OFFLINE
        self.account = Account()
        self.greeting = Greeting()
        self.events = EventQueue(options.event_limit)
        self.inbox = Inbox(options.inbox_limit, self._is_own)

        self._options = options
        self._client = client
        self.closed = False
        self._logging_in: Request | None = None  # the application's login, until it is answered
        self._refused: ChatError | None = None
        self._inbox_owner: int | None = None
        self._keys = OwnKeys()

        self._outgoing = Outgoing()
        self._waiting: deque[Request] = deque()
        self._under_way: dict[int, Request] = {}
        self._next_ref = 1
        self._splitter = FrameSplitter(options.frame_limit)
        self._output: list[bytes] = []
        self._output_size = 0
        self._leaving = ""  # why this connection is to be given up once nothing is lost by it

        self._retry = Backoff(options.retry_first, options.retry_limit, draw)
        self._catch_up = CatchUp(self.inbox, self._retry)
        self._liveness = Liveness()
        self._login_at = self._sends_at = 0.0
        self._receipts_at: float | None = None

    # The connection.

    def connected(self, now: float) -> None:
        """A new connection is open."""
        self._move(Cause.CONNECTED)
        self._splitter = FrameSplitter(self._options.frame_limit)
        self._leaving = ""
        self._liveness.connected(now, self._options.connect_timeout)
        receipts = {"receipts": True} if self._options.receipts else {}
        self._write(Request(Kind.HELLO, {"version": 1, "client": self._client, **receipts}))

    def receive(self, data: bytes, now: float) -> None:
        """Take received bytes. Raises `ConnectionLost`."""
        for frame in self._splitter.feed(data):
            self._frame(parse(frame), now)
            if self.state is not State.GREETING:
                self._liveness.heard(now, self.greeting.heartbeat)
        if self._splitter.overflowed:
            raise ProtocolViolation(f"a frame of the server is longer than {self._splitter.limit} bytes")
        self._leave_if_idle()
        self._pump(now)

    def tick(self, now: float) -> None:
        """The time has come that `deadline` told. Raises `ConnectionLost` where the server shows no sign of life."""
        if self._liveness.check(now, self.greeting.heartbeat):
            self._write(Request(Kind.PING, {}))
        self._leave_if_idle()
        self._pump(now)

    def lost(self, error: ConnectionLost) -> None:
        """The connection is closed or broken. What can be sent again waits for the next one, the rest fails."""
        if self.state is State.OFFLINE:
            return
        told = self.state is not State.GREETING
        self._move(Cause.LOST)
        self._output.clear()
        self._output_size = 0
        self._receipts_at = None
        self._liveness.lost()
        self._catch_up.lost()
        under_way, self._under_way = self._under_way, {}
        again: list[Request] = []
        for request in under_way.values():
            if request.lane is not None:
                self._outgoing.put_off(request)
            elif request is self._logging_in:
                self._logging_in = None if request.abandoned else request
            elif request.repeatable and not request.abandoned and not isinstance(error, ProtocolViolation):
                again.append(request)
            else:
                request.fail(ConnectionLost(error.reason, request.kind))
                if request.kind in {Kind.LOGOUT, Kind.LOGOUT_EVERYWHERE}:
                    # Whether the token was revoked is not known; that the user wants to be out is.
                    self._signed_out(NotLoggedIn)
        self._waiting.extendleft(reversed(again))
        if told:
            self.events.put(Disconnected(error.reason))

    @property
    def deadline(self) -> float | None:
        """When `tick` is due, or `None` while nothing is awaited."""
        due: list[float | None] = [self._liveness.deadline]
        if self._leaving:
            pass  # only what is under way still matters
        elif self.state is State.ANONYMOUS and self.account.user is not None:
            due.append(self._login_at)
        elif self.state is State.ONLINE:
            due += [self._receipts_at, self._catch_up.deadline, self._sends_at if self._outgoing.has_ready else None]
        return min((time for time in due if time is not None), default=None)

    @property
    def output_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._output_size

    def take_output(self) -> bytes:
        """The bytes to be sent now."""
        output = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        return output

    def close(self) -> None:
        """The application goes: whatever waits fails with `ChatClosed`."""
        self.closed = True
        waiting = [*self._waiting, *self._under_way.values()]
        if self._logging_in is not None:
            waiting.append(self._logging_in)
        self._waiting.clear()
        self._logging_in = None
        self._fail(waiting, ChatClosed)

    # The application's side.

    def request(self, kind: Kind, fields: dict[str, Any], now: float, *, repeatable: bool = False) -> Request:
        """Ask the server; while it is not connected the request waits.

        Raises `NotLoggedIn` where the kind needs a login and nobody is logged in, `BadRequest` where a field cannot be
        encoded, and `ChatClosed`.
        """
        self._check_open(kind)
        request = Request(kind, fields, repeatable=repeatable)
        self._waiting.append(request)
        self._pump(now)
        return request

    def login(self, fields: dict[str, Any], now: float) -> Request:
        """Log in. Raises `AlreadyLoggedIn` where somebody is, or where a login is under way; `BadRequest`; `ChatClosed`."""
        self._check_open(Kind.LOGIN)
        if self.account.user is not None or self._logging_in is not None:
            raise AlreadyLoggedIn
        request = Request(Kind.LOGIN, fields)
        self._logging_in, self._refused = request, None
        self._pump(now)
        return request

    def send(self, kind: Kind, to: int, text: str, key: str | None, now: float) -> Request:
        """Send to a user (DIRECT) or a group (GROUP) until it is acknowledged.

        Raises `NotLoggedIn`, `BadRequest` where the text or the key cannot be encoded, and `ChatClosed`.
        """
        self._check_open(kind)
        if self.account.user is None:
            raise NotLoggedIn
        if key is None:
            key = self._keys.make()
        if kind is Kind.GROUP:
            target, lane = "groupid", group_conv(to)
        else:
            target, lane = "toid", direct_conv(self.account.user.id, to)
        request = Request(kind, {target: to, "msg": text, "key": key}, lane=lane)
        self._keys.use(key)
        self._outgoing.add(request)
        self._pump(now)
        return request

    def abandon(self, request: Request) -> None:
        """Nobody waits for this request any more. What was sent already may still be carried out."""
        request.abandoned = True
        if request.lane is not None:
            self._outgoing.abandon(request)
        elif request in self._waiting:
            self._waiting.remove(request)
        elif request is self._logging_in and self.state is not State.SIGNING_IN:
            self._logging_in = None

    def take(self, now: float) -> Message | None:
        """The next message, or `None`. The one that was taken before counts as processed by this."""
        message = self.inbox.take()
        self._pump(now)
        return message

    def take_refusal(self) -> ChatError | None:
        """Why logging in again failed: told once, and not at all after the next `login`."""
        refused, self._refused = self._refused, None
        return refused

    def processed(self, conv: str, seq: int, now: float) -> None:
        """The application needs nothing of a conversation up to `seq` any more."""
        self.inbox.processed(conv, seq)
        self._pump(now)

    def flush_receipts(self) -> None:
        """Send the receipts that are due at once."""
        self._receipts_at = None
        if self.state is State.ONLINE:
            for conv, seq in self.inbox.take_receipts().items():
                self._put({"msgid": int(Kind.RECEIVED), "conv": conv, "seq": seq})

    # What the server sends.

    def _frame(self, fields: dict[str, Any], now: float) -> None:
        ref = fields.get("ref")
        user = self.account.user
        match fields["msgid"]:
            case Kind.DIRECT | Kind.GROUP:
                if user is not None:
                    self.inbox.offer(message_of(convert(fields, DeliveredFrame), user.id))
            case Kind.PING:
                self._put({"msgid": int(Kind.PONG), "data": fields.get("data")})
            case Kind.PRESENCE:
                presence = convert(fields, Presence)
                self.account.presence(presence)
                self.events.put(PresenceChanged(presence.id, presence.state == "online"))
            case Kind.READ:
                mark = convert(fields, ReadMark)
                self.events.put(ReadBy(mark.conv, mark.seq, mark.id))
            case Kind.DELIVERED:
                mark = convert(fields, ReadMark)
                self.events.put(ReceivedBy(mark.conv, mark.seq, mark.id))
            case Kind.TYPING:
                typing = convert(fields, TypingMark)
                self.events.put(TypingBy(typing.conv, typing.id))
            case Kind.LEAVE_GROUP:
                group = convert(fields, GroupLeft).groupid
                self._left(group)
                self.events.put(RemovedFrom(group))
            case _:
                # Anything else is an answer, or a kind that a later version of the protocol knows.
                request = self._under_way.pop(ref, None) if type(ref) is int else None
                if request is not None:
                    self._answered(request, fields, now)
                elif isinstance(error := refusal(fields, Kind.PING), ShuttingDown):
                    self._leaving = str(error)  # said to everybody, not in answer to anything
                elif isinstance(error, LoginRevoked) and user is not None:
                    # Somebody wants this client out: it does not come back by the password that it may still have.
                    self._shut_out(LoginRevoked)

    def _answered(self, request: Request, fields: dict[str, Any], now: float) -> None:
        error = refusal(fields, request.kind)
        if isinstance(error, ShuttingDown):
            self._leaving = str(error)
        match request.kind:
            case Kind.HELLO:
                self._greeted(error, fields)
            case Kind.LOGIN:
                self._login_answered(request, error, fields, now)
            case Kind.LOGOUT | Kind.LOGOUT_EVERYWHERE | Kind.DELETE_ACCOUNT:
                if error is None:
                    self._signed_out(NotLoggedIn)
            case Kind.CHANGE_PASSWORD if error is None:
                self.account.password_changed(request.fields["newpassword"])
            case Kind.DIRECT | Kind.GROUP:
                self._message_answered(request, error, fields, now)
            case Kind.HISTORY | Kind.CONVERSATIONS if self.account.user is not None:
                self._catch_up.answered(request, error, fields, self.account.user.id, now)
            case Kind.ADD_FRIEND if error is None:
                friend = convert(fields, FriendAdded).friend.friend()
                self.account.friends[friend.id] = friend
            case Kind.JOIN_GROUP if error is None:
                group = convert(fields, GroupJoined).group.group()
                self.account.groups[group.id] = group
            case Kind.LEAVE_GROUP if error is None:
                self._left(request.fields["groupid"])
            case _:
                pass
        if error is None:
            request.succeed(fields)
        elif request.lane is None or not isinstance(error, PUT_OFF):
            request.fail(error)

    def _left(self, group: int) -> None:
        self.account.groups.pop(group, None)
        self.inbox.leave(group_conv(group))

    def _greeted(self, error: RequestError | None, fields: dict[str, Any]) -> None:
        if error is not None:
            raise ConnectionLost(f"the server refused the greeting: {error}")
        self.greeting = convert(fields, Greeting)
        self._move(Cause.GREETED)
        self._login_at = 0.0
        if self.account.user is None:
            self._announce()

    def _login_answered(self, request: Request, error: RequestError | None, fields: dict[str, Any], now: float) -> None:
        ours = request is not self._logging_in
        if not ours:
            self._logging_in = None
        if error is None:
            self._accepted(convert(fields, SignedIn), request, ours=ours)
            return
        self._move(Cause.REFUSED)
        if not ours:
            return
        if isinstance(error, PUT_OFF):
            self._login_at = now + wait_after(error, self._retry)
        elif not self.account.refused(error):
            self._shut_out(lambda: refusal(fields, Kind.LOGIN) or NotLoggedIn())

    def _accepted(self, answer: SignedIn, request: Request, *, ours: bool) -> None:
        user = self.account.user
        if ours and (user is None or user.id != answer.id):
            raise ProtocolViolation("the server logged another account in")
        self._move(Cause.ACCEPTED)
        self.account.enter(answer, request.fields.get("password"))
        if self._inbox_owner != answer.id:
            self.inbox.clear()
            self._inbox_owner = answer.id
        self._sends_at = 0.0
        self._catch_up.logged_in()
        if ours:
            self._announce()

    def _signed_out(self, error: Callable[[], ChatError]) -> None:
        """Nobody is logged in any more: by a logout, or because logging in again was refused."""
        if self.state is State.ONLINE:
            self._move(Cause.SIGNED_OUT)
        self.account.leave()
        if error is NotLoggedIn:
            # What was not receipted is delivered again at the next login, so it must not count as seen.
            self.inbox.clear()
        waiting = [request for request in self._waiting if State.ANONYMOUS not in ALLOWED[request.kind]]
        self._waiting = deque(request for request in self._waiting if request not in waiting)
        self._fail(waiting, error)

    def _shut_out(self, error: Callable[[], ChatError]) -> None:
        """Logging in again is not possible."""
        self._signed_out(error)
        self._refused = error()
        self.events.put(SignedOut(error()))

    def _message_answered(
        self, request: Request, error: RequestError | None, fields: dict[str, Any], now: float
    ) -> None:
        if isinstance(error, PUT_OFF):
            self._outgoing.put_off(request)
            self._sends_at = max(self._sends_at, now + wait_after(error, self._retry))
            return
        if error is None:
            stored = convert(fields, Stored)
            self.inbox.sent(stored.conv, stored.seq)
            self._retry.reset()
        self._outgoing.finish(request)

    # What is sent.

    def _pump(self, now: float) -> None:
        """Send what the state and the time allow."""
        if self._leaving or self.state in (State.OFFLINE, State.GREETING):
            return
        for request in [waiting for waiting in self._waiting if self.state in ALLOWED[waiting.kind]]:
            self._waiting.remove(request)
            if request.kind in {Kind.LOGOUT, Kind.LOGOUT_EVERYWHERE}:
                self.flush_receipts()
            self._write(request)
        if self.state is State.ANONYMOUS:
            self._sign_in(now)
        elif self.state is State.ONLINE:
            if now >= self._sends_at:
                for request in self._outgoing.start():
                    self._write(request)
            for request in self._catch_up.requests(now):
                self._write(request)
            if self._receipts_at is not None and now >= self._receipts_at:
                self.flush_receipts()
            elif self._receipts_at is None and self.inbox.has_receipts:
                self._receipts_at = now + self._options.receipt_delay

    def _sign_in(self, now: float) -> None:
        """Log in, where the application wants it or where this client was logged in before."""
        request = self._logging_in
        if request is None and self.account.user is not None and now >= self._login_at:
            credentials = self.account.credentials()
            if credentials is None:
                self._shut_out(lambda: NotLoggedIn("there is neither a token nor a password to log in again with"))
            else:
                request = Request(Kind.LOGIN, credentials)
        if request is not None:
            self._move(Cause.LOGIN_SENT)
            self._write(request)

    def _write(self, request: Request) -> None:
        ref = self._next_ref
        self._next_ref += 1
        frame = request.frame(ref)
        if len(frame) > self.greeting.limits.frame:
            # The server would close the connection, and with it fail the requests of others.
            if request.lane is not None:
                self._outgoing.finish(request)
            request.fail(TooLarge())
            return
        self._under_way[ref] = request
        self._output.append(frame + b"\n")
        self._output_size += len(frame) + 1

    def _put(self, fields: dict[str, Any]) -> None:
        frame = encode(fields) + b"\n"
        self._output.append(frame)
        self._output_size += len(frame)

    # Small things.

    def _move(self, cause: Cause) -> None:
        self.state = TRANSITIONS[self.state, cause]

    def _announce(self) -> None:
        self.events.put(Connected(self.greeting.server, self.greeting.node))

    def _check_open(self, kind: Kind) -> None:
        if self.closed:
            raise ChatClosed
        if self.account.user is None and State.ANONYMOUS not in ALLOWED[kind]:
            raise NotLoggedIn

    def _is_own(self, message: Message) -> bool:
        key = message.key
        return message.mine and key is not None and key in self._keys

    def _leave_if_idle(self) -> None:
        """Give up a connection to a server that shuts down, once no answer would be lost by it."""
        if self._leaving and all(r.repeatable or r.lane is not None for r in self._under_way.values()):
            raise ConnectionLost(self._leaving)

    def _fail(self, requests: list[Request], error: Callable[[], ChatError]) -> None:
        """Fail these and all unacknowledged messages, each with an error of its own."""
        self._outgoing.fail_all(error)
        for request in requests:
            request.fail(error())
