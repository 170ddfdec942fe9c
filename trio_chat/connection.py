"""One client: its session, from its first byte to its last, and its place in the conversations.

`Sender` is what a client gets, `Receiver` what it sends; here stands who it is, and what becomes of its requests.

A connection is a task, `run`, which waits while there is nothing to do: the poller calls when something comes. In it run one
that works off requests which wait for the database, one that writes what the kernel did not take at once, one that brings
what was missed, and one that waits until there is room for more: each is started when there is something to do and ends
when it is done. Whatever happens, `_end` forgets the connection: it is synchronous, so no cancellation can come in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog
import trio

from trio_chat.backlog import catch_up
from trio_chat.commands import COMMANDS, DEAF
from trio_chat.errors import Internal, LoginRevoked, RequestError, ShuttingDown, Unavailable, UnknownKind
from trio_chat.outbox import Receipt
from trio_chat.receiving import Pending, Receiver
from trio_chat.sending import take_leave
from trio_chat.services.tokens import Origin
from trio_chat.session import Dialect, Identity
from trio_chat.transport.contract import End, Transport
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import KINDS, Kind, Ref, decode, encode, open_envelope

if TYPE_CHECKING:
    from trio_chat.node import Node
    from trio_chat.router import LocalAccount

__all__ = ["Connection"]

log = structlog.get_logger(__name__)

#: How often, in seconds, others are told that a client is typing, and in how many conversations it can type at a time.
_TYPING_PAUSE = 3.0
_TYPING_IN = 20
_NOWHERE: Mapping[str, float] = MappingProxyType({})


class Connection(Receiver):
    """A client's session, outbox and place in the conversations.

    `lag` has, for each conversation in which this connection is behind (or, after a join, ahead of) what the node has
    delivered, the last seq that it was handed; in all others it is where the node is. `begun` has those of them in which it
    was handed something. `own` has the replies to messages sent here in a conversation that lags: each waits for its place.
    """

    __slots__ = (
        "_catching_up",
        "_ended",
        "_typing",
        "begun",
        "client",
        "epoch",
        "lag",
        "network",
        "own",
        "prefetched",
        "receipts",
        "token",
    )

    def __init__(self, node: Node, transport: Transport) -> None:
        super().__init__(node, transport)
        self.token: str | None = None
        self.lag: dict[str, int] = {}
        self.begun: dict[str, None] = {}
        self.own: dict[tuple[str, int], bytes | None] = {}
        self.prefetched: list[Delivery] = []
        # What the client calls itself, and how often all logins of its account had been ended when it logged in.
        self.client = ""
        self.epoch = 0
        # Whether the client wants to hear how far others have received.
        self.receipts = False
        # Set by the doorkeeper once it has counted the connection there.
        self.network = ""
        self._catching_up: trio.CancelScope | None = None
        # When this client last said in which conversation it is typing.
        self._typing: Mapping[str, float] = _NOWHERE
        self._ended: trio.Event | None = None

    # -- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until it or the server ends the connection. Never raises but `Cancelled`."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._transport.attend(self)
            while not self._ending:
                if self._work:
                    await self._do_work()
                else:
                    # Here, as a coroutine more would be one for each connection that is idle.
                    self._idle = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._abort)
            self._forget()
            await take_leave(self._transport, self._reason)
        except Exception:
            self._reason = End.FAILED
            log.exception("connection failed", peer=self.peer, user=self.account and self.account.id)
        finally:
            self._end()

    def end_login(self) -> None:
        """The login here was revoked: say so, as far as the client can still be told, and end the connection. Never blocks."""
        self._fail(None, None, LoginRevoked())
        self.flush()
        self.close(End.REVOKED)

    def dismiss(self, reason: End, error: RequestError) -> None:
        """Say why, and end the connection. Never blocks."""
        self.answer(Kind.REPLY, None, error.fields())
        if not self._writing:
            self._send_some(self._outbox.take(self._splitter.terminator))
        self.close(reason)

    async def wait_ended(self) -> None:
        """Wait until the connection is closed and forgotten. Cancelling is safe."""
        if self in self.node.connections:
            self._ended = self._ended or trio.Event()
            await self._ended.wait()

    def check_alive(self, now: float) -> None:
        """Ping a modern client that was silent for a heartbeat, close it after two. Never blocks."""
        heartbeat = self.node.settings.heartbeat
        if self.session.dialect is not Dialect.MODERN:
            return
        silence = now - self.last_heard
        if silence >= 2 * heartbeat:
            self.close(End.SILENT)
        elif silence >= heartbeat and not self.pinged:
            self.pinged = True
            self.send(encode({"msgid": int(Kind.PING)}))

    def _forget(self) -> None:
        self._ending = True
        self.want_receipts(wanted=False)
        self.log_out()
        self.session.close()
        self._less_queued()

    def _end(self) -> None:
        self._forget()
        self._transport.close()
        if self in self.node.connections:
            del self.node.connections[self]
            kind = self._transport.kind
            self._counters.connections[kind] -= 1
            self._counters.closed[kind, self._reason.value] += 1
            self.node.doorkeeper.leave(self)
        if self._ended is not None:
            self._ended.set()

    # -- its requests -------------------------------------------------------------------------------------------------

    def _begin(self, frame: bytes) -> Pending | None:
        """Check a request and do it, or return it where it has to await something."""
        kind: Kind | None = None
        ref: Ref | None = None
        try:
            envelope = open_envelope(frame)
            ref = envelope.ref
            kind = KINDS.get(envelope.msgid)
            if kind is None:
                raise UnknownKind
            if self.node.draining and kind not in DEAF:
                raise ShuttingDown
            self.session.check(kind)
            request = decode(kind, frame)
            now = COMMANDS[kind].now
            if now is not None and now(self, request, ref):
                return None
            return Pending(kind, ref, request)
        except RequestError as error:
            self._fail(kind, ref, error)
            return None

    async def _perform(self, pending: Pending) -> bool:
        """The one place where a failure becomes an answer. Returns False where the database was away."""
        kind, ref = pending.kind, pending.ref
        try:
            self.session.check(kind)
            later = COMMANDS[kind].later
            assert later is not None
            await later(self, pending.request, ref)
        except RequestError as error:
            self._fail(kind, ref, error)
            return not isinstance(error, Unavailable)
        except Exception:
            log.exception("request failed", kind=kind.name, peer=self.peer, user=self.account and self.account.id)
            self._fail(kind, ref, Internal())
        return True

    # -- who it is ----------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        """Where a login on this connection comes from, as its owner is shown it."""
        host = self.peer.rpartition(":")[0] if self.peer.count(":") == 1 or self.peer.startswith("[") else self.peer
        return Origin(self.client, host.strip("[]")[:64])

    def want_receipts(self, *, wanted: bool) -> None:
        """Whether the client wants to hear how far others have received."""
        self.node.router.want_receipts += wanted - self.receipts
        self.receipts = wanted

    def log_in(self, identity: Identity, account: LocalAccount, token: str | None) -> None:
        """LOGIN has succeeded: the router knows the connection."""
        self.session.logged_in(identity)
        self._counters.logins["ok"] += 1
        self.account = account
        self.token = token
        self.node.doorkeeper.recognise(self, account.id)

    def log_out(self) -> None:
        """Forget who this is; the user is offline if this was his last connection. Never blocks."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        account, self.account, self.token = self.account, None, None
        self.lag.clear()
        self.begun.clear()
        for reply in self.own.values():
            self.message_answered(reply)
        self.own.clear()
        self._typing = _NOWHERE
        self.prefetched.clear()
        # Whoever logs in here next must not see them; they come again.
        self._outbox.drop_deliveries()
        if account is not None:
            self.node.doorkeeper.unmask(self)
            if self.node.router.detach(self, account):
                self.node.presence.left(account.id)

    # -- its place in the conversations -------------------------------------------------------------------------------

    def leave(self, conv: str) -> None:
        """The account is not in a conversation any more: forget where this connection was in it. Never blocks."""
        self.lag.pop(conv, None)
        self.begun.pop(conv, None)
        for place in [place for place in self.own if place[0] == conv]:
            self.message_answered(self.own.pop(place))

    def _receive(self, receipts: list[Receipt]) -> None:
        for userid, conv, seq in receipts:
            if self.account is not None and self.account.id == userid:
                self.node.chat.received(self, self.account, conv, seq)
            else:
                # The account has logged out since the frame was begun.
                self.node.receipts.move(userid, conv, seq)

    def catch_up(self) -> None:
        """Bring what this connection lags behind, in a task of its own. Never blocks."""
        if self.lag and self._catching_up is None and not self._ending:
            self._catching_up = trio.CancelScope()
            self._start(self._catch_up, self._catching_up)

    async def _catch_up(self, scope: trio.CancelScope) -> None:
        with scope:
            while self.lag:
                try:
                    await catch_up(self)
                except Unavailable:
                    await trio.sleep(0.25)
        if self._catching_up is scope:
            self._catching_up = None

    def may_tell_typing(self, conv: str) -> bool:
        """Whether the others are to be told that somebody types here: at most once in a while for a conversation."""
        now = trio.current_time()
        recent = {each: since for each, since in self._typing.items() if now - since < _TYPING_PAUSE}
        if conv in recent or len(recent) >= _TYPING_IN:
            return False
        self._typing = {**recent, conv: now}
        return True
