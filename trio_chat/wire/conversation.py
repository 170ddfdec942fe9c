"""Names of conversations: `d:LOW:HIGH` between two users, `g:GROUPID` in a group."""

from __future__ import annotations

import attrs

__all__ = ["Parties", "direct_conv", "group_conv", "parse_conv"]


def direct_conv(one: int, other: int) -> str:
    """The conversation between two users, the same from either side (and `d:5:5` with oneself)."""
    return f"d:{one}:{other}" if one <= other else f"d:{other}:{one}"


def group_conv(groupid: int) -> str:
    return f"g:{groupid}"


@attrs.frozen
class Parties:
    """Who is in a conversation: the two `users`, or the members of `groupid`."""

    users: tuple[int, int] | None
    groupid: int | None


def parse_conv(conv: str) -> Parties:
    """Take a conversation's name apart. Raises `ValueError` where it is not one."""
    kind, *ids = conv.split(":")
    numbers = [int(number) for number in ids]
    if kind == "g" and len(numbers) == 1:
        return Parties(None, numbers[0])
    if kind == "d" and len(numbers) == 2 and numbers[0] <= numbers[1]:
        return Parties((numbers[0], numbers[1]), None)
    raise ValueError(f"not a conversation: {conv!r}")
