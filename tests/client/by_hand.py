"""A client's protocol core, and the server's side of it by hand, frame by frame."""

from __future__ import annotations

import json
from typing import Any

from trio_chat import errors
from trio_chat.client.errors import ConnectionLost, OtherFailure
from trio_chat.client.model import Event
from trio_chat.client.options import Options
from trio_chat.client.outgoing import Request
from trio_chat.client.protocol import Protocol
from trio_chat.errors import (
    RateLimited,
    RequestError,
    ShuttingDown,
    Unavailable,
)
from trio_chat.wire.messages import Kind

Frame = dict[str, Any]

GREETING: Frame = {
    "version": 1,
    "server": "s",
    "node": "n",
    "limits": {"frame": 1000, "message": 500},
    "heartbeat": 10.0,
}
FRIEND = {"id": 2, "name": "bob", "state": "offline"}
MEMBER = {"id": 2, "name": "bob", "state": "online", "role": "creator"}
GROUP = {"id": 7, "groupname": "g", "groupdesc": "d", "users": [MEMBER]}
PLACE: Frame = {"conv": "d:1:2", "seq": 1, "ts": 5}

#: Requests with fields, and an answer that tells of success.
REQUESTS: dict[Kind, tuple[Frame, Frame]] = {
    Kind.REGISTER: ({"name": "x", "password": "y"}, {"msgid": Kind.REGISTER_ACK, "id": 3}),
    Kind.ADD_FRIEND: ({"friendid": 2}, {"friend": FRIEND}),
    Kind.CREATE_GROUP: ({"groupname": "g", "groupdesc": "d"}, {"groupid": 7}),
    Kind.JOIN_GROUP: ({"groupid": 7}, {"group": GROUP}),
    Kind.READ: ({"conv": "d:1:2", "seq": 1}, {}),
    Kind.HISTORY: ({"conv": "d:1:2", "limit": 5}, {"messages": [], "more": False}),
    Kind.CONVERSATIONS: ({}, {"conversations": []}),
    Kind.PING: ({}, {"msgid": Kind.PONG}),
    Kind.LOGOUT: ({}, {}),
}

PUT_OFF: list[RequestError] = [Unavailable("u"), RateLimited(3.0, "r"), ShuttingDown("s")]
FINAL: list[RequestError] = [
    error("text")
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, RequestError) and error not in (RequestError, RateLimited)
    if not isinstance(error("text"), (Unavailable, ShuttingDown))
] + [OtherFailure(999, "from_a_later_version", "text")]


class Client:
    """A protocol, and the server's side of it by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.protocol = Protocol(Options(**options), draw=lambda: 0.5)

    def sent(self) -> list[Frame]:
        """What the client has sent since the last look."""
        return [json.loads(line) for line in self.protocol.take_output().splitlines()]

    def the(self, kind: Kind) -> Frame:
        """The one frame that it has sent."""
        [frame] = self.sent()
        assert frame["msgid"] == kind
        return frame

    def give(self, *frames: Frame) -> None:
        """Have the server send frames."""
        self.protocol.receive(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames), self.now)

    def answer(self, request: Frame, fields: Frame | RequestError) -> None:
        given = fields.fields() if isinstance(fields, RequestError) else {"errno": 0, **fields}
        self.give({"msgid": Kind.REPLY, "ref": request["ref"], **given})

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.protocol.tick(self.now)

    def connect(self) -> Client:
        self.protocol.connected(self.now)
        self.answer(self.the(Kind.HELLO), {"msgid": Kind.HELLO_ACK, **GREETING})
        return self

    def accept(self, login: Frame) -> None:
        fields = {"id": 1, "name": "alice", "friends": [FRIEND], "groups": [GROUP], "token": f"t{login['ref']}"}
        self.answer(login, {"msgid": Kind.LOGIN_ACK, **fields})

    def online(self, **fields: str) -> Client:
        self.connect()
        self.protocol.login(fields or {"name": "alice", "password": "pw"}, self.now)
        self.accept(self.the(Kind.LOGIN))
        return self

    def back(self) -> None:
        """Lose the connection, connect again and log in by token."""
        self.protocol.lost(ConnectionLost("cut"))
        self.connect()
        self.accept(self.the(Kind.LOGIN))

    def send(self, text: str = "hi", key: str | None = None, kind: Kind = Kind.DIRECT) -> Request:
        return self.protocol.send(kind, 2 if kind is Kind.DIRECT else 7, text, key, self.now)

    def ask(self, kind: Kind, *, repeatable: bool = False) -> Request:
        return self.protocol.request(kind, REQUESTS[kind][0], self.now, repeatable=repeatable)

    def events(self) -> list[Event]:
        taken = []
        while (event := self.protocol.events.take()) is not None:
            taken.append(event)
        return taken


def message(seq: int, **fields: Any) -> Frame:
    base = {"msgid": 6, "id": 2, "name": "bob", "toid": 1, "msg": f"text {seq}", "time": "t", "ts": 5}
    return {**base, "conv": "d:1:2", "seq": seq, **fields}
