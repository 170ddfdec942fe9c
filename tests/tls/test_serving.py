"""TLS on both ports: the chat, the page, WebSockets; what is no TLS, who does not get on with it, new certificates."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import pytest
import structlog
import trio

import trio_chat
from tests.http.raw import Raw, masked, request, upgrade
from tests.server.stalling import eventually
from tests.services.certificates import Authority, Certificate
from tests.wire import Wire
from trio_chat import Address, Limits, Server, Settings
from trio_chat.client import connect
from trio_chat.errors import StartupError
from trio_chat.verify.link import LinkBroken, open_link, parse_address
from trio_chat.verify.recorder import Recorder
from trio_chat.wire.messages import Kind


def page_of(server: Server) -> Address:
    assert server.pages[0].startswith("https://")
    return Address.parse(server.pages[0].removeprefix("https://").removesuffix("/"))


@asynccontextmanager
async def encrypted(
    address: Address, trust: ssl.SSLContext, *, compatible: bool = False
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    tcp = await trio.open_tcp_stream(*address)
    stream = trio.SSLStream(tcp, trust, server_hostname=address.host, https_compatible=not compatible)
    try:
        await stream.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(tcp)


@asynccontextmanager
async def session(address: Address, trust: ssl.SSLContext, name: str) -> AsyncIterator[Wire]:
    """A modern session of a new account."""
    async with encrypted(address, trust) as stream:
        wire = Wire(cast(Any, stream))
        await wire.ok(Kind.HELLO, version=1)
        await wire.ok(Kind.REGISTER, name=name, password="secret")
        wire.id = (await wire.ok(Kind.LOGIN, name=name, password="secret"))["id"]
        yield wire


async def test_a_chat_over_tls(server: Server, trust: ssl.SSLContext) -> None:
    """The server ends it as TLS wants it; a farewell is heard."""
    address = server.addresses[0]
    async with session(address, trust, "alice") as alice, session(address, trust, "bob") as bob:
        text = "ü" * 8000
        for number in range(20):
            await alice.ok(Kind.DIRECT, toid=bob.id, msg=text, key=str(number))
        assert [frame["seq"] for frame in await bob.messages(20)] == list(range(1, 21))
        assert {connection.peer.partition(":")[0] for connection in server.node.connections} == {"127.0.0.1"}
        assert server.node.counters.connections["tls"] == 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert (await bob.receive(Kind.REPLY))["error"] == "shutting_down"
            assert await bob.stream.receive_some() == b""
            await alice.aclose()
            await bob.aclose()


async def test_a_classic_client_over_tls(server: Server, trust: ssl.SSLContext) -> None:
    """Each frame is a send of its own there too, and so a record of its own."""
    address = server.addresses[0]
    async with session(address, trust, "alice") as alice:
        async with encrypted(address, trust) as stream:
            wire = Wire(cast(Any, stream), b"\0")
            await wire.send(Kind.LOGIN, id=alice.id, password="secret")
            assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 2
            await wire.send(Kind.REGISTER, name="carl", password="secret")
            carl = (await wire.receive(Kind.REGISTER_ACK))["id"]
            await wire.send(Kind.LOGIN, id=carl, password="secret")
            assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 0
            for number in range(3):
                await alice.ok(Kind.DIRECT, toid=carl, msg=str(number))
            for number in range(3):
                frame = await stream.receive_some(1024)
                assert frame.endswith(b"\0")
                assert json.loads(frame[:-1])["msg"] == str(number)
        await alice.quiet()


async def test_the_page_and_a_websocket(server: Server, trust: ssl.SSLContext) -> None:
    address = page_of(server)
    async with encrypted(address, trust) as stream:
        await stream.send_all(request("/", Host="chat.example"))
        answer = await Raw(cast(Any, stream)).answer()
        assert answer.status == 200
        assert "connect-src 'self'" in answer.headers["content-security-policy"]
    async with encrypted(address, trust) as stream:
        raw = Raw(cast(Any, stream))
        await raw.send(upgrade(Origin="https://chat.example"))
        assert (await raw.answer()).status == 101
        await raw.send(masked(1, b'{"msgid":22,"data":1}'))
        assert (await raw.event()).payload == b'{"msgid":23,"data":1}'
        await raw.send(masked(8, b"\3\xe8"))
        assert (await raw.event()).code == 1000
    async with encrypted(address, trust) as stream:
        await stream.send_all(request("/metrics"))
        assert b"\ntrio_chat_certificate_expires_seconds 1" in (await Raw(cast(Any, stream)).answer()).body


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_the_client_library(server: Server, trust: ssl.SSLContext, backend: str) -> None:
    address = f"tls://localhost:{server.addresses[0].port}"

    async def main() -> None:
        async with (
            connect(address, ssl_context=trust) as alice,
            connect(address, ssl_context=trust) as bob,
        ):
            await alice.register("alice", "a secret")
            him = await bob.register("bob", "a secret")
            await alice.login("alice", "a secret")
            await bob.login("bob", "a secret")
            assert (await alice.send(him, "hello")).seq == 1
            async for message in bob.messages():
                assert message.text == "hello"
                break

    if backend == "trio":
        await main()
    else:
        await trio.to_thread.run_sync(partial(anyio.run, main, backend=backend))


async def test_verify_speaks_it(
    server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    address = parse_address(f"tls://localhost:{server.addresses[0].port}")
    assert str(address).startswith("tls://localhost:")
    with pytest.raises(LinkBroken, match="certificate"):
        async with open_link(address, Recorder()):
            pass
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    async with open_link(address, Recorder()) as link:
        heard = trio.Event()
        nursery.start_soon(link.write)
        nursery.start_soon(link.read, lambda _: heard.set())
        with trio.fail_after(5):
            await heard.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.settings(limits=Limits(handshake_seconds=0.3))
async def test_who_does_not_get_on_with_it_is_closed(server: Server, trust: ssl.SSLContext) -> None:
    """Nothing, half a greeting, no TLS at all, TLS that is too old; on either port."""
    failed = server.node.counters.not_entered
    for address in (server.addresses[0], page_of(server)):
        failed.clear()
        for said in (b"", b"\x16\x03\x01\x02\x00\x01"):
            async with await trio.open_tcp_stream(*address) as stream:
                if said:
                    await stream.send_all(said)
                with trio.fail_after(5):
                    assert await stream.receive_some() == b""
        assert dict(failed) == {"slow": 2}
        for said in (b'{"msgid":20,"version":1}\n', b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(said)
                with trio.fail_after(5):
                    try:
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        pass  # what it had not read
        assert dict(failed) == {"slow": 2, "tls": 2}
        async with await trio.open_tcp_stream(*address):
            pass
        await eventually(lambda: failed["tls"] == 3)
    assert not server.node.connections
    async with session(server.addresses[0], trust, "alice"):
        pass


@pytest.mark.settings(limits=Limits(handshakes=5))
async def test_who_lingers_makes_room(server: Server, trust: ssl.SSLContext) -> None:
    """Those who only stand in the way do not keep anybody out."""
    address = server.addresses[0]
    idle = [await trio.open_tcp_stream(*address) for _ in range(12)]
    async with session(address, trust, "alice") as alice:
        await alice.quiet()
    await eventually(lambda: server.node.counters.not_entered["crowded"] >= 7)
    closed = 0
    for stream in idle[:7]:
        with trio.fail_after(5):
            closed += await stream.receive_some() == b""
    assert closed == 7
    for stream in idle:
        await trio.aclose_forcefully(stream)
    await eventually(lambda: not server.node.connections)


async def test_a_browser_that_forgot_the_s_is_told(server: Server) -> None:
    async with await trio.open_tcp_stream(*page_of(server)) as stream:
        await stream.send_all(request("/"))
        answer = await Raw(stream).answer()
    assert answer.status == 400
    assert b"https://" in answer.body


async def test_a_client_that_breaks_off_without_a_farewell(server: Server, trust: ssl.SSLContext) -> None:
    async with session(server.addresses[0], trust, "alice") as alice:
        await alice.send_bytes(b'{"msgid":22,"data":1}\n{"msgid":22,"data":')
        await alice.receive(Kind.PONG)
        stream = cast(Any, alice.stream)
        stream.transport_stream.socket.shutdown(trio.socket.SHUT_WR)
        assert await alice.stream.receive_some() == b""
    await eventually(lambda: not server.node.connections)


# -- certificates ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def replaceable(tmp_path: Path, issued: Certificate) -> Certificate:
    mine = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    put(issued, mine)
    return mine


def put(new: Certificate, place: Certificate) -> None:
    shutil.copy(new.certificate, place.certificate)
    shutil.copy(new.key, place.key)


def names(stream: trio.SSLStream[trio.SocketStream]) -> set[str]:
    return {name for _, name in stream.getpeercert()["subjectAltName"]}


async def test_a_new_certificate_reaches_new_connections_and_leaves_the_others_alone(
    settings: Settings,
    authority: Authority,
    replaceable: Certificate,
    trust: ssl.SSLContext,
    logs: list[structlog.typing.EventDict],
) -> None:
    settings = attrs.evolve(settings, tls_cert=replaceable.certificate, tls_key=replaceable.key)
    async with trio_chat.open_server(settings) as server:
        address = server.addresses[0]
        async with session(address, trust, "alice") as alice:
            put(authority.issue("new", "IP:127.0.0.1", "DNS:new.example"), replaceable)
            server.reload()
            async with encrypted(address, trust) as stream:
                assert "new.example" in names(stream)
            async with encrypted(page_of(server), trust) as stream:
                assert "new.example" in names(stream)
            await alice.quiet()
            # Files that are of no use change nothing.
            before = server.node.certificate and server.node.certificate.expires
            replaceable.key.write_text("no key")
            server.reload()
            replaceable.certificate.unlink()
            server.reload()
            async with encrypted(address, trust) as stream:
                assert "new.example" in names(stream)
            await alice.quiet()
            assert before == (server.node.certificate and server.node.certificate.expires)
    said = [entry for entry in logs if entry["event"].startswith("the certificate was not reloaded")]
    assert [entry["log_level"] for entry in said] == ["error", "error"]
    assert "not in PEM" in said[0]["reason"]
    assert "No such file" in said[1]["reason"]


async def test_certificates_that_are_of_no_use(settings: Settings, authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for certificate, key, said in (
        (one.certificate, other.key, "the key belongs to another certificate"),
        (one.certificate, empty, "the key is not in PEM"),
        (empty, one.key, "it has no certificate"),
        (tmp_path / "none", one.key, "--tls-cert .*: No such file"),
        (one.certificate, tmp_path / "none", "--tls-key .*: No such file"),
        (one.certificate, None, "the key is not in PEM"),
        (None, one.key, "--tls-key needs --tls-cert"),
    ):
        with pytest.raises(StartupError, match=said):
            async with trio_chat.open_server(attrs.evolve(settings, tls_cert=certificate, tls_key=key)):
                pass


async def test_a_key_that_everybody_can_read_is_warned_of(
    settings: Settings, replaceable: Certificate, logs: list[structlog.typing.EventDict]
) -> None:
    """And a certificate that ends soon. Both may be in one file."""
    both = replaceable.certificate
    both.write_text(both.read_text() + replaceable.key.read_text())
    both.chmod(0o644)
    async with trio_chat.open_server(attrs.evolve(settings, tls_cert=both, tls_key=None)):
        pass
    (warned,) = [entry for entry in logs if entry["event"].startswith("everybody")]
    assert (warned["log_level"], warned["file"]) == ("warning", str(both))
    (loaded,) = [entry for entry in logs if entry["event"] == "certificate loaded"]
    assert (loaded["log_level"], loaded["days_left"]) == ("warning", 1)


async def test_old_versions_of_tls_are_refused(server: Server, authority: Authority) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authority.certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(trio.BrokenResourceError):
        async with encrypted(server.addresses[0], old):
            pass
    modern = ssl.create_default_context(cafile=authority.certificate)
    modern.maximum_version = ssl.TLSVersion.TLSv1_2
    async with session(server.addresses[0], modern, "alice"):
        pass
