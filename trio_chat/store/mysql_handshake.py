"""Greeting, TLS and authentication with a MySQL or MariaDB server: the part that trio-mysql does for us.

trio-mysql 1.0.3 is the driver for Trio, and has not changed since 2021. `_Driver` closes what is unsafe or broken in its
handshake; once that is over, `handshake` hands out the stream and the driver is not used any more.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import ssl
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from typing import Any, Final

import attrs
import trio

from trio_chat.store.mysql_options import MySQLOptions
from trio_chat.store.mysql_stream import AnswerStream

__all__ = ["ConnectFailed", "Greeted", "handshake"]


def _import_driver(module: str) -> Any:
    """Import a part of trio-mysql, also where the process's user has no name.

    It asks for that name when it is imported, for a default that we never use; from Python 3.13 on the answer "unknown"
    is an error that it does not expect. A container with an arbitrary user id is such a place.
    """
    try:
        getpass.getuser()
    except (OSError, KeyError, ImportError):
        os.environ["LOGNAME"] = "nobody"
        try:
            return import_module(f"trio_mysql.{module}")
        finally:
            del os.environ["LOGNAME"]
    return import_module(f"trio_mysql.{module}")


_DriverConnection: Any = _import_driver("connections").Connection
_DriverError: type[Exception] = _import_driver("err").Error

#: The server's and the driver's capability bits that we look at or add.
_CLIENT_FOUND_ROWS: Final = 1 << 1
_CLIENT_SSL: Final = 1 << 11
_CLIENT_MULTI_STATEMENTS: Final = 1 << 16

#: What a server may ask of us. Not the plug-ins that send the password as it is, which the driver would obey on any
#: connection: whoever stands between us and the server could ask for it.
_PLUGINS: Final = frozenset({b"mysql_native_password", b"caching_sha2_password", b"client_ed25519"})


#: The steps of caching_sha2_password.
_FAST_OK: Final = b"\1\3"
_SEND_PASSWORD: Final = b"\1\4"
_ASK_FOR_KEY: Final = b"\2"


class ConnectFailed(Exception):
    """A connection could not be made. `errno` is the server's number for the reason, 0 where it was not the server."""

    def __init__(self, reason: str, errno: int = 0) -> None:
        self.errno = errno
        super().__init__(reason)


@attrs.frozen
class Greeted:
    """A server that let us in: the stream to talk to it, the descriptor below that stream, and its version."""

    stream: trio.abc.Stream
    socket: socket.socket | trio.socket.SocketType
    version: str


async def handshake(options: MySQLOptions) -> Greeted:
    """Connect and log in. Raises `ConnectFailed`.

    No limit of time: the caller sets a deadline. Cancelling is safe, the socket is closed then.
    """
    try:
        stream = await _dial(options)
    except OSError as error:
        raise ConnectFailed(_dial_reason(error)) from error
    try:
        return await _log_in(stream, options)
    except BaseException:
        # The driver's own close has no effect on a stream: it would leave the descriptor open.
        stream.socket.close()
        raise


async def _dial(options: MySQLOptions) -> trio.SocketStream:
    if options.unix_socket:
        return await trio.open_unix_socket(options.unix_socket)
    stream = await trio.open_tcp_stream(options.host, options.port)
    # So that a server that vanished without a word is noticed on a connection that waits without a deadline.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream


def _dial_reason(error: OSError) -> str:
    cause = error.__cause__
    errors = cause.exceptions if isinstance(cause, BaseExceptionGroup) else [cause or error]
    return "; ".join(sorted({_one_reason(each) for each in errors}))


def _one_reason(error: BaseException) -> str:
    # Trio's text has the address as well. A name that is not known has a negative number, which is no errno.
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)


async def _log_in(stream: trio.SocketStream, options: MySQLOptions) -> Greeted:
    driver = _Driver(options)
    try:
        await driver.connect(stream)
        talk = driver.take_stream()
        if talk is stream:
            plain = _plain(stream)
            return Greeted(AnswerStream(plain), plain, driver.server_version)
        return Greeted(talk, stream.socket, driver.server_version)
    except ConnectFailed:
        raise
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        reason = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause or error)
        raise ConnectFailed(f"TLS failed: {reason}" if options.tls else reason) from error
    except _DriverError as error:
        errno, text = (*error.args, "", "")[:2]
        raise ConnectFailed(str(text or errno), errno if isinstance(errno, int) else 0) from error
    except Exception as error:  # the driver raises about anything on bytes that no MySQL sends
        raise ConnectFailed(f"its greeting was not understood ({type(error).__name__}: {error})") from error


