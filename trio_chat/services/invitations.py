"""Who may register: everybody, nobody, or who has the code of an invitation."""

from __future__ import annotations

import hashlib
import secrets

from trio_chat.errors import BadInvitation, RegistrationClosed

__all__ = ["Invitations", "digest_of_code", "make_code"]

#: Letters and digits that nobody takes for each other, on paper or on the telephone.
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS, _LENGTH = 4, 5


class Invitations:
    """`registration` is the setting: `open`, `closed` or `invitation`."""

    def __init__(self, registration: str) -> None:
        self._registration = registration

    def check(self, code: str | None) -> bytes | None:
        """The digest of the invitation that a registration uses up, or None where it needs none.

        Raises `RegistrationClosed`, and `BadInvitation` where there is no code.
        """
        if self._registration == "open":
            return None
        if self._registration == "closed":
            raise RegistrationClosed
        if not code:
            raise BadInvitation
        return digest_of_code(code)


def make_code() -> str:
    """A new code: 99 bits, so nobody guesses one."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(_GROUPS)]
    return "-".join(groups)


def digest_of_code(code: str) -> bytes:
    """What the database keeps of a code, however it was typed: blanks, hyphens and capitals do not matter."""
    return hashlib.sha256("".join(code.replace("-", " ").split()).lower().encode()).digest()
