"""Frames that a hostile client might send: structured, broken, and random; all of it follows from one seed.

A frame is made in one of the ways of `WAYS`, most often as a request of any kind whose fields are right or nearly so:
those get furthest into the server. What a frame is worth an answer is not said here: `answer_to` asks the decoder, which
knows no session and no database.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import attrs

from trio_chat.errors import RequestError
from trio_chat.wire.messages import REQUESTS, Kind, Ref, decode, open_envelope

__all__ = ["Frames", "Place", "answer_to", "decodes"]

INT64 = 2**63

#: Integers at every limit: of bytes, of SQL's types, of JavaScript, of what JSON libraries read into a double.
INTEGERS = sorted(
    {
        sign * (2**bits + step)
        for bits in (0, 7, 8, 15, 16, 31, 32, 53, 63, 64, 128)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
    | {10**18, 10**19, 10**100, 99_999}
)

#: Text that means something to a database, a log, a terminal, a template, a page, a path, or to whoever reads it.
TEXTS = [
    "",
    " ",
    "'",
    '"',
    "\\",
    "%",
    "_",
    "!",
    "?",
    ";",
    "--",
    "/*",
    "' OR '1'='1",
    "'; DROP TABLE Message; --",
    '" OR ""="',
    "\\' OR 1=1 -- ",
    "1); DELETE FROM User WHERE (1=1",
    "%s %(name)s {0} {name} %n",
    "${jndi:ldap://x/y}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "line\nlevel=error event=forged",
    'line\r\n{"event":"forged"}',
    "\x00",
    "\x1b[2J\x1b[31m",
    "\x7f\x80\x9f",
    "\u202e\u202dgnp.exe",
    "\u200b\u200d\u2060\ufeff",
    "e\u0301 \u00e9",
    "\u0430\u0440\u0440\u04cf\u0435",
    "\uff21\uff22\uff23",
    "\ufb00 \u00df \u0130 \u0131 \u017f",
    "\u0344" * 50,
    "a" + "\u0300" * 2000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff\ufffe\uffff",
    "\ud800",
    "\udfff\ud800",
    "\U0001d56c\U0001d589\U0001d592",
    "x" * 51,
    "x" * 65,
    "x" * 1025,
    "é" * 8192,
    "x" * 16384,
    "x" * 16385,
    "\U0001f600" * 4096,
    "d:1:2",
    "g:1",
    "d:2:1",
    "d:0:0",
    "g:00",
    "g:-1",
    "g:1 ",
    "g:1\n",
    "d:1:2:3",
    "g:999999999999999999",
    "d:1:9999999999999999999999",
    "g:\u0661",
]

#: JSON that is no value of Python's, or one that a careless reader chokes on.
RAW = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-0",
    b"-0.0",
    b"1e400",
    b"1E-400",
    b"0x10",
    b"01",
    b"+1",
    b".5",
    b"5.",
    b"1.0",
    b"1e0",
    b"9" * 400,
    b"-" + b"9" * 400,
    b"0." + b"1" * 400,
    b"true",
    b"null",
    b"undefined",
    b"'x'",
    b"[" * 200 + b"]" * 200,
    b"[" * 3000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"[" + b"1," * 3000 + b"1]",
    b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(1500)) + b"}",
    b'{"a":1,"a":2,"a":{"a":3}}',
    b'"\\ud83d"',
    b'"\\u0000"',
    b'"\\u000a{}"',
    b'"\\x41"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\xc0\xaf"',
    b"//",
    b"{}",
    b"[]",
    b'""',
]


@attrs.frozen
class Place:
    """What there is on the server, so that a frame can hit something: ids of users and groups, and names."""

    users: list[int]
    groups: list[int]
    names: list[str]


class Frames:
    """An endless supply of frames, without their terminators. `text` allows only what is UTF-8, as a WebSocket does."""

    def __init__(self, chance: random.Random, place: Place, *, text: bool = False) -> None:
        self._chance = chance
        self._place = place
        self._text = text
        self._ref = 0
        self._kinds = [kind for kind in REQUESTS for _ in range(_WEIGHTS.get(kind, 10))]
        self._ways: list[Callable[[], bytes]] = [
            *[self._right] * 40,
            *[self._nearly_right] * 30,
            *[self._raw_value] * 8,
            *[self._doubled] * 4,
            *[self._bent] * 12,
            *[self._some_json] * 3,
            *[self._noise] * 3,
        ]

    def next(self) -> bytes:
        """A frame that is not blank and has neither terminator in it."""
        while True:
            frame = self._chance.choice(self._ways)().replace(b"\n", b" ").replace(b"\0", b" ")
            if self._text:
                frame = frame.decode(errors="replace").encode()
            if frame.strip() and len(frame) <= 60_000:
                return frame

    # -- the ways -----------------------------------------------------------------------------------------------------

    def _right(self) -> bytes:
        return _encode(self._request())

    def _nearly_right(self) -> bytes:
        frame, chance = self._request(), self._chance
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            name = chance.choice([*frame, "conv", "seq", "id", "name", "token", "limit"])
            how = chance.random()
            if how < 0.15:
                frame.pop(name, None)
            else:
                frame[name] = self._anything()
        return _encode(frame)

    def _raw_value(self) -> bytes:
        """One value is replaced by what is hardly JSON, or none."""
        frame = self._request()
        name = self._chance.choice([*frame, "data"])
        frame[name] = "@@"
        return _encode(frame).replace(b'"@@"', self._chance.choice(RAW))

    def _doubled(self) -> bytes:
        """Keys that come twice, with other values."""
        one, other = _encode(self._request()), _encode(self._request())
        return one[:-1] + b"," + other[1:]

    def _bent(self) -> bytes:
        """A right frame, with bytes changed, lost, repeated."""
        frame, chance = bytearray(_encode(self._request())), self._chance
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            if not frame:
                break
            at = chance.randrange(len(frame))
            match chance.randrange(5):
                case 0:
                    frame[at] = chance.randrange(256)
                case 1:
                    del frame[at : at + chance.choice((1, 2, 10))]
                case 2:
                    frame[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4))))
                case 3:
                    frame[at:at] = frame[: chance.choice((5, 50))]
                case _:
                    del frame[at:]
        return bytes(frame)

    def _some_json(self) -> bytes:
        return _encode(self._anything())

    def _noise(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((1, 3, 30, 300)))

    # -- values -------------------------------------------------------------------------------------------------------

    def _request(self) -> dict[str, Any]:
        kind = self._chance.choice(self._kinds)
        frame: dict[str, Any] = {"msgid": int(kind)}
        self._ref += 1
        if self._chance.random() < 0.95:
            frame["ref"] = self._ref
        elif self._chance.random() < 0.5:
            frame["ref"] = self._chance.choice(TEXTS)
        request = REQUESTS[kind]
        names = [field.name for field in getattr(request, "__attrs_attrs__", ())] or ["data"]
        needed = {field.name for field in getattr(request, "__attrs_attrs__", ()) if field.default is _NOTHING}
        for name in names:
            if name in needed or self._chance.random() < 0.4:
                frame[name] = self._value(kind, name)
        return frame

    def _value(self, kind: Kind, name: str) -> Any:
        chance, place = self._chance, self._place
        match name:
            case "toid" | "friendid" | "userid" | "id":
                return chance.choice(place.users) if chance.random() < 0.9 else chance.choice(INTEGERS)
            case "groupid":
                return chance.choice(place.groups) if chance.random() < 0.9 else chance.choice(INTEGERS)
            case "conv":
                return self._conv()
            case "seq" | "after" | "ts":
                return chance.choice((0, 1, 2, 5, 50, 10**6, INT64 - 1))
            case "before":
                if kind is Kind.SEARCH:
                    return {"ts": chance.choice((0, 2 * 10**12)), "conv": self._conv(), "seq": chance.randrange(9)}
                return chance.choice((0, 1, 10, INT64 - 1))
            case "limit":
                return chance.choice((1, 2, 5, 2**31))
            case "version":
                return chance.choice((1, 1, 1, 0, 2))
            case "msg" | "query" | "data" | "time" | "groupdesc" | "client":
                return chance.choice(TEXTS) if chance.random() < 0.5 else "hello"
            case "key":
                return f"{chance.randrange(2000)}" if chance.random() < 0.7 else chance.choice(TEXTS)
            case "name" | "groupname":
                return chance.choice(place.names) if chance.random() < 0.6 else chance.choice(TEXTS)
            case "barred" | "receipts":
                return chance.random() < 0.5
            case _:
                return chance.choice(TEXTS)

    def _conv(self) -> str:
        chance, place = self._chance, self._place
        if chance.random() < 0.4:
            return f"g:{chance.choice(place.groups)}"
        if chance.random() < 0.8:
            low, high = sorted((chance.choice(place.users), chance.choice(place.users)))
            return f"d:{low}:{high}"
        return chance.choice(TEXTS)

    def _anything(self, depth: int = 0) -> Any:
        chance = self._chance
        match chance.randrange(8 if depth < 3 else 5):
            case 0:
                return chance.choice(INTEGERS)
            case 1 | 2:
                return chance.choice(TEXTS)
            case 3:
                return chance.choice((True, False, None))
            case 4:
                return chance.choice((0.5, -0.0, 1e308, 5e-324, 3.0, 1e18))
            case 5:
                return [self._anything(depth + 1) for _ in range(chance.randrange(4))]
            case 6:
                return {chance.choice(TEXTS)[:40]: self._anything(depth + 1) for _ in range(chance.randrange(4))}
            case _:
                return self._request()


#: How often each kind is asked for: 10, if not said here. Passwords take the server long on purpose, and nobody is logged
#: in after a LOGOUT.
_WEIGHTS = {
    Kind.LOGIN: 1,
    Kind.LOGOUT: 1,
    Kind.LOGOUT_EVERYWHERE: 1,
    Kind.CHANGE_PASSWORD: 1,
    Kind.DELETE_ACCOUNT: 1,
    Kind.REGISTER: 1,
    Kind.HELLO: 2,
    Kind.DIRECT: 30,
    Kind.GROUP: 30,
}

_NOTHING = attrs.NOTHING


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def answer_to(frame: bytes) -> tuple[bool, Ref | None, Kind | None]:
    """Whether a frame gets an answer, with which `ref`, and what kind of request it is, as far as it is one.

    Raises nothing but what the decoder should never raise.
    """
    try:
        envelope = open_envelope(frame)
    except RequestError:
        return True, None, None
    kind = Kind(envelope.msgid) if envelope.msgid in REQUESTS else None
    return kind not in {Kind.RECEIVED, Kind.PONG}, envelope.ref, kind


def decodes(frame: bytes) -> bool:
    """Whether a frame is a request. Raises nothing but what the decoder should never raise."""
    try:
        envelope = open_envelope(frame)
        if envelope.msgid not in REQUESTS:
            return False
        decode(Kind(envelope.msgid), frame)
    except RequestError:
        return False
    return True
