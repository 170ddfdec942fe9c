"""Accounts: registering, logging in by password or token, friends."""

from __future__ import annotations

import hashlib
import secrets
import time

import attrs

from trio_chat.errors import BadCredentials, BadRequest, NoSuchUser
from trio_chat.services.passwords import PasswordHasher
from trio_chat.session import Identity
from trio_chat.store.accounts import Accounts, Friend
from trio_chat.wire.messages import Login

__all__ = ["AccountService", "Credentials"]

_DAY_MS = 86_400_000


@attrs.frozen
class Credentials:
    """Who has proven to be whom; `token` is the secret he proved it with, if it was one."""

    identity: Identity
    token: str | None


class AccountService:
    """All may raise `Unavailable`; cancelling is safe."""

    def __init__(self, accounts: Accounts, passwords: PasswordHasher, *, token_days: float) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._token_ms = int(token_days * _DAY_MS)

    async def register(self, name: str, password: str) -> int:
        """Make an account and return its id. Raises `NameTaken`, `BadRequest`, `RateLimited`."""
        check_name("name", name)
        hashed = await self._passwords.hash(password)
        return await self._accounts.register(name, hashed)

    async def authenticate(self, login: Login) -> Credentials:
        """Find out who logs in; a token is renewed by that. Raises `BadCredentials`, `BadRequest`, `RateLimited`."""
        if login.token is not None:
            now = _now()
            account = await self._accounts.use_token(_digest(login.token), now + self._token_ms, now)
            if account is None:
                raise BadCredentials("this token is not valid; log in with the password")
            return Credentials(Identity(account.id, account.name), login.token)
        if login.id is None and login.name is None:
            raise BadRequest("id: is missing", field="id")
        if login.password is None:
            raise BadRequest("password: is missing", field="password")
        candidate = None
        if login.id is not None:
            candidate = await self._accounts.by_id(login.id)
        elif login.name is not None and len(login.name) <= 50:
            candidate = await self._accounts.by_name(login.name)
        correct = await self._passwords.verify(candidate.password if candidate else None, login.password)
        if candidate is None or not correct:
            raise BadCredentials
        return Credentials(Identity(candidate.id, candidate.name), None)

    async def make_token(self, userid: int) -> str:
        """A new secret that logs this account in. The database keeps only its digest."""
        token, now = secrets.token_urlsafe(32), _now()
        await self._accounts.keep_token(_digest(token), userid, now + self._token_ms, now)
        return token

    async def revoke_token(self, token: str) -> None:
        await self._accounts.revoke_token(_digest(token))

    async def friends(self, userid: int) -> list[Friend]:
        return await self._accounts.friends(userid)

    async def add_friend(self, userid: int, friendid: int) -> Friend:
        """Put a user on another's list. Raises `NoSuchUser`, `AlreadyExists`, `BadRequest`."""
        if friendid == userid:
            raise BadRequest("friendid: is your own id", field="friendid")
        return await self._accounts.add_friend(userid, friendid)

    async def find(self, name: str) -> Friend:
        """Who has exactly this name. Raises `NoSuchUser`."""
        found = await self._accounts.find(name)
        if found is None:
            raise NoSuchUser("there is no user of this name")
        return found

    async def exists(self, userid: int) -> bool:
        return await self._accounts.by_id(userid) is not None


def check_name(field: str, name: str) -> None:
    """Raise `BadRequest` where a name has blanks around it or characters that cannot be seen."""
    if name != name.strip() or not name.isprintable():
        raise BadRequest(f"{field}: has blanks around it or characters that cannot be printed", field=field)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _now() -> int:
    return time.time_ns() // 1_000_000
