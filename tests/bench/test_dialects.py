"""Each dialect's frames are what its servers understand."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from bench.dialects import NUMBER, Irc, Link, Native, Step, Xmpp
from bench.generator import plan

XMPP, IRC = Xmpp(), Irc()
PLACES = (0, [1])
LINKS = {
    "native direct": Native.direct(7, 1, 2, PLACES),
    "native group": Native.group(7, 3, PLACES),
    "xmpp direct": XMPP.direct(7, "u1", PLACES),
    "xmpp group": XMPP.group(7, "room", PLACES),
    "irc direct": IRC.direct(7, "u1", PLACES),
    "irc group": IRC.group(7, "room", PLACES),
}


def text_of(name: str, link: Link) -> str:
    frame = link.frame.decode()
    if name.startswith("native"):
        return str(json.loads(frame)["msg"])
    if name.startswith("xmpp"):
        return ET.fromstring(frame).findtext("body") or ""  # noqa: S314 (our own)
    return frame.partition(" :")[2].removesuffix("\r\n")


@pytest.mark.parametrize("name", LINKS)
def test_every_text_has_64_bytes_and_what_is_looked_for(name: str) -> None:
    link = LINKS[name]
    assert len(text_of(name, link).encode()) == 64
    assert link.text in link.frame
    assert f"0007-{NUMBER}".encode() in link.frame


def test_native_frames() -> None:
    direct, group = (json.loads(LINKS[name].frame) for name in ("native direct", "native group"))
    assert (direct["msgid"], direct["toid"], direct["ref"], direct["key"]) == (6, 2, NUMBER, f"0007-{NUMBER}")
    assert (group["msgid"], group["groupid"]) == (10, 3)
    assert (LINKS["native direct"].conv, LINKS["native group"].conv) == ("d:1:2", "g:3")
    (login,) = Native.password(5, "secret")
    hello, frame = map(json.loads, login.send.splitlines())
    assert hello["msgid"] == 20
    assert frame == {"msgid": 1, "id": 5, "password": "secret"}


@pytest.mark.parametrize("size", [5, 43, 126, 500])
def test_websocket_frames(size: int) -> None:
    token = "t" * size
    upgrade, login = Native.websocket(Native.token(token))
    server = ServerProtocol()
    server.receive_data(upgrade.send)
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]  # it is a request
    assert upgrade.expect in b"".join(server.data_to_send())
    server.receive_data(login.send + Native.websocket_pong)
    frames = server.events_received()
    assert [frame.opcode for frame in frames] == [Opcode.TEXT] * 3  # type: ignore[union-attr]
    hello, own, pong = (json.loads(bytes(frame.data)) for frame in frames)  # type: ignore[union-attr]
    assert (hello["msgid"], own["token"], pong["msgid"]) == (20, token, 23)


def stanzas(steps: list[Step]) -> list[ET.Element]:
    """What is sent inside of the streams."""
    sent = b"".join(step.send for step in steps if not step.send.startswith(b"<stream:stream"))
    return list(ET.fromstring(b"<all>" + sent + b"</all>"))  # noqa: S314 (our own)


def test_xmpp_login() -> None:
    auth, bind, presence = stanzas(XMPP.log_in("u1"))
    assert (auth.get("mechanism"), auth.text) == ("PLAIN", "AHUxAGFfc2VjcmV0")
    assert bind.get("type") == "set"
    assert presence.tag == "presence"
    streams = [step for step in XMPP.log_in("u1") if step.send.startswith(b"<stream:stream")]
    assert [step.expect for step in streams] == [b"</stream:features>"] * 2


def test_xmpp_accounts_rooms_acknowledgements() -> None:
    (registration,) = stanzas(XMPP.register("u1"))
    assert "".join(registration.itertext()) == "u1a_secret"
    (join,) = stanzas(XMPP.join("room", "u1"))
    assert join.get("to") == "room@rooms.bench.local/u1"
    (enable,) = stanzas(XMPP.acknowledged())
    assert enable.tag == "{urn:xmpp:sm:3}enable"
    assert XMPP.direct(0, "u1", PLACES, acknowledged=True).done_by == "s"
    assert XMPP.direct(0, "u1", PLACES).done_by == "d"


def test_irc_lines() -> None:
    (login,), (join,) = IRC.log_in("u1"), IRC.join("room")
    assert login.send == b"NICK u1\r\nUSER u1 0 * :u1\r\n"
    assert join.send == b"JOIN #room\r\n"
    for name in ("irc direct", "irc group"):
        assert LINKS[name].frame.endswith(b"\r\n")
        assert len(LINKS[name].frame) < 512 - len(":u1!~u1@a.long.name.of.a.host ")
    assert LINKS["irc direct"].frame.startswith(b"PRIVMSG u1 :0007-")
    assert LINKS["irc group"].frame.startswith(b"PRIVMSG #room :0007-")


def test_plan_says_where_numbers_go() -> None:
    (step,) = IRC.join("room")
    link = IRC.direct(7, "u1", PLACES)
    (place,) = [link.frame.index(NUMBER.encode())]
    words = plan([], [link])
    assert words.startswith(b"0 1 0 1:d1 0:")
    assert words.endswith(b"%d:%s1 %d 1 1 " % (len(link.frame), link.frame, place))
    assert step.expect == b" 366 "
