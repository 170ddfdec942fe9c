"""Reading what the server sends: frames become typed values, anything else becomes one error."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import msgspec

from trio_chat.client.errors import ProtocolViolation
from trio_chat.client.model import Conversation, Friend, Group, Login, Member, Message, Page, Person, Sent, User
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import DeliveredFrame

__all__ = [
    "BlockedUsers",
    "ConversationList",
    "Exported",
    "Found",
    "FriendAdded",
    "Greeting",
    "GroupCreated",
    "GroupJoined",
    "GroupLeft",
    "HistoryPage",
    "Limits",
    "LoginList",
    "Presence",
    "ReadMark",
    "Registered",
    "SignedIn",
    "Stored",
    "TypingMark",
    "UserFound",
    "convert",
    "message_of",
    "parse",
]

T = TypeVar("T")

#: What has a year of four digits, in milliseconds since the epoch.
_LAST_MOMENT = 250_000_000_000_000


@attrs.define
class Limits:
    """The longest frame and the longest text that the server takes, in bytes."""

    frame: int = 64 * 1024
    message: int = 16 * 1024


@attrs.define
class Greeting:
    """HELLO_ACK. `heartbeat` is in seconds."""

    version: int = 1
    server: str = ""
    node: str = ""
    limits: Limits = attrs.field(factory=Limits)
    heartbeat: float = 30.0


@attrs.define
class FriendEntry:
    id: int
    name: str
    state: str = "offline"

    def friend(self) -> Friend:
        return Friend(self.id, self.name, self.state == "online")

    def person(self) -> Person:
        return Person(self.id, self.name, self.state == "online")


@attrs.define
class MemberEntry:
    id: int
    name: str
    state: str = "offline"
    role: str = "normal"
    received_seq: int | None = None
    read_seq: int | None = None

    def member(self) -> Member:
        online = self.state == "online"
        return Member(self.id, self.name, online, self.role, self.received_seq, self.read_seq)


@attrs.define
class GroupEntry:
    id: int
    groupname: str
    groupdesc: str = ""
    users: list[MemberEntry] = attrs.field(factory=list[MemberEntry])

    def group(self) -> Group:
        return Group(self.id, self.groupname, self.groupdesc, tuple(user.member() for user in self.users))


@attrs.define
class SignedIn:
    """LOGIN_ACK."""

    id: int
    name: str
    friends: list[FriendEntry] = attrs.field(factory=list[FriendEntry])
    groups: list[GroupEntry] = attrs.field(factory=list[GroupEntry])
    token: str | None = None


@attrs.define
class Registered:
    """REGISTER_ACK."""

    id: int


@attrs.define
class FriendAdded:
    """REPLY to ADD_FRIEND."""

    friend: FriendEntry


@attrs.define
class GroupCreated:
    """REPLY to CREATE_GROUP."""

    groupid: int


@attrs.define
class GroupJoined:
    """REPLY to JOIN_GROUP and GROUP_INFO."""

    group: GroupEntry


@attrs.define
class UserFound:
    """REPLY to FIND_USER."""

    user: FriendEntry


@attrs.define
class GroupLeft:
    """LEAVE_GROUP from the server."""

    groupid: int


@attrs.define
class BlockedUser:
    id: int
    name: str


@attrs.define
class BlockedUsers:
    """REPLY to BLOCKED."""

    users: list[BlockedUser] = attrs.field(factory=list[BlockedUser])

    def entries(self) -> tuple[User, ...]:
        return tuple(User(user.id, user.name) for user in self.users)


@attrs.define
class Stored:
    """REPLY to DIRECT and GROUP."""

    conv: str
    seq: int
    ts: int

    def sent(self) -> Sent:
        return Sent(self.conv, self.seq, self.ts)


def message_of(frame: DeliveredFrame, me: int) -> Message:
    """The message that a frame brings to the account `me`. Raises `ProtocolViolation`."""
    try:
        parse_conv(frame.conv)
    except ValueError as error:
        raise ProtocolViolation(f"a message of the server is in no conversation: {error}") from None
    if not 0 <= frame.ts < _LAST_MOMENT:
        raise ProtocolViolation(f"a message of the server has an impossible time: {frame.ts}")
    f = frame
    return Message(f.conv, f.seq, f.ts, f.id, f.name, f.msg, f.time, f.key, mine=f.id == me)


@attrs.define
class HistoryPage:
    """REPLY to HISTORY."""

    messages: list[DeliveredFrame]
    more: bool = False

    def page(self, me: int) -> Page:
        return Page(tuple(sorted((message_of(frame, me) for frame in self.messages), key=_seq)), self.more)


@attrs.define
class Found:
    """REPLY to SEARCH: the newest first, over all conversations."""

    messages: list[DeliveredFrame]
    more: bool = False

    def page(self, me: int) -> Page:
        return Page(tuple(message_of(frame, me) for frame in self.messages), self.more)


@attrs.define
class ConversationEntry:
    conv: str
    last_seq: int
    received_seq: int = 0
    read_seq: int = 0
    peer_received_seq: int | None = None
    peer_read_seq: int | None = None

    def conversation(self) -> Conversation:
        peer = self.peer_received_seq, self.peer_read_seq
        return Conversation(self.conv, self.last_seq, self.received_seq, self.read_seq, *peer)


@attrs.define
class ConversationList:
    """REPLY to CONVERSATIONS."""

    conversations: list[ConversationEntry] = attrs.field(factory=list[ConversationEntry])

    def entries(self) -> tuple[Conversation, ...]:
        return tuple(entry.conversation() for entry in self.conversations)


@attrs.define
class LoginEntry:
    login: str
    created: int = 0
    used: int = 0
    expires: int = 0
    client: str = ""
    address: str = ""
    current: bool = False

    def entry(self) -> Login:
        return Login(self.login, self.created, self.used, self.expires, self.client, self.address, self.current)


@attrs.define
class LoginList:
    """REPLY to LOGINS."""

    logins: list[LoginEntry] = attrs.field(factory=list[LoginEntry])

    def entries(self) -> tuple[Login, ...]:
        return tuple(entry.entry() for entry in self.logins)


@attrs.define
class Exported:
    """REPLY to EXPORT; what the first page has beside this is taken as it is."""

    messages: list[DeliveredFrame] = attrs.field(factory=list[DeliveredFrame])
    more: bool = False


@attrs.define
class Presence:
    id: int
    state: str


@attrs.define
class ReadMark:
    """READ from another member, or DELIVERED."""

    conv: str
    seq: int
    id: int


@attrs.define
class TypingMark:
    """TYPING from another member."""

    conv: str
    id: int


_OBJECT = msgspec.json.Decoder(dict[str, Any])


def parse(frame: bytes) -> dict[str, Any]:
    """The fields of a frame. Raises `ProtocolViolation` where it is not a JSON object with an integer `msgid`."""
    try:
        fields = _OBJECT.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"a frame of the server is not an object: {error}") from None
    if type(fields.get("msgid")) is not int:
        raise ProtocolViolation("a frame of the server has no integer msgid")
    return fields


def convert(fields: dict[str, Any], shape: type[T]) -> T:
    """The fields as a `shape`. Raises `ProtocolViolation`, which names the field that does not fit."""
    try:
        return msgspec.convert(fields, shape)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolViolation(f"a {shape.__name__} of the server is wrong: {error}") from None


def _seq(message: Message) -> int:
    return message.seq
