"""The opening handshake, and the rules of RFC 6455, with frames written out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.http.raw import Raw, address_of, ask, masked, open_raw, upgrade
from trio_chat import Address, Limits, Server
from trio_chat.wire.messages import Kind

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def text(kind: Kind, **fields: Any) -> bytes:
    return masked(TEXT, json.dumps({"msgid": int(kind), **fields}).encode())


async def begin(raw: Raw, data: bytes = b"", **headers: str) -> None:
    await raw.send(upgrade(**headers) + data)
    answer = await raw.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def receive(raw: Raw) -> dict[str, Any]:
    event = await raw.event()
    assert event.opcode == TEXT
    frame: dict[str, Any] = json.loads(event.payload)
    return frame


# -- messages -----------------------------------------------------------------------------------------------------------


async def test_people_chat(server: Server, http: Address) -> None:
    async with open_raw(http) as alice, open_raw(http) as bob:
        for userid, (raw, name) in enumerate([(alice, "alice"), (bob, "bob")], 1):
            await begin(raw)
            await raw.send(text(Kind.HELLO, version=1), text(Kind.REGISTER, name=name, password="secret"))
            assert (await receive(raw))["msgid"] == Kind.HELLO_ACK
            assert await receive(raw) == {"msgid": Kind.REGISTER_ACK, "errno": 0, "id": userid}
            await raw.send(text(Kind.LOGIN, name=name, password="secret"))
            assert (await receive(raw))["errno"] == 0
        await alice.send(text(Kind.DIRECT, toid=2, msg="Grüße\n\0", ref=1))
        assert (await receive(alice))["seq"] == 1
        assert (await receive(bob))["msg"] == "Grüße\n\0"


@pytest.mark.parametrize("pieces", [1, 2, 7])
async def test_a_message_may_come_in_fragments_with_control_frames_between(http: Address, pieces: int) -> None:
    message = json.dumps({"msgid": 22, "data": "ä" * 50}, ensure_ascii=False).encode()
    async with open_raw(http) as raw:
        await begin(raw)
        step = -(-len(message) // pieces)
        parts = [message[at : at + step] for at in range(0, len(message), step)]
        for number, part in enumerate(parts):
            await raw.send(masked(CONT if number else TEXT, part, fin=number == len(parts) - 1))
            if number < len(parts) - 1:
                await raw.send(masked(PING, b"between"))
                assert await raw.event() == (PONG, b"between")
        assert (await receive(raw)) == {"msgid": 23, "data": "ä" * 50}


async def test_bytes_may_come_one_by_one(http: Address) -> None:
    async with open_raw(http) as raw:
        for byte in upgrade() + text(Kind.PING, data=1):
            await raw.send(bytes([byte]))
        assert (await raw.answer()).status == 101
        assert await receive(raw) == {"msgid": 23, "data": 1}


async def test_messages_may_come_with_the_handshake_and_many_at_once(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw, b"".join(text(Kind.PING, data=number) for number in range(1000)))
        assert [(await receive(raw))["data"] for _ in range(1000)] == list(range(1000))


async def test_one_message_is_one_frame_whatever_it_holds(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(masked(TEXT, b'{"msgid":22,\n"data":1}'), masked(TEXT, b'{"msgid":22}\0{"msgid":22}'))
        assert await receive(raw) == {"msgid": 23, "data": 1}
        assert (await receive(raw))["error"] == "bad_frame"
        await raw.send(masked(TEXT, b""), masked(TEXT, b'{"msgid":22}\n{"msgid":22}'), masked(TEXT, b'{"msgid":22}\n'))
        assert (await receive(raw))["error"] == "bad_frame"
        assert await receive(raw) == {"msgid": 23}


async def test_pings_are_answered_and_pongs_ignored(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(masked(PONG, b"who asked?"), masked(PING), masked(PING, b"x" * 125))
        assert [await raw.event(), await raw.event()] == [(PONG, b""), (PONG, b"x" * 125)]


# -- what is wrong ------------------------------------------------------------------------------------------------------

LIMIT = 65536

BAD: dict[str, tuple[int, bytes]] = {
    "a binary message": (1003, masked(BINARY, b"{}")),
    "no UTF-8": (1007, masked(TEXT, b'{"msgid":22,"data":"\xff"}')),
    "UTF-8 that is cut off": (1007, masked(TEXT, "ä".encode()[:1])),
    "no UTF-8 in fragments": (1007, masked(TEXT, b"\xc3", fin=False) + masked(CONT, b"\xc3")),
    "too long": (1009, masked(TEXT, b" " * (LIMIT + 1))),
    "too long in fragments": (1009, masked(TEXT, b" " * LIMIT, fin=False) + masked(CONT, b"  ")),
    "no mask": (1002, masked(TEXT, b"{}", mask=False)),
    "reserved bit 1": (1002, masked(TEXT, b"{}", reserved=4)),
    "reserved bit 2": (1002, masked(TEXT, b"{}", reserved=2)),
    "reserved bit 3": (1002, masked(TEXT, b"{}", reserved=1)),
    "unknown opcode": (1002, masked(3, b"{}")),
    "unknown control frame": (1002, masked(11, b"{}")),
    "continuation of nothing": (1002, masked(CONT, b"{}")),
    "message within a message": (1002, masked(TEXT, b"{", fin=False) + masked(TEXT, b"}")),
    "long ping": (1002, masked(PING, b"x" * 126)),
    "fragmented ping": (1002, masked(PING, b"x", fin=False)),
    "close with one byte": (1002, masked(CLOSE, b"\x03")),
    "close with a code that is none": (1002, masked(CLOSE, b"\x03\xec")),
    "close with a reason that is not UTF-8": (1007, masked(CLOSE, b"\x03\xe8\xff")),
    "close within a message": (1002, masked(TEXT, b"{", fin=False) + masked(CLOSE, b"\x03\xe8")),
}


@pytest.mark.parametrize("what", list(BAD))
async def test_what_is_wrong_is_told_by_a_code_after_what_came_before_it(http: Address, what: str) -> None:
    code, data = BAD[what]
    async with open_raw(http) as raw:
        await begin(raw)
        # What follows is never looked at.
        await raw.send(text(Kind.PING, data="before") + data + text(Kind.PING, data="after"))
        assert await receive(raw) == {"msgid": 23, "data": "before"}
        assert (await raw.event()).code == code
        assert await raw.at_end()


async def test_a_header_that_promises_too_much_is_refused_at_once(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(b"\x81\xff" + (2**62).to_bytes(8, "big") + b"mask")
        assert (await raw.event()).code == 1009


async def test_empty_fragments_cost_nothing(server: Server, http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(masked(TEXT, fin=False) + masked(CONT, fin=False) * 20000)
        await raw.send(masked(CONT, b'{"msgid":22}'))
        assert await receive(raw) == {"msgid": 23}


# -- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9bye", b"\x0f\xa0 own"])
async def test_a_close_frame_comes_back(http: Address, payload: bytes) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(text(Kind.PING) + masked(CLOSE, payload) + text(Kind.PING))
        assert await receive(raw) == {"msgid": 23}
        assert await raw.event() == (CLOSE, payload)
        assert await raw.at_end()


async def test_who_hangs_up_without_a_word_is_forgotten(server: Server, http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(masked(TEXT, b"half a mess", fin=False))
        await raw.stream.send_eof()
        assert (await raw.event()).code == 1000
        assert await raw.at_end()
    with trio.fail_after(5):
        while server.node.connections:
            await trio.sleep(0.01)


async def test_a_draining_server_says_goodbye(server: Server, http: Address) -> None:
    async with open_raw(http) as raw, open_raw(http) as deaf:
        await begin(raw)
        await begin(deaf)
        await raw.send(text(Kind.HELLO, version=1))
        await receive(raw)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert (await receive(raw))["error"] == "shutting_down"
            event = await raw.event()
            assert (event.code, event.payload[2:]) == (1001, b"draining")
            # A client may send until it has read that; it must not lose the code over it.
            await raw.send(text(Kind.PING), masked(CLOSE, event.payload))
            assert await raw.at_end()


@pytest.mark.settings(heartbeat=0.2)
async def test_silence_is_a_violation(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        await raw.send(text(Kind.HELLO, version=1))
        await receive(raw)
        assert (await receive(raw))["msgid"] == Kind.PING
        event = await raw.event()
        assert (event.code, event.payload[2:]) == (1008, b"silent")


@pytest.mark.settings(limits=Limits(outbox=65536), heartbeat=0.3)
async def test_who_never_reads_is_closed(server: Server, http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw)
        ping = text(Kind.PING, data="x" * 30000)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(20):
            while True:
                await raw.send(ping)
    assert not server.node.connections


# -- the handshake ------------------------------------------------------------------------------------------------------


async def test_a_page_of_this_server_may_connect_and_others_may_not(http: Address) -> None:
    for origin, status in [
        ("http://chat.example", 101),
        ("https://CHAT.example", 101),
        ("", 101),
        ("https://chat.example:8000", 403),
        ("https://evil.example", 403),
        ("https://chat.example.evil", 403),
        ("null", 403),
    ]:
        async with open_raw(http) as raw:
            await raw.send(upgrade(Origin=origin))
            assert (await raw.answer()).status == status, origin
    assert (await ask(http, upgrade(Origin="https://evil.example", Host=""))).status == 403
    assert (
        await ask(http, upgrade(Origin="https://a").replace(b"Origin", b"Origin: https://b\r\nOrigin"))
    ).status == 400


@pytest.mark.settings(origins=("https://other.example",))
async def test_origins_can_be_allowed(http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw, Origin="https://other.example")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (426, {"Upgrade": ""}),
        (426, {"Connection": "close"}),
        (426, {"Upgrade": "h2c"}),
        (400, {"Sec_WebSocket_Key": ""}),
        (400, {"Sec_WebSocket_Key": "short"}),
        (400, {"Sec_WebSocket_Version": "8"}),
    ],
)
async def test_a_handshake_that_is_none(http: Address, status: int, headers: dict[str, str]) -> None:
    answer = await ask(http, upgrade(**headers))
    assert answer.status == status
    assert answer.headers.get("upgrade") == ("websocket" if status == 426 else None)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_no_one_begins_to_chat_while_draining(server: Server, http: Address) -> None:
    server.node.draining = True
    answer = await ask(http, upgrade())
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("given", "peer"), [("192.0.2.7", "192.0.2.7"), ("made up, 2001:db8::1", "2001:db8::1"), ("", ""), ("x" * 65, "")]
)
@pytest.mark.settings(proxy_protocol=True)
async def test_behind_a_proxy_the_client_is_who_it_says(server: Server, http: Address, given: str, peer: str) -> None:
    async with open_raw(http) as raw:
        await begin(raw, X_Forwarded_For=given)
        await raw.send(text(Kind.PING))
        await receive(raw)
        (connection,) = server.node.connections
        assert connection.peer == peer or (not peer and connection.peer.startswith("127.0.0.1:"))


async def test_else_nobody_is_believed(server: Server, http: Address) -> None:
    async with open_raw(http) as raw:
        await begin(raw, X_Forwarded_For="192.0.2.7")
        await raw.send(text(Kind.PING))
        await receive(raw)
        (connection,) = server.node.connections
        assert connection.peer.startswith("127.0.0.1:")


# -- compression --------------------------------------------------------------------------------------------------------


async def test_nothing_is_compressed_unless_asked_for(http: Address) -> None:
    async with open_raw(http) as raw:
        await raw.send(upgrade(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
        assert "sec-websocket-extensions" not in (await raw.answer()).headers


@pytest.mark.settings(ws_compression=True)
async def test_compressed_messages(server: Server) -> None:
    from websockets.client import ClientProtocol
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
    from websockets.frames import Frame
    from websockets.uri import parse_uri

    protocol = ClientProtocol(parse_uri("ws://x/ws"), extensions=[ClientPerMessageDeflateFactory()])
    protocol.send_request(protocol.connect())
    answers: list[Any] = []
    async with open_raw(address_of(server)) as raw:

        async def exchange(count: int) -> None:
            await raw.send(*protocol.data_to_send())
            with trio.fail_after(10):
                while len(answers) < count:
                    protocol.receive_data(await raw.stream.receive_some(65536))
                    answers.extend(protocol.events_received())

        await exchange(1)
        assert "server_no_context_takeover" in answers[0].headers["Sec-WebSocket-Extensions"]
        sizes = [1, 600, 40000, 300]
        for size in sizes:
            protocol.send_text(json.dumps({"msgid": 22, "data": "x" * size}).encode())
        await exchange(5)
        frames = answers[1:]
        assert all(isinstance(frame, Frame) for frame in frames)
        assert [len(json.loads(bytes(frame.data))["data"]) for frame in frames] == sizes
        # A bomb: 10 MB of blanks in some kilobytes.
        protocol.send_text(b" " * 10_000_000)
        await raw.send(*protocol.data_to_send())
        with trio.fail_after(10):
            while protocol.close_rcvd is None:
                protocol.receive_data(await raw.stream.receive_some(65536))
        assert protocol.close_rcvd.code == 1009
