"""A stored message as it is delivered: encoded once per dialect, whatever the number of recipients."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from trio_chat.wire.messages import Kind, encode

__all__ = ["DeliveredFrame", "Delivery", "decode_delivery"]


_DIRECT, _GROUP = int(Kind.DIRECT), int(Kind.GROUP)


@attrs.define(eq=False)
class Delivery:
    """One message of a conversation.

    `ts` is the server's time in milliseconds since the epoch, `to` the receiving user's or the group's id, `time` what
    classic clients show. Encoded frames are kept: `modern` and `classic` are made on first use, without a terminator.
    """

    conv: str
    seq: int
    ts: int
    sender: int
    name: str
    to: int
    msg: str
    time: str
    key: str | None = None
    _modern: bytes | None = None
    _classic: bytes | None = None

    @property
    def is_group(self) -> bool:
        return self.conv[0] == "g"

    def fields(self) -> dict[str, Any]:
        """The modern frame's fields, as in HISTORY too."""
        fields: dict[str, Any] = self.classic_fields()
        fields["conv"] = self.conv
        fields["seq"] = self.seq
        fields["ts"] = self.ts
        if self.key is not None:
            fields["key"] = self.key
        return fields

    def is_own(self, userid: int) -> bool:
        """Whether it is the user's own message to others: his classic clients do not get it back."""
        return self.sender == userid and (self.is_group or self.to != userid)

    def classic_fields(self) -> dict[str, Any]:
        """The fields that every client of the family knows."""
        group = self.conv[0] == "g"
        return {
            "msgid": _GROUP if group else _DIRECT,
            "id": self.sender,
            "name": self.name,
            "groupid" if group else "toid": self.to,
            "msg": self.msg,
            "time": self.time,
        }

    def modern(self) -> bytes:
        """The modern frame without its terminator."""
        if self._modern is None:
            self._modern = encode(self.fields())
        return self._modern

    def classic(self) -> bytes:
        """The classic frame without its terminator."""
        if self._classic is None:
            self._classic = encode(self.classic_fields())
        return self._classic


class DeliveredFrame(msgspec.Struct):
    """A modern DIRECT or GROUP frame, or an entry of HISTORY, as it is read."""

    msgid: int
    conv: str
    seq: int
    ts: int
    id: int
    name: str
    msg: str
    time: str
    toid: int = 0
    groupid: int = 0
    key: str | None = None


_FRAME = msgspec.json.Decoder(DeliveredFrame)


def decode_delivery(frame: bytes) -> Delivery:
    """Read a modern DIRECT or GROUP frame back. Raises `msgspec.MsgspecError` or `UnicodeDecodeError` where it is none."""
    try:
        f = _FRAME.decode(frame)
    except RecursionError:
        raise msgspec.DecodeError("the frame is nested too deeply") from None
    return Delivery(f.conv, f.seq, f.ts, f.id, f.name, f.groupid or f.toid, f.msg, f.time, f.key, frame)
