"""The kinds of frames and their fields: one class per request, one table of kinds.

Decoding is strict: "5" is never 5, a bool is never an integer, and whatever is wrong becomes one `RequestError` that
names the field. Fields that a kind does not know are ignored.

They are msgspec's own classes, as each message goes through two of them: attrs ones, as elsewhere, take it three times as
long.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from trio_chat.errors import BadFrame, BadRequest

__all__ = [
    "KINDS",
    "REQUESTS",
    "AddFriend",
    "Block",
    "Blocked",
    "ChangePassword",
    "Conversations",
    "CreateGroup",
    "DeleteAccount",
    "Direct",
    "Envelope",
    "Export",
    "ExportAfter",
    "FindUser",
    "Group",
    "GroupInfo",
    "Hello",
    "History",
    "JoinGroup",
    "Kind",
    "LeaveGroup",
    "Login",
    "Logins",
    "Logout",
    "LogoutEverywhere",
    "Ping",
    "Pong",
    "Read",
    "Received",
    "Ref",
    "Register",
    "RemoveMember",
    "Request",
    "RevokeLogin",
    "Search",
    "SearchBefore",
    "Typing",
    "Unblock",
    "answer_kind",
    "decode",
    "encode",
    "open_envelope",
]


class Kind(IntEnum):
    """What a frame is: its `msgid`."""

    LOGIN = 1
    LOGIN_ACK = 2
    LOGOUT = 3
    REGISTER = 4
    REGISTER_ACK = 5
    DIRECT = 6
    ADD_FRIEND = 7
    CREATE_GROUP = 8
    JOIN_GROUP = 9
    GROUP = 10
    HELLO = 20
    HELLO_ACK = 21
    PING = 22
    PONG = 23
    REPLY = 24
    RECEIVED = 25
    READ = 26
    HISTORY = 27
    CONVERSATIONS = 28
    PRESENCE = 29
    TYPING = 30
    FIND_USER = 31
    SEARCH = 32
    GROUP_INFO = 33
    DELIVERED = 34
    CHANGE_PASSWORD = 35
    LOGINS = 36
    REVOKE_LOGIN = 37
    LOGOUT_EVERYWHERE = 38
    EXPORT = 39
    DELETE_ACCOUNT = 40
    LEAVE_GROUP = 45
    REMOVE_MEMBER = 46
    BLOCK = 47
    UNBLOCK = 48
    BLOCKED = 49


# What both databases can store and JSON can carry.
_INT64 = Meta(ge=-(2**63), le=2**63 - 1)
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]
# Every number of up to 18 digits fits the databases; no longer id is ever given out.
Conv = Annotated[str, Meta(pattern=r"^(d:[1-9][0-9]{0,17}:[1-9][0-9]{0,17}|g:[1-9][0-9]{0,17})\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=50)]
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Key = Annotated[str, Meta(min_length=1, max_length=64)]
Ref = Annotated[str, Meta(max_length=64)] | Annotated[int, _INT64]


class Envelope(msgspec.Struct):
    """What every frame has: its kind, and the client's own reference, which the answer carries back."""

    msgid: int
    ref: Ref | None = None


class Login(msgspec.Struct):
    """By `id` or `name` with a `password`, or by `token`."""

    id: Annotated[int, _INT64] | None = None
    name: str | None = None
    password: str | None = None
    token: Annotated[str, Meta(max_length=128)] | None = None


class Logout(msgspec.Struct):
    pass


class Register(msgspec.Struct):
    """`invitation` is the code of one, where the server asks for it."""

    name: Name
    password: Password
    invitation: Annotated[str, Meta(max_length=128)] | None = None


class Direct(msgspec.Struct):
    """`time` is the client's own text, passed on as it is; `key` makes sending it again harmless."""

    toid: Id
    msg: str
    time: Annotated[str, Meta(max_length=64)] | None = None
    key: Key | None = None


class AddFriend(msgspec.Struct):
    friendid: Id


class CreateGroup(msgspec.Struct):
    groupname: Name
    groupdesc: Annotated[str, Meta(max_length=200)] = ""


class JoinGroup(msgspec.Struct):
    groupid: Id


class Group(msgspec.Struct):
    groupid: Id
    msg: str
    time: Annotated[str, Meta(max_length=64)] | None = None
    key: Key | None = None


class Hello(msgspec.Struct):
    version: int
    client: Annotated[str, Meta(max_length=256)] = ""
    receipts: bool = False


class Ping(msgspec.Struct):
    """`data` is echoed as it is, whatever it is: never decoded (which only a Struct can ask for)."""

    data: msgspec.Raw = msgspec.Raw()


class Pong(msgspec.Struct):
    pass


class Received(msgspec.Struct):
    conv: Conv
    seq: Seq


class Read(msgspec.Struct):
    conv: Conv
    seq: Seq


class History(msgspec.Struct):
    """At most `limit` messages of a conversation: the first after seq `after`, or the last before seq `before`."""

    conv: Conv
    after: Seq | None = None
    before: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=2**31)] = 50


class Conversations(msgspec.Struct):
    pass


class Typing(msgspec.Struct):
    conv: Conv


class FindUser(msgspec.Struct):
    name: Name


class SearchBefore(msgspec.Struct):
    """The message that the next page begins behind: the last of the one before."""

    ts: Seq
    conv: Conv
    seq: Seq


