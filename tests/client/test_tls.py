"""The library over TLS, and against whatever answers in the place of a TLS server; on either event loop."""

from __future__ import annotations

import ssl
from contextlib import suppress

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from tests.client.fake import FakeServer, Session
from tests.client.fake_link import FakeStream
from tests.services.certificates import Authority, Certificate
from trio_chat.client import NotReachable, Options, connect

QUICK = Options(reconnect_first=0.01, reconnect_limit=0.05)

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("chat", "IP:127.0.0.1")


async def bridge(session: Session, stream: ByteStream) -> None:
    """Serve a session of the fake server on a connection, until either of them ends."""
    fake = FakeStream(session)

    async def copy(source: ByteStream, to: ByteStream) -> None:
        with suppress(*GONE):
            while True:
                await to.send(await source.receive())
        tasks.cancel_scope.cancel()

    async with stream, fake, anyio.create_task_group() as tasks:
        tasks.start_soon(copy, stream, fake)
        tasks.start_soon(copy, fake, stream)


@backends
def test_a_conversation_over_tls_that_breaks(backend: str, authority: Authority, certificate: Certificate) -> None:
    """The server goes away within the handshake, too; the client comes back and nothing is lost."""
    server = FakeServer()
    server.account("alice")
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    there.load_cert_chain(certificate.certificate, certificate.key)
    here = ssl.create_default_context(cafile=authority.certificate)
    cut: list[str] = []

    async def main() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

            async def handle(stream: SocketStream) -> None:
                async with stream:
                    if cut:
                        cut.pop()
                        return  # before the handshake
                    with suppress(*GONE, ssl.SSLError):
                        encrypted = await TLSStream.wrap(
                            stream, ssl_context=there, server_side=True, standard_compatible=False
                        )
                        await bridge(server.connect(), encrypted)

            port = listener.extra(SocketAttribute.local_port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, handle)
                async with connect(f"tls://127.0.0.1:{port}", options=QUICK, ssl_context=here) as chat:
                    await chat.login("alice", "pw")
                    assert (await chat.send(1, "one")).seq == 1
                    cut.extend(["once", "twice"])
                    for session in list(server.sessions):
                        session.close()
                    assert (await chat.send(1, "two")).seq == 2
                    assert not cut
                with pytest.raises(NotReachable, match="certificate"):
                    async with connect(f"tls://127.0.0.1:{port}"):
                        pass
                tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


@backends
@pytest.mark.parametrize("answer", [b"", b"this is no TLS\n"], ids=["nothing", "text"])
def test_what_is_no_tls_server_is_not_reachable(backend: str, answer: bytes) -> None:
    async def main() -> None:
        async def handle(stream: SocketStream) -> None:
            async with stream:
                if answer:
                    await stream.send(answer)

        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, handle)
            port = listener.extra(SocketAttribute.local_port)
            with pytest.raises(NotReachable, match=r"TLS|SSL"):
                async with connect(f"tls://127.0.0.1:{port}"):
                    pass
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


@backends
def test_a_host_that_cannot_be_is_not_reachable(backend: str) -> None:
    async def main() -> None:
        with pytest.raises(NotReachable, match="is not the name of a host"):
            async with connect("é" * 70 + ":1"):
                pass

    anyio.run(main, backend=backend)
