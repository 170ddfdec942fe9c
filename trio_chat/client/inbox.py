"""The received messages: pure. Each conversation's come out in order, once, without holes, whatever came in.

Rules and reasons:

- A conversation's *position* is the `seq` up to which all its messages were put in the queue, or were sent by this
  very client. Frames at or below it were seen before (the server delivers again what was not receipted): dropped.
- The first frame that is seen of a conversation defines its position: what is before it was received by an earlier
  process. The acknowledgement of an own message does not: a repeated `key` is acknowledged with an old place.
- The acknowledgement of an own message stands in that message's place: on this connection there is no frame for it.
- Where something above the next place turns up, or the queue is full, the conversation is *behind*: only its `target`
  is remembered, and HISTORY is asked for the rest once the application has taken half of the queue. So a slow
  application costs bounded memory and never keeps acknowledgements from being read, and a hole is filled before
  anything after it is shown.
- Another device's receipt moves the account's cursor, so after a reconnect the server may begin behind our position:
  `received_elsewhere` tells of it, and the gap is filled like any other.
- A message is *processed* once the application asks for the next one; only then a receipt is due. A receipt that the
  server lost shows as a processed message being delivered again: it is due once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from trio_chat.backoff import Backoff
from trio_chat.client.errors import PUT_OFF, wait_after
from trio_chat.client.incoming import ConversationList, HistoryPage, convert
from trio_chat.client.model import Message
from trio_chat.client.outgoing import Request
from trio_chat.errors import RequestError
from trio_chat.wire.messages import Kind

__all__ = ["PAGE", "CatchUp", "Fill", "Inbox"]

#: At most this many messages are asked for at once.
PAGE = 50


@attrs.define
class _Conv:
    position: int
    target: int = 0
    processed: int = 0
    filling: bool = False

    @property
    def behind(self) -> bool:
        return self.target > self.position


@attrs.frozen
class Fill:
    """What HISTORY should be asked for."""

    conv: str
    after: int
    limit: int


class Inbox:
    """See the head of this file. `limit` bounds the queue; `is_own` tells the messages that this very client sent."""

    def __init__(self, limit: int, is_own: Callable[[Message], bool]) -> None:
        self._limit = limit
        self._is_own = is_own
        self._queue: deque[Message] = deque()
        self._convs: dict[str, _Conv] = {}
        self._behind: dict[str, _Conv] = {}  # those that may be behind; kept apart so that looking costs nothing
        self._handed: Message | None = None
        self._receipts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def position(self, conv: str) -> int | None:
        """The position of a conversation, `None` where nothing was seen of it."""
        known = self._convs.get(conv)
        return None if known is None else known.position

    @property
    def has_positions(self) -> bool:
        return bool(self._convs)

    def clear(self) -> None:
        """Forget everything: another account logs in."""
        self._queue.clear()
        self._convs.clear()
        self._behind.clear()
        self._receipts.clear()
        self._handed = None

    def leave(self, name: str) -> None:
        """The account is not in a conversation any more; should it ever be again, the next frame defines its position."""
        self._convs.pop(name, None)
        self._behind.pop(name, None)
        self._receipts.pop(name, None)

    # What comes in.

    def offer(self, message: Message) -> None:
        """A delivered message."""
        conv = self._convs.get(message.conv)
        if conv is None:
            conv = self._convs[message.conv] = _Conv(position=message.seq - 1)
        if message.seq <= conv.position:
            if message.seq <= conv.processed:
                self._receipts[message.conv] = conv.processed
        elif message.seq == conv.position + 1 and self._accept(message):
            conv.position = message.seq
        else:
            self._fall_behind(message.conv, conv, message.seq)

    def sent(self, name: str, seq: int) -> None:
        """The acknowledgement of a message that this client sent."""
        conv = self._convs.get(name)
        if conv is None or seq <= conv.position:
            return
        if seq == conv.position + 1:
            conv.position = seq
        else:
            self._fall_behind(name, conv, seq)

    def received_elsewhere(self, name: str, received: int) -> None:
        """The account has received up to `received`, perhaps on another device: the server will not deliver these."""
        conv = self._convs.get(name)
        if conv is not None and received > conv.position:
            self._fall_behind(name, conv, received)

    # Filling holes.

    @property
    def wants_fill(self) -> bool:
        """Whether `next_fill` would ask for something."""
        return self._has_room and any(conv.behind and not conv.filling for conv in self._behind.values())

    def next_fill(self) -> Fill | None:
        """What to ask HISTORY for, or `None`. Answer with `filled` or `fill_failed`."""
        if not self._has_room:
            return None
        for name, conv in list(self._behind.items()):
            if not conv.behind:
                del self._behind[name]
            elif not conv.filling:
                conv.filling = True
                # To the end, so that every conversation gets its turn.
                self._behind[name] = self._behind.pop(name)
                return Fill(name, conv.position, min(PAGE, self._limit - len(self._queue)))
        return None

    def filled(self, fill: Fill, messages: Sequence[Message]) -> None:
        """The page that was asked for, in rising `seq`."""
        conv = self._convs.get(fill.conv)
        if conv is None:
            return
        conv.filling = False
        fresh = [message for message in messages if message.seq > conv.position]
        if not fresh:
            if conv.position == fill.after:
                # The log has nothing there after all: waiting for it would hold up the conversation for ever.
                conv.target = conv.position
            return
        if conv.position == fill.after and fresh[0].seq > conv.position + 1:
            # These messages do not exist any more; the log goes on here.
            conv.position = fresh[0].seq - 1
        for message in fresh:
            self.offer(message)

    def fill_failed(self, fill: Fill, *, for_good: bool) -> None:
        """The page was not given: now (the connection broke, the database is away) or ever (no member any more)."""
        conv = self._convs.get(fill.conv)
        if conv is None:
            return
        conv.filling = False
        if for_good:
            conv.target = conv.position
            self._behind.pop(fill.conv, None)

    # What the application takes.

    def take(self) -> Message | None:
        """The next message, or `None`. The one taken before is processed by this."""
        if self._handed is not None:
            self.processed(self._handed.conv, self._handed.seq)
            self._handed = None
        if self._queue:
            self._handed = self._queue.popleft()
        return self._handed

    def processed(self, name: str, seq: int) -> None:
        """The application needs nothing of a conversation up to `seq` any more."""
        conv = self._convs.get(name)
        if conv is not None and conv.processed < seq <= conv.position:
            conv.processed = seq
            self._receipts[name] = seq

    @property
    def has_receipts(self) -> bool:
        return bool(self._receipts)

    def take_receipts(self) -> dict[str, int]:
        """The receipts that are due, by conversation."""
        receipts, self._receipts = self._receipts, {}
        return receipts

    @property
    def _has_room(self) -> bool:
        return len(self._queue) <= self._limit // 2

    def _accept(self, message: Message) -> bool:
        if self._is_own(message):
            return True
        if len(self._queue) >= self._limit:
            return False
        self._queue.append(message)
        return True

    def _fall_behind(self, name: str, conv: _Conv, seq: int) -> None:
        conv.target = max(conv.target, seq)
        self._behind[name] = conv


class CatchUp:
    """The requests that an inbox needs, and what their answers mean to it."""

    def __init__(self, inbox: Inbox, backoff: Backoff) -> None:
        self._inbox = inbox
        self._backoff = backoff
        self._not_before = 0.0
        self._compare = False
        self._comparison: Request | None = None
        self._fills: dict[Request, Fill] = {}

    @property
    def deadline(self) -> float | None:
        """When `requests` will have something, or `None`."""
        return self._not_before if self._compare or self._inbox.wants_fill else None

    def logged_in(self) -> None:
        """The session begins (again)."""
        self._not_before = 0.0
        self._compare = self._inbox.has_positions

    def requests(self, now: float) -> Iterator[Request]:
        """What to send now."""
        if now < self._not_before:
            return
        if self._compare:
            self._compare = False
            self._comparison = Request(Kind.CONVERSATIONS, {})
            yield self._comparison
        while (fill := self._inbox.next_fill()) is not None:
            request = Request(Kind.HISTORY, {"conv": fill.conv, "after": fill.after, "limit": fill.limit})
            self._fills[request] = fill
            yield request

    def answered(
        self, request: Request, error: RequestError | None, fields: dict[str, Any], me: int, now: float
    ) -> None:
        """The answer to a HISTORY or CONVERSATIONS; those that the application asked for are left alone."""
        fill = self._fills.pop(request, None)
        if fill is not None:
            if error is None:
                self._inbox.filled(fill, convert(fields, HistoryPage).page(me).messages)
            else:
                self._inbox.fill_failed(fill, for_good=not isinstance(error, PUT_OFF))
        elif request is self._comparison:
            self._comparison = None
            self._compare = isinstance(error, PUT_OFF)
            if error is None:
                for entry in convert(fields, ConversationList).conversations:
                    self._inbox.received_elsewhere(entry.conv, entry.received_seq)
        else:
            return
        if isinstance(error, PUT_OFF):
            self._not_before = now + wait_after(error, self._backoff)

    def lost(self) -> None:
        """The connection broke: nothing that was asked for will be answered."""
        for fill in self._fills.values():
            self._inbox.fill_failed(fill, for_good=False)
        self._fills.clear()
        self._compare, self._comparison = False, None