class Search(msgspec.Struct):
    """At most `limit` messages that hold every word of `query`, the newest first."""

    query: Annotated[str, Meta(min_length=1, max_length=100)]
    conv: Conv | None = None
    before: SearchBefore | None = None
    limit: Annotated[int, Meta(ge=1, le=2**31)] = 20


class GroupInfo(msgspec.Struct):
    """By `groupid` or `groupname`."""

    groupid: Id | None = None
    groupname: Name | None = None


class ChangePassword(msgspec.Struct):
    """`password` is the present one."""

    password: Password
    newpassword: Password


class Logins(msgspec.Struct):
    pass


class RevokeLogin(msgspec.Struct):
    login: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]


class LogoutEverywhere(msgspec.Struct):
    pass


class ExportAfter(msgspec.Struct):
    """The message that the next page begins behind: the last of the one before."""

    conv: Conv
    seq: Seq


class Export(msgspec.Struct):
    after: ExportAfter | None = None


class DeleteAccount(msgspec.Struct):
    password: Password


class LeaveGroup(msgspec.Struct):
    groupid: Id


class RemoveMember(msgspec.Struct):
    """`barred`: he may not join again. For who is not in the group only that is noted."""

    groupid: Id
    userid: Id
    barred: bool = True


class Block(msgspec.Struct):
    userid: Id


class Unblock(msgspec.Struct):
    userid: Id


class Blocked(msgspec.Struct):
    pass


Request = (
    Login
    | Logout
    | Register
    | Direct
    | AddFriend
    | CreateGroup
    | JoinGroup
    | Group
    | Hello
    | Ping
    | Pong
    | Received
    | Read
    | History
    | Conversations
    | Typing
    | FindUser
    | Search
    | GroupInfo
    | ChangePassword
    | Logins
    | RevokeLogin
    | LogoutEverywhere
    | Export
    | DeleteAccount
    | LeaveGroup
    | RemoveMember
    | Block
    | Unblock
    | Blocked
)

#: The requests: every kind that a client may send.
REQUESTS: dict[Kind, type[Request]] = {
    Kind.LOGIN: Login,
    Kind.LOGOUT: Logout,
    Kind.REGISTER: Register,
    Kind.DIRECT: Direct,
    Kind.ADD_FRIEND: AddFriend,
    Kind.CREATE_GROUP: CreateGroup,
    Kind.JOIN_GROUP: JoinGroup,
    Kind.GROUP: Group,
    Kind.HELLO: Hello,
    Kind.PING: Ping,
    Kind.PONG: Pong,
    Kind.RECEIVED: Received,
    Kind.READ: Read,
    Kind.HISTORY: History,
    Kind.CONVERSATIONS: Conversations,
    Kind.TYPING: Typing,
    Kind.FIND_USER: FindUser,
    Kind.SEARCH: Search,
    Kind.GROUP_INFO: GroupInfo,
    Kind.CHANGE_PASSWORD: ChangePassword,
    Kind.LOGINS: Logins,
    Kind.REVOKE_LOGIN: RevokeLogin,
    Kind.LOGOUT_EVERYWHERE: LogoutEverywhere,
    Kind.EXPORT: Export,
    Kind.DELETE_ACCOUNT: DeleteAccount,
    Kind.LEAVE_GROUP: LeaveGroup,
    Kind.REMOVE_MEMBER: RemoveMember,
    Kind.BLOCK: Block,
    Kind.UNBLOCK: Unblock,
    Kind.BLOCKED: Blocked,
}

#: The kind that a request's msgid stands for.
KINDS: dict[int, Kind] = {int(kind): kind for kind in REQUESTS}

_DECODERS = {kind: msgspec.json.Decoder(request) for kind, request in REQUESTS.items()}
_ENVELOPE = msgspec.json.Decoder(Envelope)
_ENCODER = msgspec.json.Encoder()

#: The object as JSON text in UTF-8, without a terminator.
encode = _ENCODER.encode

_FIELD = re.compile(r"`\$\.(\w+)[^`]*`\Z|field `(\w+)`")


def open_envelope(frame: bytes) -> Envelope:
    """Read a frame's kind and ref.

    Raises `BadFrame` where it is not a JSON object with an integer msgid, `BadRequest` where its ref cannot be used.
    """
    try:
        if not frame.isascii():
            frame.decode()
        return _ENVELOPE.decode(frame)
    except msgspec.ValidationError as error:
        failure = _bad_request(error)
        if failure.field != "ref":
            raise BadFrame from None
        raise failure from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFrame from None


def decode(kind: Kind, frame: bytes) -> Request:
    """Read the fields of a frame whose envelope was read.

    Raises `BadRequest`, which names the field, or `BadFrame` where the JSON is broken after all.
    """
    try:
        return _DECODERS[kind].decode(frame)
    except msgspec.ValidationError as error:
        raise _bad_request(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFrame from None


def _bad_request(error: msgspec.ValidationError) -> BadRequest:
    reason = str(error)
    found = _FIELD.search(reason)
    field = (found[1] or found[2]) if found else ""
    reason = reason.partition(" - at `")[0].replace("`", "")
    if "matching regex" in reason:
        reason = "is not a login's id" if field == "login" else "is not d:LOW:HIGH or g:GROUPID"
    return BadRequest(f"{field}: {reason}" if field else reason, field=field)


def answer_kind(kind: Kind | None) -> Kind:
    """The kind of the frame that tells of a failed request of `kind`."""
    return {Kind.LOGIN: Kind.LOGIN_ACK, Kind.REGISTER: Kind.REGISTER_ACK}.get(kind, Kind.REPLY)  # type: ignore[arg-type]
