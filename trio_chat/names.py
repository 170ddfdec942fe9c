"""Names of people and groups: what may be one, which are the same, and which look the same. Pure.

A name is stored as it was given. Two things are made of it beside: its *canonical* form, in which capitals, widths of
characters and ways to write an accent do not matter (PRECIS: RFC 8265 for people, RFC 8266 for groups), and its
*skeletons*, which are equal where a reader could take one name for the other (Unicode's UTS 39). Why both:
docs/decisions/0010-names-that-look-alike.md.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib import resources

import attrs
import precis_i18n
from precis_i18n.profile import Profile

from trio_chat.errors import BadRequest

__all__ = [
    "DELETED",
    "Forms",
    "check_group_name",
    "check_user_name",
    "group_forms",
    "password_forms",
    "prepare_password",
    "user_forms",
]

#: How the name of an account begins that was deleted; nobody else can have such a name.
DELETED = "deleted user"

_USERNAME = precis_i18n.get_profile("UsernameCaseMapped")
_NICKNAME = precis_i18n.get_profile("Nickname")
_OPAQUE = precis_i18n.get_profile("OpaqueString")

#: What PRECIS calls its rules, in words.
_REASONS = {
    "spaces": "a blank of another kind than the common one",
    "symbols": "a symbol",
    "punctuation": "this punctuation mark",
    "has_compat": "a character that is only another form of common ones",
    "controls": "a control character",
    "precis_ignorable_properties": "a character that cannot be seen",
    "zero_width_joiner": "a character that cannot be seen",
    "bidi_rule": "writing from the left and from the right in one word",
    "unassigned": "a character that Unicode does not know",
    "old_hangul_jamo": "an old Hangul letter",
    "other": "a character of this kind",
}


@attrs.frozen
class Forms:
    """What a name is compared by: digests, each of 32 bytes, so that a deleted account's name can stay taken untold."""

    canonical: bytes
    skeletons: frozenset[bytes]


def check_user_name(field: str, name: str) -> None:
    """Raise `BadRequest`, which says why, where nobody may register under this name."""
    _check_blanks(field, name)
    for part in name.split():
        _enforce(_USERNAME, field, part)
    if skeleton(name).startswith(skeleton(DELETED)):
        raise BadRequest(f"{field}: begins like the name of a deleted account", field=field)


def check_group_name(field: str, name: str) -> None:
    """Raise `BadRequest`, which says why, where no new group may have this name."""
    _check_blanks(field, name)
    _enforce(_NICKNAME, field, name)


def user_forms(name: str) -> Forms:
    """What the name of an account is compared by; also one that could not be registered today."""
    return _forms(name, lambda text: " ".join(_USERNAME.enforce(part) for part in text.split()))


def group_forms(name: str) -> Forms:
    """What the name of a group is compared by; also one that could not be given today."""
    return _forms(name, _NICKNAME.enforce)


def prepare_password(field: str, password: str, shortest: int) -> str:
    """A new password as it is hashed: the same, however a keyboard wrote its accents and blanks.

    Raises `BadRequest` where it has fewer than `shortest` characters, or some that cannot be typed again.
    """
    prepared = _enforce(_OPAQUE, field, password)
    if len(prepared) < shortest:
        raise BadRequest(f"{field}: has {len(prepared)} characters, at least {shortest} are wanted", field=field)
    return prepared


def password_forms(password: str) -> list[str]:
    """What may have been hashed for this password: its prepared form, and the text itself, as it was done once."""
    try:
        return list(dict.fromkeys((_OPAQUE.enforce(password), password)))
    except UnicodeEncodeError:
        return [password]


def _check_blanks(field: str, name: str) -> None:
    if name != name.strip() or not name.isprintable():
        raise BadRequest(f"{field}: has blanks around it or characters that cannot be printed", field=field)


def _enforce(profile: Profile, field: str, text: str) -> str:
    try:
        return profile.enforce(text)
    except UnicodeEncodeError as error:
        rule = error.reason.rpartition("/")[2]
        character = "" if rule == "bidi_rule" else f": U+{ord(text[error.start]):04X}"
        reason = _REASONS.get(rule, "what it may not have")
        raise BadRequest(f"{field}: has {reason}{character}", field=field) from None


def _forms(name: str, canonicalise: Callable[[str], str]) -> Forms:
    try:
        canonical = canonicalise(name)
    except UnicodeEncodeError:  # a name from before there were rules
        canonical = _fold(name)
    # A capital I looks like a small l only as long as it is a capital, so the name as it is counts too.
    skeletons = {skeleton(canonical), skeleton(unicodedata.normalize("NFKC", name))}
    return Forms(_digest(canonical), frozenset(_digest(text) for text in skeletons))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFKC", text).casefold().split()))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def skeleton(text: str) -> str:
    """A text that all those have that look like it, in capitals or not: UTS 39's, from its table of confusables."""
    table = _confusables()
    mapped = "".join(table.get(character, character) for character in unicodedata.normalize("NFD", text))
    return _fold(mapped)


@cache
def _confusables() -> dict[str, str]:
    """For each character the one, or those, that stand for all that look like it.

    The library keeps Unicode's table without direction, A like B and B like A. What looks alike is a group there; any
    of the group may stand for it, as long as it is always the same.
    """
    text = resources.files("confusable_homoglyphs").joinpath("confusables.json").read_text(encoding="utf-8")
    pairs: dict[str, list[dict[str, str]]] = json.loads(text)
    # The table marks what is written from the right.
    alike = {_bare(key): [_bare(each["c"]) for each in others] for key, others in pairs.items()}
    chosen: dict[str, str] = {}
    for character in alike:
        if len(character) == 1 and character not in chosen:
            group = _group(character, alike)
            longer = [other for member in sorted(group) for other in alike[member] if len(other) > 1]
            chosen |= dict.fromkeys(group, longer[0] if longer else min(group))
    return {each: "".join(chosen.get(part, part) for part in stands) for each, stands in chosen.items()}


def _group(character: str, alike: dict[str, list[str]]) -> set[str]:
    group, found = set(), [character]
    while found:
        one = found.pop()
        if one not in group:
            group.add(one)
            found += [other for other in alike.get(one, ()) if len(other) == 1]
    return group


def _bare(text: str) -> str:
    return text.strip("\u200e\u200f")
