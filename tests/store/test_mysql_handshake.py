"""Logging in to what is not at hand: a MySQL 8, and a server that asks for what it must not get."""

from __future__ import annotations

import hashlib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_curve_key
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.services.certificates import Authority
from tests.store.fake_mysql import NONCE, OK, FakeServer, column, error, knows_password
from tests.store.faults import open_descriptors
from trio_chat.store.mysql_driver import Connection, ConnectionLost, StatementFailed
from trio_chat.store.mysql_handshake import ConnectFailed, handshake
from trio_chat.store.mysql_options import MySQLOptions
from trio_chat.store.mysql_protocol import ServerError

PASSWORD = "päss"
OPTIONS = MySQLOptions(user="me", password=PASSWORD, database="chat")

Talk = Callable[[FakeServer], Awaitable[None]]


@asynccontextmanager
async def serving(
    talk: Talk, *, path: Path | None = None, drip: bool = False, given_up: bool = False
) -> AsyncIterator[MySQLOptions]:
    """A fake server for one connection, on TCP or on a unix socket, and the options to reach it.

    With `drip` each of its bytes comes alone; one that never ends by itself is `given_up`.
    """
    family = trio.socket.AF_UNIX if path else trio.socket.AF_INET
    socket = trio.socket.socket(family)
    await socket.bind(str(path) if path else ("127.0.0.1", 0))
    socket.listen()
    port = 0 if path else socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(FakeServer.serve, talk, trio.SocketListener(socket), drip=drip))
        yield attrs.evolve(OPTIONS, port=port, unix_socket=str(path or ""))
        if given_up:
            nursery.cancel_scope.cancel()


async def logs_in(options: MySQLOptions) -> None:
    greeted = await handshake(options)
    assert greeted.version == "8.0.36"
    greeted.socket.close()


# --- The ways to log in ---


async def begin(server: FakeServer, secret: str = PASSWORD) -> None:
    """Up to the proof, which has to be right."""
    await server.greet()
    # A server that is sent a proof at once does not ask for one, and that way the driver gets wrong.
    assert b"caching_sha2_password" not in await server.response()
    assert knows_password(await server.switch(b"caching_sha2_password"), secret.encode())


async def fast(server: FakeServer) -> None:
    """The server remembers the password's hash."""
    await begin(server)
    await server.send(b"\1\3", OK)


async def full(server: FakeServer) -> None:
    """The server does not, and takes the password itself."""
    await begin(server)
    await server.send(b"\1\4")
    assert await server.receive() == PASSWORD.encode() + b"\0"
    await server.send(OK)


