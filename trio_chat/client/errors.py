"""What can go wrong for a client program.

The tree:

    ChatError
    ├── RequestError              the server refused a request; the same classes as on the server, see `trio_chat.errors`
    │   └── OtherFailure          a refusal that this version of the library has no class for
    └── ClientError
        ├── NotReachable          no server could be connected to, at the first attempt
        ├── ConnectionLost        the connection broke before the answer came
        │   └── ProtocolViolation the server sent what the protocol does not allow
        └── ChatClosed            the `async with connect(...)` block has been left

A refusal tells that the request was not carried out. After `ConnectionLost` that is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_chat import errors
from trio_chat.backoff import Backoff
from trio_chat.errors import BadRequest, ChatError, RateLimited, RequestError, ShuttingDown, Unavailable
from trio_chat.wire.messages import Kind

__all__ = [
    "PUT_OFF",
    "ChatClosed",
    "ClientError",
    "ConnectionLost",
    "NotReachable",
    "OtherFailure",
    "ProtocolViolation",
    "refusal",
    "wait_after",
]


#: The refusals after which the same request may well succeed.
PUT_OFF = (Unavailable, RateLimited, ShuttingDown)

#: No server is believed that wants to be left alone for longer, in seconds.
_LONGEST_WAIT = 3600.0


class ClientError(ChatError):
    """Base of the errors that arise in the client, not in the server."""


class NotReachable(ClientError):
    """No server accepted the connection.

    `attempts` has, for each address that was tried, why it failed.
    """

    def __init__(self, attempts: Mapping[str, str]) -> None:
        self.attempts = dict(attempts)
        tried = "; ".join(f"{address}: {reason}" for address, reason in self.attempts.items())
        super().__init__(f"no chat server could be reached ({tried})")


class ConnectionLost(ClientError):
    """The connection broke; a request that was under way may or may not have been carried out.

    `reason` says what was noticed, `request` which request was under way (`None`: none in particular).
    """

    def __init__(self, reason: str, request: Kind | None = None) -> None:
        self.reason = reason
        self.request = request
        under_way = "" if request is None else f": {request.name} may or may not have been carried out"
        super().__init__(f"the connection was lost ({reason}){under_way}")


class ProtocolViolation(ConnectionLost):
    """The server sent what the protocol does not allow; the connection cannot be trusted any more."""


class ChatClosed(ClientError):
    """The `async with connect(...)` block has been left."""

    def __init__(self) -> None:
        super().__init__("this chat is closed: its `async with` block has been left")


class OtherFailure(RequestError):
    """A refusal that this version of the library has no class for: see `number` and `name`."""

    errno, error, default = 0, "other", "the server refused this request"

    def __init__(self, number: int, name: str, errmsg: str = "") -> None:
        self.number = number
        self.name = name
        super().__init__(errmsg)

    def fields(self) -> dict[str, object]:
        return {"errno": self.number, "error": self.name, "errmsg": self.errmsg}


#: Classes by their name on the wire; the two that carry data of their own are made in `refusal`.
_BY_NAME: dict[str, type[RequestError]] = {
    failure.error: failure
    for failure in (
        errors.BadFrame,
        errors.UnknownKind,
        errors.NotLoggedIn,
        errors.AlreadyLoggedIn,
        errors.LoginRevoked,
        errors.BadCredentials,
        errors.NameTaken,
        errors.AccountInUse,
        errors.NoSuchUser,
        errors.NoSuchGroup,
        errors.NotAMember,
        errors.AlreadyExists,
        errors.Forbidden,
        errors.NoSuchLogin,
        errors.RegistrationClosed,
        errors.BadInvitation,
        errors.TooLarge,
        errors.Unavailable,
        errors.ShuttingDown,
        errors.Internal,
    )
}

#: For answers that carry no name. Number 1 means two things, so the request's kind decides.
_BY_NUMBER: dict[int, str] = {failure.errno: name for name, failure in _BY_NAME.items() if failure.errno != 1} | {
    BadRequest.errno: BadRequest.error,
    RateLimited.errno: RateLimited.error,
}


def refusal(answer: Mapping[str, Any], request: Kind) -> RequestError | None:
    """The error that an answer to a `request` tells of, or `None` where it tells of success."""
    number = answer.get("errno", 0)
    if not isinstance(number, int) or number == 0:
        return None
    text = _text(answer, "errmsg")
    name = _text(answer, "error") or _BY_NUMBER.get(number, "")
    if not name and number == 1:
        name = errors.NameTaken.error if request is Kind.REGISTER else errors.BadCredentials.error
    if name == BadRequest.error:
        field, colon, _ = text.partition(":")
        return BadRequest(text, field if colon and field.isidentifier() else "")
    if name == RateLimited.error:
        wait = answer.get("retry_after")
        return RateLimited(min(max(wait, 0.0), _LONGEST_WAIT) if isinstance(wait, (int, float)) else 1.0, text)
    known = _BY_NAME.get(name)
    return OtherFailure(number, name, text) if known is None else known(text)


def wait_after(error: RequestError, backoff: Backoff) -> float:
    """How long to wait after a refusal, in seconds: a little more than what the server asks for, else a pause."""
    if isinstance(error, RateLimited):
        return error.retry_after * (1 + 0.1 * backoff.draw())
    return backoff.pause()


def _text(answer: Mapping[str, Any], field: str) -> str:
    value = answer.get(field)
    return value if isinstance(value, str) else ""
