"""The requests that wait for an answer, and the messages that wait for their acknowledgement: pure.

A message is sent again, with its key, until the server has acknowledged or refused it. One message of a conversation
is under way at a time: were the next one sent before the first is acknowledged, it could be stored although the first
was put off (`unavailable`, `rate_limited`), and the order would be lost. Conversations do not wait for each other.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from trio_chat.errors import BadRequest, ChatError
from trio_chat.wire.messages import Kind, encode

__all__ = ["Outgoing", "OwnKeys", "Request"]

#: How many keys chosen by the application are remembered.
_REMEMBERED_KEYS = 1024


def _ignore(_: Request) -> None:
    """What a request does when it is done, until somebody cares."""


@attrs.define(eq=False)
class Request:
    """One request and, once `done`, its outcome: either `error`, or the fields of its `answer`.

    `lane` is the conversation of a message that is sent until it is acknowledged, else `None`. `repeatable` says that
    it may be sent again after the connection broke. `abandoned`: nobody waits for it any more. `on_done` is called
    once, when the outcome is there; it must neither block nor raise.

    Raises `BadRequest` where a field cannot be sent: encoded here, it fails whoever asks, not who sends it later.
    """

    kind: Kind
    fields: dict[str, Any]
    lane: str | None = None
    repeatable: bool = False
    on_done: Callable[[Request], None] = _ignore
    answer: dict[str, Any] | None = None
    error: ChatError | None = None
    abandoned: bool = False
    _encoded: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._encoded = encode({"msgid": int(self.kind), **self.fields})[:-1]
        except UnicodeEncodeError as error:
            field = next((name for name, value in self.fields.items() if value is error.object), "")
            text = f"character {error.start + 1} is a lone surrogate, which is no text"
            raise BadRequest(f"{field}: {text}" if field else text, field) from None

    def frame(self, ref: int) -> bytes:
        """The request as it is sent, without a terminator."""
        return b'%b,"ref":%d}' % (self._encoded, ref)

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None

    def succeed(self, answer: dict[str, Any]) -> None:
        if not self.done:
            self.answer = answer
            self.on_done(self)

    def fail(self, error: ChatError) -> None:
        if not self.done:
            self.error = error
            self.on_done(self)


class Outgoing:
    """The unacknowledged messages of every conversation, in the order in which they were given."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Request]] = {}
        self._idle: dict[str, None] = {}  # lanes whose first message is not under way, in order

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    @property
    def has_ready(self) -> bool:
        return bool(self._idle)

    def add(self, request: Request) -> None:
        """A new message, behind the others of its conversation."""
        lane = self._lane(request)
        if lane not in self._lanes:
            self._lanes[lane] = deque()
            self._idle[lane] = None
        self._lanes[lane].append(request)

    def start(self) -> Iterator[Request]:
        """The messages that can be sent now; each counts as under way once it is given out."""
        while self._idle:
            lane = next(iter(self._idle))
            del self._idle[lane]
            yield self._lanes[lane][0]

    def finish(self, request: Request) -> None:
        """The message was acknowledged or refused: the next one of its conversation may go."""
        lane = self._lane(request)
        queue = self._lanes.get(lane)
        if queue is None or request not in queue:
            return
        first = queue[0] is request
        queue.remove(request)
        if not queue:
            del self._lanes[lane]
            self._idle.pop(lane, None)
        elif first:
            self._idle[lane] = None

    def put_off(self, request: Request) -> None:
        """The message was not stored, or that is not known: it goes again, unless nobody waits for it any more."""
        if request.abandoned:
            self.finish(request)
        elif request in self._lanes.get(self._lane(request), ()):
            self._idle[self._lane(request)] = None

    def abandon(self, request: Request) -> None:
        """Nobody waits for the message any more. One that is under way keeps its place until its answer comes."""
        request.abandoned = True
        lane = self._lane(request)
        queue = self._lanes.get(lane, deque())
        if request in queue and (queue[0] is not request or lane in self._idle):
            self.finish(request)

    def fail_all(self, error: Callable[[], ChatError]) -> None:
        """No message can be sent any more: each fails with an `error` of its own."""
        requests = [request for queue in self._lanes.values() for request in queue]
        self._lanes.clear()
        self._idle.clear()
        for request in requests:
            request.fail(error())

    def _lane(self, request: Request) -> str:
        if request.lane is None:
            raise ValueError("not a message")
        return request.lane


class OwnKeys:
    """The keys that make messages repeatable, and by which this client knows its own when they are delivered.

    Keys made here begin alike, so they need not be remembered. Of those that the application chose the latest 1,024 are.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_urlsafe(12) + "-"
        self._made = 0
        self._chosen: dict[str, None] = {}

    def make(self) -> str:
        """A key that nobody else uses."""
        self._made += 1
        return f"{self._prefix}{self._made}"

    def use(self, key: str) -> None:
        """This client sends a message with this key, made here or chosen by the application."""
        if key.startswith(self._prefix):
            return
        self._chosen.pop(key, None)
        self._chosen[key] = None
        if len(self._chosen) > _REMEMBERED_KEYS:
            del self._chosen[next(iter(self._chosen))]

    def __contains__(self, key: str) -> bool:
        return key.startswith(self._prefix) or key in self._chosen
