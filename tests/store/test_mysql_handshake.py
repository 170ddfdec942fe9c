"""Logging in to what is not at hand: a MySQL 8, and a server that asks for what it must not get."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.services.certificates import Authority
from tests.store.fake_mysql import NONCE, OK, FakeServer, knows_password
from tests.store.faults import open_descriptors
from trio_chat.store.mysql_handshake import ConnectFailed, handshake
from trio_chat.store.mysql_options import MySQLOptions
from trio_chat.verify.programs.process import find_program

PASSWORD = "päss"
OPTIONS = MySQLOptions(user="me", password=PASSWORD, database="chat")

Talk = Callable[[FakeServer], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk, *, path: Path | None = None) -> AsyncIterator[MySQLOptions]:
    """A fake server for one connection, on TCP or on a unix socket, and the options to reach it."""
    family = trio.socket.AF_UNIX if path else trio.socket.AF_INET
    socket = trio.socket.socket(family)
    await socket.bind(str(path) if path else ("127.0.0.1", 0))
    socket.listen()
    port = 0 if path else socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(FakeServer.serve, talk, trio.SocketListener(socket))
        yield attrs.evolve(OPTIONS, port=port, unix_socket=str(path or ""))


async def logs_in(options: MySQLOptions) -> None:
    greeted = await handshake(options)
    assert greeted.version == "8.0.36"
    greeted.socket.close()


async def fast(server: FakeServer) -> None:
    """The server remembers the password's hash."""
    await server.greet()
    # A server that is sent a proof at once does not ask for one, and that way the driver gets wrong.
    assert b"caching_sha2_password" not in await server.receive()
    assert knows_password(await server.switch(b"caching_sha2_password"), PASSWORD.encode())
    await server.send(b"\1\3", OK)


async def full(server: FakeServer) -> None:
    """The server does not, and takes the password itself."""
    await server.greet()
    await server.receive()
    await server.switch(b"caching_sha2_password")
    await server.send(b"\1\4")
    assert await server.receive() == PASSWORD.encode() + b"\0"
    await server.send(OK)


async def test_caching_sha2_by_a_proof() -> None:
    async with serving(fast) as options:
        await logs_in(options)


async def test_caching_sha2_without_a_password() -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.receive()
        assert await server.switch(b"caching_sha2_password") == b"\0"
        await server.send(OK)

    async with serving(talk) as options:
        await logs_in(attrs.evolve(options, password=""))


async def test_caching_sha2_by_the_password_on_a_unix_socket(tmp_path: Path) -> None:
    async with serving(full, path=tmp_path / "s") as options:
        await logs_in(options)


async def test_caching_sha2_by_the_password_over_tls(authority: Authority) -> None:
    certificate = authority.issue("fake", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)

    async def talk(server: FakeServer) -> None:
        await server.greet(tls=True)
        await server.receive()
        server.stream = trio.SSLStream(server.stream, context, server_side=True)
        assert b"me\0" in await server.receive()
        await server.switch(b"caching_sha2_password")
        await server.send(b"\1\4")
        assert await server.receive() == PASSWORD.encode() + b"\0"
        await server.send(OK)
        server.stream = server.stream.transport_stream

    async with serving(talk) as options:
        trust = ssl.create_default_context(cafile=authority.certificate)
        await logs_in(attrs.evolve(options, host="localhost", tls=trust))


async def test_caching_sha2_encrypts_the_password_for_the_server_s_key(tmp_path: Path) -> None:
    openssl = find_program("openssl")
    key = tmp_path / "key.pem"
    await trio.run_process([openssl, "genrsa", "-out", str(key), "2048"], capture_stderr=True)
    public = await trio.run_process(
        [openssl, "rsa", "-in", str(key), "-pubout"], capture_stdout=True, capture_stderr=True
    )

    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.receive()
        await server.switch(b"caching_sha2_password")
        await server.send(b"\1\4")
        assert await server.receive() == b"\2"
        await server.send(b"\1" + public.stdout)
        decrypt = [openssl, "pkeyutl", "-decrypt", "-inkey", str(key), "-pkeyopt", "rsa_padding_mode:oaep"]
        mixed = await trio.run_process(decrypt, stdin=await server.receive(), capture_stdout=True)
        clear = bytes(one ^ other for one, other in zip(mixed.stdout, NONCE, strict=False))
        assert clear == PASSWORD.encode() + b"\0"
        await server.send(OK)

    async with serving(talk) as options:
        await logs_in(options)


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password", b"sha256_password"])
async def test_a_server_may_not_ask_for_the_password_as_it_is(plugin: bytes) -> None:
    heard = bytearray()

    async def talk(server: FakeServer) -> None:
        await server.greet(plugin=b"mysql_native_password")
        await server.receive()
        await server.send(b"\xfe" + plugin + b"\0" + NONCE + b"\0")
        async for data in server.stream:
            heard.extend(data)

    async with serving(talk) as options:
        with pytest.raises(ConnectFailed, match=plugin.decode()):
            await handshake(options)
    assert not heard


async def test_plain_text_may_not_be_slipped_in_before_tls(authority: Authority) -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet(tls=True, extra=b"\7\0\0\2\0\0\0\2\0\0\0")
        async for _ in server.stream:
            raise AssertionError("the client went on")

    async with serving(talk) as options:
        trust = ssl.create_default_context(cafile=authority.certificate)
        with pytest.raises(ConnectFailed, match="before TLS"):
            await handshake(attrs.evolve(options, host="localhost", tls=trust))


async def test_a_server_that_hangs_up_in_the_log_in() -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.receive()

    before = open_descriptors()
    async with serving(talk) as options:
        with pytest.raises(ConnectFailed, match="Lost connection"):
            await handshake(options)
    assert open_descriptors() == before
