"""A model of a faultless server that writes its history: tests tell a story, then spoil what it recorded."""

from __future__ import annotations

import itertools

import attrs

from trio_chat.verify.history import (
    Answered,
    Closed,
    Delivered,
    FaultBegan,
    FaultEnded,
    Left,
    Logged,
    LoggedIn,
    LogRead,
    Noticed,
    Opened,
    Received,
    Record,
    Requested,
)
from trio_chat.wire.conversation import direct_conv, group_conv

__all__ = ["Story"]


@attrs.define(eq=False)
class _Sent:
    sender: int
    key: str | None
    text: str


class Story:
    """Everything happens at once and in order; `wait` lets time pass."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.now = 0.0
        self._numbers = itertools.count(1)
        self._refs = itertools.count(1)
        self._logs: dict[str, list[_Sent]] = {}
        self._cursors: dict[tuple[int, str], int] = {}
        self._keys: dict[tuple[int, str], tuple[str, int]] = {}
        self._online: dict[int, int] = {}
        self._places: dict[tuple[int, str], int] = {}
        self._members: dict[str, set[int]] = {}
        self._friends: dict[int, set[int]] = {}
        self._blocks: set[tuple[int, int]] = set()

    def add(self, record: Record) -> None:
        self.now += 0.001
        record.at = self.now
        self.records.append(record)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def befriend(self, user: int, friend: int) -> None:
        """Before the story begins."""
        self._friends.setdefault(user, set()).add(friend)

    def login(self, user: int) -> int:
        connection = next(self._numbers)
        self.add(Opened(0, connection))
        self.add(Requested(0, connection, ref := next(self._refs), "LOGIN"))
        self.add(Answered(0, connection, ref))
        groups = sorted(conv for conv, members in self._members.items() if user in members)
        self.add(LoggedIn(0, connection, user, groups))
        for friend in sorted(self._friends.get(user, ())):
            self.add(Noticed(0, connection, friend, "online" if friend in self._online.values() else "offline"))
        came = user not in self._online.values()
        self._online[connection] = user
        if came:
            self._tell(user, "online")
        for conv in sorted(self._logs):
            if self._is_in(user, conv):
                self._catch_up(connection, conv)
        return connection

    def close(self, connection: int) -> None:
        user = self._online.pop(connection)
        self.add(Closed(0, connection))
        if user not in self._online.values():
            self._tell(user, "offline")

    def join(self, user: int, group: int) -> str:
        conv = group_conv(group)
        connection = next((each for each, owner in self._online.items() if owner == user), 0) or self.login(user)
        self.add(Requested(0, connection, ref := next(self._refs), "JOIN_GROUP", conv))
        self._cursors[user, conv] = len(self._logs.setdefault(conv, []))
        self._members.setdefault(conv, set()).add(user)
        self.add(Answered(0, connection, ref))
        for other, owner in self._online.items():
            if owner == user:
                self._places[other, conv] = self._cursors[user, conv]
        return conv

    def leave(self, connection: int, conv: str) -> None:
        """The account of a connection leaves a group."""
        user = self._online[connection]
        self.add(Requested(0, connection, ref := next(self._refs), "LEAVE_GROUP", conv))
        self._members[conv].discard(user)
        self._part(connection, user, conv)
        self.add(Answered(0, connection, ref))

    def remove(self, connection: int, conv: str, other: int) -> None:
        """Somebody, who is taken for the creator of a group, removes another from it."""
        self.add(Requested(0, connection, ref := next(self._refs), "REMOVE_MEMBER", conv, about=other))
        self._members[conv].discard(other)
        self._part(0, other, conv)
        self.add(Answered(0, connection, ref))

    def block(self, connection: int, other: int, *, undo: bool = False) -> None:
        """The account of a connection blocks another, or takes that back."""
        kind = "UNBLOCK" if undo else "BLOCK"
        self.add(Requested(0, connection, ref := next(self._refs), kind, about=other))
        pair = (self._online[connection], other)
        if undo:
            self._blocks.discard(pair)
        else:
            self._blocks.add(pair)
        self.add(Answered(0, connection, ref))

    def _part(self, asker: int, user: int, conv: str) -> None:
        for connection, owner in self._online.items():
            if owner == user and connection != asker:
                self.add(Left(0, connection, conv))

    def send(self, connection: int, to: str | int, text: str, key: str | None = None, *, answered: bool = True) -> int:
        """Send to a user, or to a conversation by its name; the ref of the request."""
        user = self._online[connection]
        conv = direct_conv(user, to) if isinstance(to, int) else to
        ref = next(self._refs)
        self.add(Requested(0, connection, ref, "DIRECT" if isinstance(to, int) else "GROUP", conv, key, text))
        if not self._may_write(user, conv):
            self.add(Answered(0, connection, ref, "forbidden" if conv[0] == "d" else "not_a_member"))
            return ref
        if key is not None and (user, key) in self._keys:
            self.add(Answered(0, connection, ref, "", *self._keys[user, key]))
            return ref
        log = self._logs.setdefault(conv, [])
        log.append(_Sent(user, key, text))
        seq = len(log)
        if key is not None:
            self._keys[user, key] = (conv, seq)
        if self._cursors.get((user, conv), 0) == seq - 1:
            self._cursors[user, conv] = seq
        for other, owner in self._online.items():
            if other == connection:
                if answered:
                    self.add(Answered(0, connection, ref, "", conv, seq))
                self._places[connection, conv] = seq
            elif self._is_in(owner, conv):
                self._deliver(other, conv, seq)
        return ref

    def received(self, connection: int, conv: str, seq: int) -> None:
        self.add(Received(0, connection, conv, seq))
        user = self._online[connection]
        self._cursors[user, conv] = max(seq, self._cursors.get((user, conv), 0))

    def fault(self, kind: str, seconds: float) -> None:
        number = next(self._numbers)
        self.add(FaultBegan(0, number, kind))
        self.wait(seconds)
        self.add(FaultEnded(0, number))

    def read_logs(self) -> list[Record]:
        """The end: the logs are read. The whole history."""
        for conv, log in self._logs.items():
            for seq, sent in enumerate(log, 1):
                self.add(Logged(0, conv, seq, sent.sender, sent.key, sent.text))
            self.add(LogRead(0, conv, 1))
        return self.records

    def _may_write(self, user: int, conv: str) -> bool:
        if conv[0] == "g":
            return user in self._members[conv]
        low, high = (int(each) for each in conv.split(":")[1:])
        return not self._blocks & {(low, high), (high, low)}

    def _is_in(self, user: int, conv: str) -> bool:
        return str(user) in conv.split(":")[1:] if conv[0] == "d" else user in self._members.get(conv, ())

    def _catch_up(self, connection: int, conv: str) -> None:
        user = self._online[connection]
        seq = self._cursors.get((user, conv), 0)
        log = self._logs[conv]
        while seq < len(log) and log[seq].sender == user:
            seq += 1
        self._cursors[user, conv] = self._places[connection, conv] = seq
        while seq < len(log):
            seq += 1
            self._deliver(connection, conv, seq)

    def _deliver(self, connection: int, conv: str, seq: int) -> None:
        sent = self._logs[conv][seq - 1]
        self.add(Delivered(0, connection, conv, seq, sent.sender, sent.key, sent.text))
        self._places[connection, conv] = seq

    def _tell(self, user: int, state: str) -> None:
        for connection, owner in self._online.items():
            if user in self._friends.get(owner, ()):
                self.add(Noticed(0, connection, user, state))