@attrs.frozen
class Encrypted:
    """The same where others could listen: the server takes the password encrypted for its key."""

    key: RSAPrivateKey
    secret: str = PASSWORD

    async def __call__(self, server: FakeServer) -> None:
        await begin(server, self.secret)
        await server.send(b"\1\4")
        assert await server.receive() == b"\2"
        public = self.key.public_key()
        await server.send(b"\1" + public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        mixed = self.key.decrypt(await server.receive(), OAEP(mgf=MGF1(SHA1()), algorithm=SHA1(), label=None))  # noqa: S303
        assert (
            bytes(one ^ other for one, other in zip(mixed, cycle(NONCE), strict=False)) == self.secret.encode() + b"\0"
        )
        await server.send(OK)


@attrs.frozen
class OverTLS:
    """A log-in within TLS, and nothing of it before."""

    context: ssl.SSLContext
    inner: Talk

    async def __call__(self, server: FakeServer) -> None:
        await server.greet(tls=True)
        await server.receive()
        server.stream = trio.SSLStream(server.stream, self.context, server_side=True)
        assert b"me\0" in await server.response()
        await server.switch(b"caching_sha2_password")
        await self.inner(server)
        server.stream = server.stream.transport_stream


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """The server's half of TLS."""
    certificate = authority.issue("fake", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def trusting(options: MySQLOptions, authority: Authority) -> MySQLOptions:
    return attrs.evolve(options, host="localhost", tls=ssl.create_default_context(cafile=authority.certificate))


@pytest.mark.parametrize("drip", [False, True])
async def test_caching_sha2_by_a_proof(drip: bool) -> None:
    async with serving(fast, drip=drip) as options:
        await logs_in(options)


async def test_caching_sha2_without_a_password() -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.response()
        assert await server.switch(b"caching_sha2_password") == b"\0"
        await server.send(OK)

    async with serving(talk) as options:
        await logs_in(attrs.evolve(options, password=""))


async def test_caching_sha2_by_the_password_on_a_unix_socket(tmp_path: Path) -> None:
    async with serving(full, path=tmp_path / "s") as options:
        await logs_in(options)


async def test_caching_sha2_by_a_proof_over_tls(context: ssl.SSLContext, authority: Authority) -> None:
    async def proof(server: FakeServer) -> None:
        await server.send(b"\1\3", OK)

    async with serving(OverTLS(context, proof)) as options:
        await logs_in(trusting(options, authority))


async def test_caching_sha2_by_the_password_over_tls(context: ssl.SSLContext, authority: Authority) -> None:
    async def password(server: FakeServer) -> None:
        await server.send(b"\1\4")
        assert await server.receive() == PASSWORD.encode() + b"\0"
        await server.send(OK)

    async with serving(OverTLS(context, password)) as options:
        await logs_in(trusting(options, authority))


@pytest.mark.parametrize("secret", [PASSWORD, "x" * 200])
@pytest.mark.parametrize("drip", [False, True])
async def test_caching_sha2_encrypts_the_password_for_the_server_s_key(
    key: RSAPrivateKey, secret: str, drip: bool
) -> None:
    async with serving(Encrypted(key, secret), drip=drip) as options:
        await logs_in(attrs.evolve(options, password=secret))


async def test_the_older_method_of_an_account_on_mysql_8() -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.response()
        proof = await server.switch(b"mysql_native_password")
        once = hashlib.sha1(PASSWORD.encode()).digest()  # noqa: S324 - the method is what it is
        mask = hashlib.sha1(NONCE + hashlib.sha1(once).digest()).digest()  # noqa: S324
        assert proof == bytes(one ^ other for one, other in zip(once, mask, strict=True))
        await server.send(OK)

    async with serving(talk) as options:
        await logs_in(options)


# --- Logins that fail ---


@pytest.mark.parametrize("after", ["the greeting", "a proof", "the password", "the key", "the encrypted password"])
async def test_a_refusal_at_any_step_is_understood(key: RSAPrivateKey, after: str, tmp_path: Path) -> None:
    denied = error(1045, "Access denied for user 'me'", "28000")

    async def talk(server: FakeServer) -> None:
        if after == "the greeting":
            await server.greet()
            await server.response()
            await server.send(denied)
            return
        await begin(server)
        if after == "a proof":
            await server.send(denied)
            return
        await server.send(b"\1\4")
        await server.receive()
        if after == "the encrypted password":
            await server.send(b"\1" + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            await server.receive()
        await server.send(denied)

    before = open_descriptors()
    async with serving(talk, path=tmp_path / "s" if after == "the password" else None) as options:
        with pytest.raises(ConnectFailed, match="Access denied") as caught:
            await handshake(options)
    assert caught.value.errno == 1045
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\1\5", "not understood"),
        (b"\1", "not understood"),
        (b"\1\4", "public key"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, text: str) -> None:
    async def talk(server: FakeServer) -> None:
        await begin(server)
        await server.send(answer)
        if text == "public key":
            assert await server.receive() == b"\2"
            await server.send(b"\2nonsense")

    async with serving(talk) as options:
        with pytest.raises(ConnectFailed, match=text):
            await handshake(options)


@pytest.mark.parametrize("kind", ["nonsense", "curve"])
async def test_a_key_that_is_none_gets_no_password(kind: str) -> None:
    curve = generate_curve_key(SECP256R1()).public_key()
    pem = b"nonsense" if kind == "nonsense" else curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    heard = bytearray()

    async def talk(server: FakeServer) -> None:
        await begin(server)
        await server.send(b"\1\4")
        assert await server.receive() == b"\2"
        await server.send(b"\1" + pem)
        async for data in server.stream:
            heard.extend(data)

    async with serving(talk) as options:
        with pytest.raises(ConnectFailed):
            await handshake(options)
    assert not heard


@pytest.mark.parametrize("step", range(5))
async def test_cancelled_at_any_step_no_descriptor_is_left(step: int, key: RSAPrivateKey) -> None:
    reached = trio.Event()

    async def stand_still(at: int) -> None:
        if at == step:
            reached.set()
            await trio.sleep_forever()

    async def talk(server: FakeServer) -> None:
        await stand_still(0)
        await server.greet()
        await server.response()
        await stand_still(1)
        await server.switch(b"caching_sha2_password")
        await stand_still(2)
        await server.send(b"\1\4")
        await server.receive()
        await stand_still(3)
        await server.send(b"\1" + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        await server.receive()
        await stand_still(4)

    before = open_descriptors()
    async with serving(talk, given_up=True) as options, trio.open_nursery() as nursery:
        nursery.start_soon(handshake, options)
        await reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert open_descriptors() == before


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


async def test_a_method_that_needs_another_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(server: FakeServer) -> None:
        await server.greet()
        await server.response()
        with pytest.raises(EOFError):
            await server.switch(b"client_ed25519")

    monkeypatch.setitem(sys.modules, "nacl", None)
    async with serving(talk) as options:
        with pytest.raises(ConnectFailed, match="PyNaCl"):
            await handshake(options)


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


# --- After the login ---


@pytest.mark.parametrize("drip", [False, True])
async def test_a_whole_session_on_mysql_8(drip: bool) -> None:
    """Set-up, rows, a refusal, a statement together with COMMIT, and the server's good-bye."""

    async def talk(server: FakeServer) -> None:
        await fast(server)
        assert await server.statement() == "SELECT @@max_allowed_packet"
        await server.rows([column("@@max_allowed_packet", 8, charset=63)], [b"67108864"])
        assert "READ COMMITTED" in await server.statement()
        await server.send(OK)
        assert "SET NAMES utf8mb4" in await server.statement()
        await server.send(OK)
        assert await server.statement() == "SELECT id, name FROM User WHERE name = 'hé'"
        await server.rows([column("id", 8, charset=63), column("name", 253)], [b"7", "hé".encode()], [b"8", None])
        assert await server.statement() == "INSERT INTO User VALUES (7)"
        await server.send(error(1062, "Duplicate entry '7' for key 'User.PRIMARY'", "23000"))
        assert await server.statement() == "UPDATE User SET state = 1;COMMIT"
        changed = b"\0\1\0\x0a\0\0\0Rows matched: 1  Changed: 1  Warnings: 0"  # more results follow
        await server.send(changed, OK)
        assert await server.statement() == "UPDATE User SET state = 2;COMMIT"
        await server.send(error(1213, "Deadlock found when trying to get lock", "40001"))
        assert await server.statement() == "SELECT 1"
        await server.send(error(4031, "The client was disconnected by the server because of inactivity."))

    async with serving(talk, drip=drip) as options:
        connection = await Connection.open(options, autocommit=False, lock_wait=1)
        result = await connection.execute("SELECT id, name FROM User WHERE name = ?", ("hé",))
        assert result.rows == [(7, "hé"), (8, None)]
        with pytest.raises(ServerError, match="Duplicate"):
            await connection.execute("INSERT INTO User VALUES (?)", (7,))
        await connection.commit([("UPDATE User SET state = ?", (1,))])
        assert connection.ready
        with pytest.raises(StatementFailed, match="Deadlock"):
            await connection.commit([("UPDATE User SET state = ?", (2,))])
        with pytest.raises(ConnectionLost, match="inactivity"):
            await connection.execute("SELECT 1")
        connection.close()