def _plain(stream: trio.SocketStream) -> socket.socket:
    """The socket of a stream that is not used any more."""
    sock = stream.socket
    family, kind, protocol = sock.family, sock.type, sock.proto
    plain = socket.socket(family, kind, protocol, fileno=sock.detach())
    plain.setblocking(False)
    return plain


class _Driver(_DriverConnection):  # type: ignore[misc]  # it has no types
    """trio-mysql's connection, used up to the end of its handshake."""

    _sock: Any

    def __init__(self, options: MySQLOptions) -> None:
        super().__init__(
            user=options.user,
            password=options.password.encode(),  # the driver would take Latin-1
            host=options.host,
            port=options.port,
            database=options.database,
            charset="utf8mb4",
            use_unicode=True,
            autocommit=None,  # no statement of its own: the session is set up in one of ours
            # An UPDATE that finds a row has changed it, as in SQLite, also where it had these values before.
            # The last statement of a transaction and COMMIT go together.
            client_flag=_CLIENT_FOUND_ROWS | _CLIENT_MULTI_STATEMENTS,
            ssl=options.tls,
        )
        self._secure = bool(options.unix_socket)

    def take_stream(self) -> trio.abc.Stream:
        """The stream, of which the driver forgets."""
        if len(self._rbuf) != self._rbuf_offset:
            raise ConnectFailed("the server sent more than its greeting")
        stream: trio.abc.Stream = self._sock
        self._sock = None
        return stream

    def _force_close(self) -> None:
        self._sock = None  # `handshake` closes the socket
        self._closed = True

    __del__ = _force_close

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self.ssl:
            if not self.server_capabilities & _CLIENT_SSL:
                raise ConnectFailed("the server does not offer TLS, and without it nothing is sent")
            if len(self._rbuf) != self._rbuf_offset:
                # They would be read as if they had come encrypted.
                raise ConnectFailed("the server sent bytes in plain text before TLS")
        # The driver answers a greeting that begins with caching_sha2_password wrongly (an await is missing). To the
        # older method the server replies by asking for the account's own, and that question the driver hands to us.
        self._auth_plugin_name = "mysql_native_password"

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        if plugin_name not in _PLUGINS:
            shown = plugin_name.decode(errors="replace")
            raise ConnectFailed(f"the server asks for the authentication method {shown}, which is not supported")
        if plugin_name == b"client_ed25519" and find_spec("nacl") is None:
            raise ConnectFailed("the server asks for client_ed25519, for which the package PyNaCl has to be installed")
        if plugin_name == b"caching_sha2_password":
            return await self._caching_sha2(auth_packet.read_all()[:20])
        return await super()._process_auth(plugin_name, auth_packet)

    async def _caching_sha2(self, nonce: bytes) -> Any:
        """The default method of MySQL 8. `nonce` are the server's 20 random bytes.

        The server knows a hash of a password that was used since its start, then a proof is enough. Otherwise it needs
        the password itself: as it is where nobody can listen, or else encrypted for its public key. That keeps it from
        those who listen, not from those who can pretend to be the server: for that there is TLS.
        """
        packet = await self._ask(_scramble(self.password, nonce) or b"\0")
        if packet.is_ok_packet():
            return packet
        answer = packet.get_all_data()
        if answer == _FAST_OK:
            return await self._read_packet()
        if answer != _SEND_PASSWORD:
            raise ConnectFailed("the server's answer in caching_sha2_password was not understood")
        if self._secure:
            return await self._ask(self.password + b"\0")
        key = (await self._ask(_ASK_FOR_KEY)).get_all_data()
        if key[:1] != b"\1":
            raise ConnectFailed("the server did not send its public key")
        return await self._ask(_encrypt(key[1:], _xor(self.password + b"\0", nonce)))

    async def _ask(self, payload: bytes) -> Any:
        await self.write_packet(payload)
        return await self._read_packet()


def _scramble(password: bytes, nonce: bytes) -> bytes:
    """The proof that we know the password: SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)."""
    if not password:
        return b""
    once = hashlib.sha256(password).digest()
    twice = hashlib.sha256(once).digest()
    return _xor(once, hashlib.sha256(twice + nonce).digest())


def _xor(data: bytes, key: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(data, cycle(key), strict=False))


def _encrypt(key: bytes, data: bytes) -> bytes:
    """Encrypt for a public key in PEM, as MySQL wants it."""
    # Here, because they take their time, and most servers never need them.
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    public = serialization.load_pem_public_key(key)
    if not isinstance(public, rsa.RSAPublicKey):
        raise ConnectFailed("the server's public key is not one of RSA")
    return public.encrypt(data, padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None))  # noqa: S303
