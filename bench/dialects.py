"""What clients say, made once: how they log in, in which frame a message goes, in each server's own dialect.

A message's number stands in its frame as `NUMBER`, which the load generator replaces. Every text is 64 bytes long. At trio-chat
the number is in the `key`; other servers have no such field, so there the text begins with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

import attrs

from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.messages import Kind

__all__ = ["NUMBER", "TEXT", "Client", "Irc", "Link", "Native", "Step", "Xmpp"]

NUMBER = "0000000000"
TEXT = "The_quick_brown_fox_jumps_over_the_lazy_dog,_again_and_again_..."


@attrs.frozen
class Step:
    """Send `send`; when `expect` has come, and after it `end`, this step is done. Nothing expected: done at once."""

    send: bytes
    expect: bytes = b""
    end: bytes = b""


@attrs.frozen
class Client:
    """A connection: to which port, from which address (the system chooses where it is empty), how it logs in."""

    dialect: str
    port: int
    steps: Sequence[Step]
    pong: bytes = b""
    source: str = ""


@attrs.frozen
class Link:
    """Who sends to whom, by their place in the list of clients. The generator's loadgen.h explains `done_by` and `first`."""

    sender: int
    receivers: Sequence[int]
    frame: bytes
    text: bytes
    done_by: str
    conv: str = ""
    first: int = 1


class Native:
    """trio-chat's modern dialect. A message is done when its REPLY says that it is durable."""

    letter = "n"
    pong = b'{"msgid":23}\n'

    @staticmethod
    def token(token: str) -> list[Step]:
        return [_native_login(token=token)]

    @staticmethod
    def password(userid: int, password: str) -> list[Step]:
        return [_native_login(id=userid, password=password)]

    @staticmethod
    def websocket(steps: Sequence[Step]) -> list[Step]:
        """The same over a WebSocket."""
        upgrade = (
            b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        frames = [attrs.evolve(step, send=b"".join(map(_masked, step.send.splitlines())), end=b"") for step in steps]
        return [Step(upgrade, b"HTTP/1.1 101", b"\r\n\r\n"), *frames]

    websocket_pong = b"\x81\x8c\0\0\0\0" + pong.strip()

    @staticmethod
    def direct(number: int, sender: int, receiver: int, places: tuple[int, Sequence[int]], first: int = 1) -> Link:
        """Link `number`: from one user id to another; `places` are the sender's and the receivers' among the clients."""
        conv = direct_conv(sender, receiver)
        return _native_link(number, {"msgid": Kind.DIRECT, "toid": receiver}, conv, places, first)

    @staticmethod
    def group(number: int, groupid: int, places: tuple[int, Sequence[int]], first: int = 1) -> Link:
        return _native_link(number, {"msgid": Kind.GROUP, "groupid": groupid}, group_conv(groupid), places, first)


def _native_login(**fields: str | int) -> Step:
    hello = {"msgid": Kind.HELLO, "version": 1, "client": "bench"}
    login = {"msgid": Kind.LOGIN, **fields}
    return Step(_lines(hello, login), b'"msgid":2,"errno":0', b"\n")


def _lines(*frames: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(frame, separators=(",", ":")).encode() + b"\n" for frame in frames)


def _masked(text: bytes) -> bytes:
    # A mask of zeros leaves the text as it is.
    size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + text


def _native_link(
    number: int, head: Mapping[str, object], conv: str, places: tuple[int, Sequence[int]], first: int
) -> Link:
    frame = _lines({**head, "ref": NUMBER, "msg": TEXT, "key": f"{number:04}-{NUMBER}"})
    return Link(places[0], places[1], frame, f'"{TEXT}"'.encode(), "r", conv, first)


def _text(number: int) -> tuple[str, bytes]:
    """A text of 64 bytes that begins with its number, and the part of it that is always the same."""
    same = TEXT[: 64 - 4 - 1 - len(NUMBER) - 1]
    return f"{number:04}-{NUMBER} {same}", same.encode()


class Xmpp:
    """XMPP over TCP without TLS: SASL PLAIN, bind, presence. A message is done when it reached its (first) receiver."""

    letter = "x"
    host = "bench.local"
    rooms = "rooms.bench.local"
    password = "a_secret"
    _FEATURES = b"</stream:features>"

    def _open(self) -> Step:
        text = f"<stream:stream to='{self.host}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        return Step(text.encode(), self._FEATURES)

    def register(self, name: str) -> list[Step]:
        """Make an account, in the band."""
        query = f"<username>{name}</username><password>{self.password}</password>"
        text = f"<iq type='set' id='reg'><query xmlns='jabber:iq:register'>{query}</query></iq>"
        return [self._open(), Step(text.encode(), b"type='result'")]

    def log_in(self, name: str) -> list[Step]:
        secret = base64.b64encode(f"\0{name}\0{self.password}".encode()).decode()
        auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        bind = (
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind></iq>"
        )
        return [
            self._open(),
            Step(auth.encode(), b"<success"),
            self._open(),
            Step(bind.encode(), b"type='result'"),
            Step(b"<presence/>"),
        ]

    def join(self, room: str, name: str) -> list[Step]:
        text = f"<presence to='{room}@{self.rooms}/{name}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"
        return [Step(text.encode(), b"<subject")]

    def acknowledged(self) -> list[Step]:
        """Ask for stream management (XEP-0198): for messages to somebody who is away, and sends no sign of them."""
        return [Step(b"<enable xmlns='urn:xmpp:sm:3'/>", b"<enabled")]

    def direct(
        self, number: int, receiver: str, places: tuple[int, Sequence[int]], *, acknowledged: bool = False
    ) -> Link:
        """Link `number` to somebody by name; `acknowledged` where done is what XEP-0198 acknowledges."""
        return self._link(number, f"{receiver}@{self.host}", "chat", places, "s" if acknowledged else "d")

    def group(self, number: int, room: str, places: tuple[int, Sequence[int]]) -> Link:
        return self._link(number, f"{room}@{self.rooms}", "groupchat", places, "d")

    def _link(self, number: int, to: str, kind: str, places: tuple[int, Sequence[int]], done_by: str) -> Link:
        text, same = _text(number)
        frame = f"<message to='{to}' type='{kind}' id='{NUMBER}'><body>{text}</body></message>"
        return Link(places[0], places[1], frame.encode(), same, done_by)


class Irc:
    """IRC. A message is done when it reached its (first) receiver: the protocol has no other sign of it."""

    letter = "i"
    pong = b"PONG :bench\r\n"

    def log_in(self, name: str) -> list[Step]:
        return [Step(f"NICK {name}\r\nUSER {name} 0 * :{name}\r\n".encode(), b" 422 ", b"\n")]  # no message of the day

    def join(self, channel: str) -> list[Step]:
        return [Step(f"JOIN #{channel}\r\n".encode(), b" 366 ", b"\n")]  # the end of the list of names

    def direct(self, number: int, receiver: str, places: tuple[int, Sequence[int]]) -> Link:
        return self._link(number, receiver, places)

    def group(self, number: int, channel: str, places: tuple[int, Sequence[int]]) -> Link:
        return self._link(number, f"#{channel}", places)

    @staticmethod
    def _link(number: int, to: str, places: tuple[int, Sequence[int]]) -> Link:
        text, same = _text(number)
        return Link(places[0], places[1], f"PRIVMSG {to} :{text}\r\n".encode(), same, "d")
