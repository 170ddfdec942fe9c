"""The classic dialect's own rules: lists of JSON strings, and frames that fit a client's fixed buffer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind, encode

__all__ = ["BUFFER", "fit_login_ack", "login_ack", "split_delivery"]

#: What the existing clients receive into, in bytes: a longer frame kills them.
BUFFER = 1024


def _texts(items: Sequence[dict[str, Any]]) -> list[str]:
    return [encode(item).decode() for item in items]


def login_ack(
    userid: int,
    name: str,
    friends: Sequence[dict[str, Any]],
    groups: Sequence[dict[str, Any]],
    offline: Sequence[Delivery],
) -> bytes:
    """LOGIN_ACK as the family's clients read it: lists of strings, each a JSON object; an empty list is left out."""
    ack: dict[str, Any] = {"msgid": int(Kind.LOGIN_ACK), "errno": 0, "id": userid, "name": name}
    if friends:
        ack["friends"] = _texts(friends)
    if groups:
        ack["groups"] = _texts([{**group, "users": _texts(group["users"])} for group in groups])
    if offline:
        ack["offlinemsg"] = [message.classic().decode() for message in offline]
    return encode(ack)


def fit_login_ack(
    userid: int,
    name: str,
    friends: Sequence[dict[str, Any]],
    groups: Sequence[dict[str, Any]],
    offline: Sequence[Delivery],
    limit: int,
) -> tuple[bytes, int]:
    """LOGIN_ACK within `limit` bytes, and how many of the offline messages are in it.

    Offline messages that do not fit are left to follow as frames of their own; then members of groups, then groups and
    friends are left out from the end.
    """

    def count_that_fits(most: int, make: Any) -> int:
        """The greatest count from 0 to `most` whose frame fits; frames only grow with the count."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if len(make(middle)) <= limit:
                low = middle
            else:
                high = middle - 1
        return low

    def with_offline(count: int) -> bytes:
        return login_ack(userid, name, friends, groups, offline[:count])

    if len(with_offline(0)) <= limit:
        count = count_that_fits(len(offline), with_offline)
        return with_offline(count), count

    members = sum(len(group["users"]) for group in groups)

    def with_members(count: int) -> bytes:
        return login_ack(userid, name, friends, _first_members(groups, count), ())

    def with_groups(count: int) -> bytes:
        return login_ack(userid, name, friends, _first_members(groups[:count], 0), ())

    def with_friends(count: int) -> bytes:
        return login_ack(userid, name, friends[:count], (), ())

    if len(with_members(0)) <= limit:
        return with_members(count_that_fits(members, with_members)), 0
    if len(with_groups(0)) <= limit:
        return with_groups(count_that_fits(len(groups), with_groups)), 0
    return with_friends(count_that_fits(len(friends), with_friends)), 0


def _first_members(groups: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The groups with the first `count` of their members, counted over all groups."""
    kept = []
    for group in groups:
        users = group["users"][:count]
        count -= len(users)
        kept.append({**group, "users": users})
    return kept


def split_delivery(message: Delivery, limit: int) -> list[bytes]:
    """The message's classic frame; in several, each with the next part of the text, where one would be over `limit`."""
    whole = message.classic()
    if len(whole) <= limit:
        return [whole]
    room = limit - (len(whole) - len(encode(message.msg)) + 2)
    if room < 16:
        # A sender's own `time` (or name) is too long for such a client: it goes first, the text stays.
        message = attrs.evolve(message, time=message.time[:19], classic=None)
        room = limit - (len(message.classic()) - len(encode(message.msg)) + 2)
    parts = []
    start = 0
    text = message.msg
    while start < len(text):
        end, size = start, 0
        while end < len(text) and size + (step := len(encode(text[end])) - 2) <= room:
            size += step
            end += 1
        end = max(end, start + 1)
        parts.append(text[start:end])
        start = end
    return [encode({**message.classic_fields(), "msg": part}) for part in parts]
