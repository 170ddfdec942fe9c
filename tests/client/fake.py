"""A server in memory that keeps the protocol's promises to modern clients, and fails when it is told to. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from trio_chat.errors import (
    AlreadyExists,
    BadCredentials,
    NameTaken,
    NoSuchGroup,
    NoSuchUser,
    NotAMember,
    NotLoggedIn,
    RequestError,
)
from trio_chat.wire.conversation import direct_conv, group_conv, parse_conv
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind, answer_kind, encode

Frame = dict[str, Any]


@attrs.define
class Account:
    id: int
    name: str
    password: str
    tokens: set[str] = attrs.field(factory=set)


class FakeServer:
    """Accounts, logs and cursors.

    `refusals` are raised, one each, instead of storing a message or showing history. With `mute` messages are stored but
    their replies are lost.
    """

    def __init__(self, heartbeat: float = 30.0) -> None:
        self.heartbeat = heartbeat
        self.accounts: dict[int, Account] = {}
        self.groups: dict[int, list[int]] = {}
        self.logs: dict[str, list[Frame]] = {}
        self.cursors: dict[tuple[int, str], int] = {}
        self.sessions: list[Session] = []
        self.refusals: deque[RequestError] = deque()
        self.login_refusals: deque[RequestError] = deque()
        self.mute = False
        self.on_received: Callable[[str, int], None] = lambda _conv, _seq: None
        self.requests: list[Frame] = []  # all that were received, in order
        self._tokens = 0

    def account(self, name: str, password: str = "pw") -> Account:
        account = Account(len(self.accounts) + 1, name, password)
        self.accounts[account.id] = account
        return account

    def group(self, *members: Account) -> int:
        groupid = len(self.groups) + 1
        self.groups[groupid] = [member.id for member in members]
        return groupid

    def members(self, conv: str) -> list[int]:
        parties = parse_conv(conv)
        return list(parties.users or ()) if parties.groupid is None else self.groups[parties.groupid]

    def post(self, sender: Account, conv: str, text: str, key: str | None = None, by: Session | None = None) -> Frame:
        """Store a message and deliver it; `by` is the session that sent it and gets a reply instead."""
        log = self.logs.setdefault(conv, [])
        parties = parse_conv(conv)
        message: Frame = {"msgid": int(Kind.DIRECT), "id": sender.id, "name": sender.name}
        if parties.groupid is not None:
            message.update(msgid=int(Kind.GROUP), groupid=parties.groupid)
        else:
            one, other = parties.users or (0, 0)
            message["toid"] = other if sender.id == one else one
        message.update(msg=text, time="2026-11-23 12:00:00", conv=conv, seq=len(log) + 1, ts=1_000_000 + len(log))
        if key is not None:
            message["key"] = key
        log.append(message)
        for session in self.sessions:
            if session.account is not None and session.account.id in self.members(conv):
                session.deliver(message, reply=session is by)
        return message

    def received(self, account: Account, conv: str, seq: int) -> None:
        self.cursors[account.id, conv] = max(seq, self.cursors.get((account.id, conv), 0))

    def cursor(self, account: Account, conv: str) -> int:
        """How far the account has received, its own messages passed over."""
        position = self.cursors.get((account.id, conv), 0)
        log = self.logs.get(conv, [])
        while position < len(log) and log[position]["id"] == account.id:
            position += 1
        return position

    def conversations(self, account: Account) -> Iterator[str]:
        return (conv for conv in self.logs if account.id in self.members(conv))

    def new_token(self, account: Account) -> str:
        self._tokens += 1
        token = f"token-{self._tokens}"
        account.tokens.add(token)
        return token

    def connect(self) -> Session:
        session = Session(self)
        self.sessions.append(session)
        return session


class Session:
    """One connection: `receive` takes the client's bytes, `take` gives the server's; `on_output` tells of these."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.account: Account | None = None
        self.positions: dict[str, int] = {}
        self._splitter = FrameSplitter(1 << 20)
        self._output = b""
        self.on_output: Callable[[], None] = lambda: None
        self.closed = False
        self._reply_refs: dict[str, Any] = {}

    def receive(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            self._request(json.loads(frame))

    def take(self, most: int | None = None) -> bytes:
        output = self._output[:most]
        self._output = self._output[len(output) :]
        return output

    def send(self, frame: Frame) -> None:
        self._output += encode(frame) + b"\n"
        self.on_output()

    def close(self) -> None:
        self.closed = True
        self.on_output()
        if self in self.server.sessions:
            self.server.sessions.remove(self)

    def deliver(self, message: Frame, *, reply: bool = False) -> None:
        self.positions[message["conv"]] = message["seq"]
        if not reply:
            self.send(message)
        elif not self.server.mute:
            self.send(self._stored(message))

    def _stored(self, message: Frame) -> Frame:
        place = {name: message[name] for name in ("conv", "seq", "ts")}
        return {"msgid": int(Kind.REPLY), "ref": self._reply_refs.get(message.get("key", "")), "errno": 0, **place}

    def _request(self, frame: Frame) -> None:
        self.server.requests.append(frame)
        kind = Kind(frame["msgid"])
        try:
            answer = getattr(self, f"_{kind.name.lower()}")(frame)
        except RequestError as error:
            answer = {"msgid": int(answer_kind(kind)), **error.fields()}
        if answer is not None:
            self.send({"msgid": int(Kind.REPLY), "ref": frame.get("ref"), "errno": 0, **answer})

    def _me(self) -> Account:
        if self.account is None:
            raise NotLoggedIn
        return self.account

    def _hello(self, _: Frame) -> Frame:
        limits = {"frame": 65536, "message": 16384}
        greeting = {"version": 1, "server": "fake", "node": "n1", "limits": limits, "heartbeat": self.server.heartbeat}
        return {"msgid": int(Kind.HELLO_ACK), **greeting}

    def _ping(self, frame: Frame) -> Frame:
        return {"msgid": int(Kind.PONG), "data": frame.get("data")}

    def _pong(self, _: Frame) -> None:
        return None

    def _register(self, frame: Frame) -> Frame:
        if any(account.name == frame["name"] for account in self.server.accounts.values()):
            raise NameTaken
        return {"msgid": int(Kind.REGISTER_ACK), "id": self.server.account(frame["name"], frame["password"]).id}

    def _login(self, frame: Frame) -> None:
        if self.server.login_refusals:
            raise self.server.login_refusals.popleft()
        for account in self.server.accounts.values():
            by_token = frame.get("token") in account.tokens
            named = frame.get("id") == account.id or frame.get("name") == account.name
            if by_token or (named and frame.get("password") == account.password):
                self._enter(account, frame)
                return
        raise BadCredentials

    def _enter(self, account: Account, frame: Frame) -> None:
        self.account = account
        groups = [
            {"id": groupid, "groupname": f"group-{groupid}", "groupdesc": "", "users": []}
            for groupid, members in self.server.groups.items()
            if account.id in members
        ]
        self.send(
            {"msgid": int(Kind.LOGIN_ACK), "ref": frame.get("ref"), "errno": 0, "id": account.id, "name": account.name}
            | {"friends": [], "groups": groups, "token": self.server.new_token(account)}
        )
        for conv in self.server.conversations(account):
            self.positions[conv] = self.server.cursor(account, conv)
            for message in self.server.logs[conv][self.positions[conv] :]:
                self.deliver(message)

    def _logout(self, _: Frame) -> Frame:
        self._me().tokens.clear()
        self.account = None
        self.positions.clear()
        return {}

    def _direct(self, frame: Frame) -> Frame | None:
        if frame["toid"] not in self.server.accounts:
            raise NoSuchUser
        return self._message(frame, direct_conv(self._me().id, frame["toid"]))

    def _group(self, frame: Frame) -> Frame | None:
        if frame["groupid"] not in self.server.groups:
            raise NoSuchGroup
        return self._message(frame, group_conv(frame["groupid"]))

    def _message(self, frame: Frame, conv: str) -> Frame | None:
        if self._me().id not in self.server.members(conv):
            raise NotAMember
        if self.server.refusals:
            raise self.server.refusals.popleft()
        key = frame.get("key")
        for message in self.server.logs.get(conv, []):
            if key is not None and message.get("key") == key:
                return {name: message[name] for name in ("conv", "seq", "ts")}
        self._reply_refs[key or ""] = frame.get("ref")
        self.server.post(self._me(), conv, frame["msg"], key, by=self)
        return None

    def _received(self, frame: Frame) -> None:
        self.server.on_received(frame["conv"], frame["seq"])
        position = self.positions.get(frame["conv"], 0)
        self.server.received(self._me(), frame["conv"], min(frame["seq"], position))

    def _read(self, frame: Frame) -> Frame:
        me = self._me()
        for session in self.server.sessions:
            if session is not self and session.account is not None:
                session.send({"msgid": int(Kind.READ), "conv": frame["conv"], "seq": frame["seq"], "id": me.id})
        return {}

    def _history(self, frame: Frame) -> Frame:
        if self.server.refusals:
            raise self.server.refusals.popleft()
        if self._me().id not in self.server.members(frame["conv"]):
            raise NotAMember
        after = frame.get("after", 0)
        rest = self.server.logs.get(frame["conv"], [])[after:]
        return {"messages": rest[: frame["limit"]], "more": len(rest) > frame["limit"]}

    def _conversations(self, _: Frame) -> Frame:
        if self.server.refusals:
            raise self.server.refusals.popleft()
        me = self._me()
        return {
            "conversations": [
                {
                    "conv": conv,
                    "last_seq": len(self.server.logs[conv]),
                    "received_seq": self.server.cursor(me, conv),
                    "read_seq": 0,
                }
                for conv in self.server.conversations(me)
            ]
        }

    def _add_friend(self, frame: Frame) -> Frame:
        if frame["friendid"] not in self.server.accounts:
            raise NoSuchUser
        friend = self.server.accounts[frame["friendid"]]
        return {"friend": {"id": friend.id, "name": friend.name, "state": "online"}}

    def _find_user(self, frame: Frame) -> Frame:
        for account in self.server.accounts.values():
            if account.name == frame["name"]:
                return {"user": {"id": account.id, "name": account.name, "state": "offline"}}
        raise NoSuchUser

    def _search(self, frame: Frame) -> Frame:
        logs = (self.server.logs[conv] for conv in self.server.conversations(self._me()))
        found = [message for log in logs for message in log if frame["query"] in message["msg"]]
        return {"messages": found[::-1][: frame["limit"]], "more": len(found) > frame["limit"]}

    def _create_group(self, frame: Frame) -> Frame:
        if frame["groupname"] == "taken":
            raise AlreadyExists
        return {"groupid": self.server.group(self._me())}

    def _join_group(self, frame: Frame) -> Frame:
        if frame["groupid"] not in self.server.groups:
            raise NoSuchGroup
        self.server.groups[frame["groupid"]].append(self._me().id)
        return {"group": {"id": frame["groupid"], "groupname": "g", "groupdesc": "d", "users": []}}
