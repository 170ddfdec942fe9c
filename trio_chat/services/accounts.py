"""Accounts: registering, logging in by password or token, friends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import attrs

from trio_chat.address import network_of
from trio_chat.errors import BadCredentials, BadRequest, NoSuchUser
from trio_chat.names import check_user_name, password_forms, prepare_password
from trio_chat.services.guessing import LoginGuard
from trio_chat.services.invitations import Invitations
from trio_chat.services.passwords import PasswordHasher
from trio_chat.services.tokens import Origin, digest_of, make_token, now_ms
from trio_chat.session import Identity
from trio_chat.store.accounts import Account, Accounts, Friend, TokenUse
from trio_chat.wire.messages import Login, Register

__all__ = ["AccountService", "Credentials"]

_DAY_MS = 86_400_000


@attrs.frozen
class Credentials:
    """Who has proven to be whom; `token` is the secret he proved it with, if it was one.

    `epoch` is how often all logins of the account had been ended by then.
    """

    identity: Identity
    token: str | None
    epoch: int


class AccountService:
    """All may raise `Unavailable`; cancelling is safe. New passwords have at least `shortest` characters."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: PasswordHasher,
        *,
        token_days: float,
        guard: LoginGuard | None = None,
        registration: str = "open",
        shortest: int = 1,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._guard = guard
        self._invitations = Invitations(registration)
        self._shortest = shortest
        self._token_ms = int(token_days * _DAY_MS)

    async def register(self, request: Register, place: str = "") -> int:
        """Make an account for somebody at `place` and return its id.

        Raises `RegistrationClosed`, `BadInvitation`, `NameTaken`, `BadRequest`, `RateLimited`.
        """
        invitation = self._invitations.check(request.invitation)
        check_user_name("name", request.name)
        prepared = self.prepare("password", request.password)
        async with nullcontext() if self._guard is None else self._guard.turn(place):
            hashed = await self.hash(prepared)
        return await self._accounts.register(request.name, hashed, invitation, now_ms())

    async def authenticate(self, login: Login, place: str = "") -> Credentials:
        """Find out who logs in with a password. Raises `BadCredentials`, `BadRequest`, `RateLimited`."""
        if login.id is None and login.name is None:
            raise BadRequest("id: is missing", field="id")
        if login.password is None:
            raise BadRequest("password: is missing", field="password")
        candidate = None
        if login.id is not None:
            candidate = await self._accounts.by_id(login.id)
        elif login.name is not None and len(login.name) <= 50:
            candidate = await self._accounts.by_name(login.name)
        # An account that there is not is treated as one that there is: it has its tries, and then its delays.
        who = f"#{candidate.id if candidate else login.id}" if candidate or login.id is not None else login.name or ""
        account = await self._proven(candidate, login.password, who, place)
        return Credentials(Identity(account.id, account.name), None, account.epoch)

    async def use_tokens(self, uses: Sequence[tuple[str, Origin]]) -> list[Credentials | None]:
        """Find out who logs in with these tokens, each at its place, and renew them; None for one that is not valid."""
        now = now_ms()
        accounts = await self._accounts.use_tokens(
            [TokenUse(digest_of(token), origin.client, origin.address) for token, origin in uses],
            now + self._token_ms,
            now,
        )
        return [
            None if account is None else Credentials(Identity(account.id, account.name), token, account.epoch)
            for account, (token, _) in zip(accounts, uses, strict=True)
        ]

    async def prove(self, userid: int, password: str, place: str = "") -> Account:
        """Whoever asks, at `place`, knows the account's password. Raises `BadCredentials`, `RateLimited`."""
        return await self._proven(await self._accounts.by_id(userid), password, f"#{userid}", place)

    async def _proven(self, account: Account | None, password: str, who: str, place: str) -> Account:
        """The account, where this is its password; with no account the refusal takes the same time."""
        hashed = account.password if account else None

        async def is_right() -> bool:
            for form in password_forms(password):
                if await self._passwords.verify(hashed, form):
                    return True
            return False

        async def is_known() -> bool:
            addresses = await self._accounts.token_addresses(account.id, now_ms()) if account else []
            return place in map(network_of, addresses)

        right = await (is_right() if self._guard is None else self._guard.check(who, place, is_right, is_known))
        if account is None or not right:
            raise BadCredentials
        return account

    def prepare(self, field: str, password: str) -> str:
        """A new password as it is hashed. Raises `BadRequest` where it will not do."""
        return prepare_password(field, password, self._shortest)

    async def hash(self, prepared: str) -> str:
        """Raises `RateLimited`."""
        return await self._passwords.hash(prepared)

    async def make_token(self, userid: int, epoch: int = 0, origin: Origin | None = None) -> str:
        """A new secret that logs this account in. The database keeps only its digest.

        Raises `BadCredentials` where all logins of the account were ended since `epoch`.
        """
        token, now, origin = make_token(), now_ms(), origin or Origin()
        if not await self._accounts.keep_token(
            digest_of(token), userid, epoch, now + self._token_ms, now, client=origin.client, address=origin.address
        ):
            raise BadCredentials
        return token

    async def revoke_token(self, token: str) -> None:
        await self._accounts.revoke_token(digest_of(token))

    async def add_friend(self, userid: int, friendid: int) -> Friend:
        """Put a user on another's list. Raises `NoSuchUser`, `AlreadyExists`, `BadRequest`."""
        if friendid == userid:
            raise BadRequest("friendid: is your own id", field="friendid")
        return await self._accounts.add_friend(userid, friendid)

    async def find(self, name: str) -> Friend:
        """Who has this name, in capitals or not. Raises `NoSuchUser`."""
        found = await self._accounts.find(name)
        if found is None:
            raise NoSuchUser("there is no user of this name")
        return found

    async def exists(self, userid: int) -> bool:
        return await self._accounts.by_id(userid) is not None
