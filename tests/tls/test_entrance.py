"""Who is believed when somebody says who the client is: the PROXY header and X-Forwarded-For, with TLS and without."""

from __future__ import annotations

import ssl
from typing import Any, cast

import attrs
import pytest
import structlog
import trio
import trio.testing

import trio_chat
from tests.http.raw import Raw, masked, upgrade
from tests.server.stalling import eventually
from trio_chat import Address, Limits, Server, Settings

HELLO = b'{"msgid":20,"version":1}\n'
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
HEADER_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"

BELIEVED = pytest.mark.settings(proxy_protocol=True, tls_cert=None, tls_key=None, limits=Limits(handshake_seconds=0.5))
ELSEWHERE = pytest.mark.settings(proxy_from=("192.0.2.0/24",), tls_cert=None, tls_key=None)


def http_of(server: Server) -> Address:
    return Address.parse(server.pages[0].partition("//")[2].removesuffix("/"))


async def answer_to(address: Address, *pieces: bytes) -> bytes:
    """What comes back, up to the first newline or to the end."""
    async with await trio.open_tcp_stream(*address) as stream:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
        answer = b""
        with trio.fail_after(5):
            while b"\n" not in answer:
                try:
                    more = await stream.receive_some()
                except trio.BrokenResourceError:
                    break
                if not more:
                    break
                answer += more
        return answer


async def peer_of(server: Server, address: Address, *pieces: bytes) -> str:
    """Who the server takes for the client of a connection that says this."""
    async with await trio.open_tcp_stream(*address) as stream:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await eventually(lambda: bool(server.node.connections))
        (connection,) = server.node.connections
        with trio.fail_after(5):
            assert await stream.receive_some()
        peer = connection.peer
    await eventually(lambda: not server.node.connections)
    return peer


@BELIEVED
async def test_a_trusted_proxy_says_who_the_client_is(server: Server) -> None:
    address = server.addresses[0]
    for header in (HEADER, HEADER_2):
        for cut in (0, 1, len(header) - 1, len(header)):
            said = header + HELLO
            assert await peer_of(server, address, said[:cut], said[cut:]) == "192.0.2.7:56324"
    assert (await peer_of(server, address, b"PROXY UNKNOWN\r\n" + HELLO)).startswith("127.0.0.1:")


@BELIEVED
async def test_it_has_to_say_so_and_soon(server: Server, logs: list[structlog.typing.EventDict]) -> None:
    address = server.addresses[0]
    assert await answer_to(address, HELLO) == b""
    assert await answer_to(address, b"PROXY TCP4 x\r\n") == b""
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["connection refused"] * 2
    assert await answer_to(address, HEADER[:20]) == b"", "it is not waited for long"
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_eof()
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
    await eventually(lambda: dict(server.node.counters.not_entered) == {"proxy": 2, "slow": 1, "tls": 1})


@ELSEWHERE
async def test_from_elsewhere_nobody_is_believed(server: Server, logs: list[structlog.typing.EventDict]) -> None:
    """Clients come there as if there were no proxy; one that begins with a header is closed."""
    address = server.addresses[0]
    assert (await peer_of(server, address, HELLO)).startswith("127.0.0.1:")
    for header in (HEADER, HEADER_2):
        assert await answer_to(address, header + HELLO) == b""
        assert (await answer_to(http_of(server), header + upgrade())).startswith(b"HTTP/1.1 40")
    refused = [entry for entry in logs if entry["event"] == "connection refused"]
    assert len(refused) == 2
    assert "proxy_from" in refused[0]["reason"]
    assert (await peer_of(server, http_of(server), upgrade(X_Forwarded_For="192.0.2.7"))).startswith("127.0.0.1:")


async def test_without_any_proxy_a_header_closes_too(settings: Settings) -> None:
    async with trio_chat.open_server(attrs.evolve(settings, tls_cert=None, tls_key=None)) as server:
        assert await answer_to(server.addresses[0], HEADER + HELLO) == b""
        assert b'"msgid":21' in await answer_to(server.addresses[0], HELLO)


@BELIEVED
async def test_over_http_either_will_do(server: Server) -> None:
    http = http_of(server)
    for said, peer in (
        (HEADER + upgrade(), "192.0.2.7:56324"),
        (upgrade(X_Forwarded_For="made up, 192.0.2.8"), "192.0.2.8"),
        (upgrade(X_Forwarded_For="10.9.9.9, 192.0.2.8, 127.0.0.1"), "192.0.2.8"),
        (upgrade(X_Forwarded_For="[2001:db8::1]:4711"), "[2001:db8::1]:4711"),
        # The one whom the header names is not a proxy, so what it says of others means nothing.
        (HEADER + upgrade(X_Forwarded_For="10.9.9.9"), "192.0.2.7:56324"),
    ):
        assert await peer_of(server, http, said) == peer
    for nothing in ("", "unknown", "x" * 500, "192.0.2.8,"):
        assert (await peer_of(server, http, upgrade(X_Forwarded_For=nothing))).startswith("127.0.0.1:")


@pytest.mark.settings(proxy_from=("127.0.0.1",))
async def test_the_header_comes_before_tls(server: Server, trust: ssl.SSLContext) -> None:
    """As it does where a proxy passes TLS through."""
    for address, is_http in ((server.addresses[0], False), (http_of(server), True)):
        async with await trio.open_tcp_stream(*address) as tcp:
            await tcp.send_all(HEADER)
            stream = trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True)
            if is_http:
                raw = Raw(cast(Any, stream))
                await raw.send(upgrade(), masked(1, HELLO[:-1]))
                assert (await raw.answer()).status == 101
                assert b'"msgid":21' in (await raw.event()).payload
            else:
                await stream.send_all(HELLO)
                assert b'"msgid":21' in await stream.receive_some()
            (connection,) = server.node.connections
            assert connection.peer == "192.0.2.7:56324"
        await eventually(lambda: not server.node.connections)
    assert await answer_to(server.addresses[0], HEADER + HELLO) == b""
