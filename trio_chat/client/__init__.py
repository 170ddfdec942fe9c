"""The client library, for programs on asyncio and on Trio; the terminal client and the scenario player beside it.

Start at `connect`.
"""

from __future__ import annotations

from trio_chat.client.chat import Chat, connect
from trio_chat.client.errors import (
    ChatClosed,
    ClientError,
    ConnectionLost,
    NotReachable,
    OtherFailure,
    ProtocolViolation,
)
from trio_chat.client.model import (
    Connected,
    Conversation,
    Disconnected,
    Event,
    ExportPage,
    Friend,
    Group,
    Login,
    Member,
    Message,
    Page,
    Person,
    PresenceChanged,
    ReadBy,
    ReceivedBy,
    RemovedFrom,
    Sent,
    SignedOut,
    TypingBy,
    User,
)
from trio_chat.client.options import Options

__all__ = [
    "Chat",
    "ChatClosed",
    "ClientError",
    "Connected",
    "ConnectionLost",
    "Conversation",
    "Disconnected",
    "Event",
    "ExportPage",
    "Friend",
    "Group",
    "Login",
    "Member",
    "Message",
    "NotReachable",
    "Options",
    "OtherFailure",
    "Page",
    "Person",
    "PresenceChanged",
    "ProtocolViolation",
    "ReadBy",
    "ReceivedBy",
    "RemovedFrom",
    "Sent",
    "SignedOut",
    "TypingBy",
    "User",
    "connect",
]
