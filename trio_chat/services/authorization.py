"""Who may do what: the one place that decides, and the table that says what each kind of request needs.

- A conversation is its parties' alone: the two users, or who is in the group now. To everybody else every request
  about it is refused, in the same way whether anything is in it or not, and before anything of it is read.
- What must not wait is answered from memory: `LocalAccount.groups` and `.apart`. The router keeps both; a membership ends
  there with its end in the database on this node, and on the others at once by the bus or within seconds by the look.
- Two users of whom one has blocked the other are apart, either way round: they write each other nothing, put each other
  on no list, and are told nothing of each other's presence, typing and reading. In groups they meet as everybody does.
- That a user or a group exists, and what either is called, is no secret: adding friends and joining need it.

`commands.py` asks by the rule of each row before it does a request; a row without a rule cannot be made.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from trio_chat.errors import BadRequest, Forbidden, NotAMember
from trio_chat.store.groups import Groups
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.messages import Direct, Group

if TYPE_CHECKING:
    from trio_chat.router import LocalAccount, Router

__all__ = ["Authorization", "Rule"]


class Rule(Enum):
    """What a kind of request needs, beside the state that the session's table asks for."""

    NOTHING = "it is about nobody else's conversation and nobody else"
    OWN = "it is about the account itself, and what is the account's by the database"
    PUBLIC = "what is known to everybody who is logged in"
    WRITER = "to be in the group, or not apart from the other one: `toid`, `groupid`"
    PARTY = "to be in the conversation: `conv`, where there is one"
    MEMBER = "to be in the group: `groupid`; the database decides with the change"
    CREATOR = "to be the creator of the group: `groupid`; the database decides with the change"
    TOGETHER = "not to be apart from the user: `friendid`"


class Authorization:
    """Those that await may raise `Unavailable`; cancelling is safe."""

    def __init__(self, groups: Groups, router: Router) -> None:
        self._groups = groups
        self._router = router

    async def check(self, rule: Rule, account: LocalAccount | None, request: Any) -> None:
        """Raise `NotAMember`, `NoSuchGroup`, `Forbidden` or `BadRequest` where the account may not ask for this."""
        if account is None:
            return
        match rule:
            case Rule.PARTY:
                if request.conv is not None:
                    await self.check_party(account, request.conv)
            case Rule.WRITER:
                if not self.may_write(account, request) and isinstance(request, Group):
                    await self.check_member(account, request.groupid)
            case Rule.TOGETHER:
                self.check_together(account, request.friendid)
            case Rule.NOTHING | Rule.OWN | Rule.PUBLIC | Rule.MEMBER | Rule.CREATOR:
                pass

    # -- from memory --------------------------------------------------------------------------------------------------

    def may_write(self, account: LocalAccount, request: Direct | Group) -> bool:
        """Whether the account may send this message, as far as is known here. Raises `Forbidden`.

        Where not, the database may know better: `check` asks it.
        """
        if isinstance(request, Group):
            return request.groupid in account.groups
        if request.toid in account.apart:
            raise Forbidden(_APART)
        return True

    def is_party(self, account: LocalAccount, conv: str) -> bool:
        """Whether the account is known here to be in the conversation; `check_party` asks the database too."""
        try:
            parties = parse_conv(conv)
        except ValueError:
            return False
        return parties.groupid in account.groups or account.id in (parties.users or ())

    def check_together(self, account: LocalAccount, userid: int) -> None:
        """Raise `Forbidden` where either has blocked the other."""
        if userid in account.apart:
            raise Forbidden(_APART)

    def may_see_peer(self, account: LocalAccount, conv: str) -> bool:
        """Whether the account is to know how far the other one in a conversation of two has received and read."""
        return account.apart.isdisjoint(parse_conv(conv).users or ())

    def state(self, account: LocalAccount, userid: int, state: str) -> str:
        """What the account is to know of another user's presence."""
        return "offline" if userid in account.apart else state

    # -- from the database --------------------------------------------------------------------------------------------

    async def check_party(self, account: LocalAccount, conv: str) -> None:
        """Raise `NotAMember`, `NoSuchGroup` or `BadRequest` where the account is not in the conversation."""
        try:
            parties = parse_conv(conv)
        except ValueError:
            raise BadRequest("conv: is not d:LOW:HIGH or g:GROUPID", field="conv") from None
        if parties.groupid is not None:
            await self.check_member(account, parties.groupid)
        elif account.id not in (parties.users or ()):
            raise NotAMember

    async def check_member(self, account: LocalAccount, groupid: int) -> None:
        """Raise `NotAMember` or `NoSuchGroup` where the account is not in the group, known here or not."""
        if groupid in account.groups:
            return
        if not await self._groups.membership(account.id, groupid):
            raise NotAMember("you are not in this group")
        if not await self._router.find_membership(account.id, groupid):
            raise NotAMember("you are not in this group")

    async def is_member(self, account: LocalAccount, groupid: int) -> bool:
        """Whether the account is in the group. Raises `NoSuchGroup`."""
        return await self._groups.membership(account.id, groupid)


_APART = "one of you has blocked the other"
