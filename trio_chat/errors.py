"""Every error that the server raises on purpose, with the number and the name that clients see.

The tree:

    ChatError                       something a client or an operator is told about
    ├── RequestError                a request failed; carries its answer on the wire
    │   ├── BadFrame                100  the frame is not one of the protocol's
    │   ├── BadRequest              101  a field is missing, of the wrong type or out of range
    │   ├── UnknownKind             102
    │   ├── NotLoggedIn             103
    │   ├── AlreadyLoggedIn         104
    │   ├── LoginRevoked            105  said without a request; then the connection ends
    │   ├── BadCredentials          1    classic number; LOGIN only
    │   ├── NameTaken               1    classic number; REGISTER only
    │   ├── AccountInUse            2    classic number; a classic LOGIN only
    │   ├── NoSuchUser              110
    │   ├── NoSuchGroup             111
    │   ├── NotAMember              112
    │   ├── AlreadyExists           113
    │   ├── Forbidden               114
    │   ├── NoSuchLogin             115
    │   ├── RegistrationClosed      116
    │   ├── BadInvitation           117
    │   ├── TooLarge                120
    │   ├── RateLimited             121  with retry_after, in seconds
    │   ├── Unavailable             130  the database cannot be reached
    │   ├── ShuttingDown            131
    │   └── Internal                500  a defect of the server; the log has its traceback
    └── StartupError                the server cannot start; the text says what to do

A handler just raises the error it means; `connection.py` is the one place that turns it into an answer.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccountInUse",
    "AlreadyExists",
    "AlreadyLoggedIn",
    "BadCredentials",
    "BadFrame",
    "BadInvitation",
    "BadRequest",
    "ChatError",
    "Forbidden",
    "Internal",
    "LoginRevoked",
    "NameTaken",
    "NoSuchGroup",
    "NoSuchLogin",
    "NoSuchUser",
    "NotAMember",
    "NotLoggedIn",
    "RateLimited",
    "RegistrationClosed",
    "RequestError",
    "ShuttingDown",
    "StartupError",
    "TooLarge",
    "Unavailable",
    "UnknownKind",
    "startup_error",
]


class ChatError(Exception):
    """Base of all errors that are raised on purpose."""


class StartupError(ChatError):
    """The server cannot start; the text tells the operator what to do about it."""


class RequestError(ChatError):
    """A request failed.

    `errno` and `error` are the number and the stable name on the wire, `errmsg` the text for people. `limit` is the
    setting that was reached, where one was.
    """

    errno: ClassVar[int]
    error: ClassVar[str]
    default: ClassVar[str]

    limit = ""

    def __init__(self, errmsg: str = "") -> None:
        self.errmsg = errmsg or self.default
        super().__init__(self.errmsg)

    def fields(self) -> dict[str, object]:
        """The fields that describe this error in an answer."""
        return {"errno": self.errno, "error": self.error, "errmsg": self.errmsg}


class BadFrame(RequestError):
    errno, error, default = 100, "bad_frame", "a frame is one JSON object with an integer msgid"


class BadRequest(RequestError):
    """`field` names the field that is wrong; the text does too."""

    errno, error, default = 101, "bad_request", "a field is missing, of the wrong type or out of range"

    def __init__(self, errmsg: str = "", field: str = "") -> None:
        self.field = field
        super().__init__(errmsg)


class UnknownKind(RequestError):
    errno, error, default = 102, "unknown_kind", "there is no such msgid"


class NotLoggedIn(RequestError):
    errno, error, default = 103, "not_logged_in", "log in first"


class AlreadyLoggedIn(RequestError):
    errno, error, default = 104, "already_logged_in", "this connection is logged in; log out first"


class LoginRevoked(RequestError):
    errno, error, default = 105, "login_revoked", "this login was ended; log in again"


class BadCredentials(RequestError):
    errno, error, default = 1, "bad_credentials", "id or password is invalid!"


class NameTaken(RequestError):
    errno, error, default = 1, "name_taken", "this name is taken, choose another"


class AccountInUse(RequestError):
    errno, error, default = 2, "account_in_use", "this account is using, input another!"


class NoSuchUser(RequestError):
    errno, error, default = 110, "no_such_user", "there is no user of this id"


class NoSuchGroup(RequestError):
    errno, error, default = 111, "no_such_group", "there is no group of this id"


class NotAMember(RequestError):
    errno, error, default = 112, "not_a_member", "you are not in this conversation"


class AlreadyExists(RequestError):
    errno, error, default = 113, "already_exists", "this exists already"


class Forbidden(RequestError):
    """Not allowed, to this user or to anybody any more; `limit` where there are as many as may be."""

    errno, error, default = 114, "forbidden", "this is not allowed"

    def __init__(self, errmsg: str = "", *, limit: str = "") -> None:
        self.limit = limit
        super().__init__(errmsg)


class NoSuchLogin(RequestError):
    errno, error, default = 115, "no_such_login", "there is no such login of yours"


class RegistrationClosed(RequestError):
    errno, error, default = 116, "registration_closed", "nobody can register here; ask whoever runs this server"


class BadInvitation(RequestError):
    errno, error, default = 117, "bad_invitation", "registering here takes an invitation that is valid"


class TooLarge(RequestError):
    errno, error, default = 120, "too_large", "this is over the size limit"

    def __init__(self, errmsg: str = "", *, limit: str = "") -> None:
        self.limit = limit
        super().__init__(errmsg)


class RateLimited(RequestError):
    """Too many requests; `retry_after` says in how many seconds to try again."""

    errno, error, default = 121, "rate_limited", "too many requests, try again later"

    def __init__(self, retry_after: float, errmsg: str = "", *, limit: str = "") -> None:
        self.retry_after = retry_after
        self.limit = limit
        super().__init__(errmsg)

    def fields(self) -> dict[str, object]:
        return {**super().fields(), "retry_after": self.retry_after}


class Unavailable(RequestError):
    errno, error = 130, "unavailable"
    default = "the database cannot be reached, nothing was stored; try again with the same key"


class ShuttingDown(RequestError):
    errno, error, default = 131, "shutting_down", "this server is shutting down; connect again"


class Internal(RequestError):
    errno, error, default = 500, "internal", "the server failed on this request; its log has the details"


def startup_error(group: BaseExceptionGroup[StartupError]) -> StartupError:
    """The first one in a group, which may hold others: what an operator should look at first."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StartupError)
    return error
