"""The logins of an account: listing and ending them, and changing the password."""

from __future__ import annotations

from typing import Any

from trio_chat.errors import BadCredentials, NoSuchLogin
from trio_chat.services.accounts import AccountService
from trio_chat.services.tokens import digest_of, now_ms
from trio_chat.store.logins import Logins

__all__ = ["LoginService", "login_id"]

#: So much of a token's digest is the public name of its login: nothing of the token can be learnt from it.
_ID_BYTES = 8


class LoginService:
    """All may raise `Unavailable`; cancelling is safe. Whoever ends logins tells `Endings` afterwards."""

    def __init__(self, logins: Logins, accounts: AccountService) -> None:
        self._logins = logins
        self._accounts = accounts

    async def of(self, userid: int, current: str | None) -> list[dict[str, Any]]:
        """An account's logins as on the wire, the latest used first; `current` is the token that one asks with."""
        mine = digest_of(current) if current is not None else None
        return [
            {
                "login": record.digest[:_ID_BYTES].hex(),
                "created": record.created,
                "used": record.used,
                "expires": record.expires,
                "client": record.client,
                "address": record.address,
                "current": record.digest == mine,
            }
            for record in await self._logins.of(userid, now_ms())
        ]

    async def change_password(self, userid: int, password: str, new: str, current: str | None, place: str = "") -> int:
        """Set a new password and end all logins but that of the token `current`. Returns the account's new epoch.

        Guessing the present one is delayed as at a login from `place`.

        Raises `BadCredentials` where `password` is not the present one, `BadRequest`, `RateLimited`.
        """
        prepared = self._accounts.prepare("newpassword", new)
        account = await self._accounts.prove(userid, password, place)
        hashed = await self._accounts.hash(prepared)
        keep = digest_of(current) if current is not None else None
        epoch = await self._logins.change_password(userid, account.epoch, hashed, keep)
        if epoch is None:
            raise BadCredentials
        return epoch

    async def revoke(self, userid: int, login: str) -> None:
        """End one login. Raises `NoSuchLogin`."""
        if not await self._logins.revoke(userid, bytes.fromhex(login)):
            raise NoSuchLogin

    async def end_all(self, userid: int) -> None:
        """End all logins of an account."""
        await self._logins.end_all(userid)


def login_id(token: str) -> str:
    """What the login of this token is called in LOGINS."""
    return digest_of(token)[:_ID_BYTES].hex()
