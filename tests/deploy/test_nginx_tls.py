"""The shipped nginx configurations with TLS, run by a real nginx in front of a real server: ended there, or passed through."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio

import trio_chat
from tests.http.raw import Raw, masked, request, upgrade
from tests.services.certificates import Authority, Certificate
from tests.wire import Wire
from trio_chat import Address, Server, Settings
from trio_chat.client import connect
from trio_chat.verify.programs.nginx import MODULES, load_stream
from trio_chat.verify.programs.process import ServiceProcess, accepts, find_program, free_port
from trio_chat.wire.messages import Kind

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
HOW = ("nginx-tls.conf", "nginx-passthrough.conf")


@attrs.frozen
class Front:
    """nginx, and the server behind it."""

    server: Server
    chat: Address
    web: Address
    plain: Address | None


def server_behind(tmp_path: Path, issued: Certificate | None) -> Settings:
    anywhere = Address("127.0.0.1", 0)
    return Settings(
        tcp=(anywhere,),
        http=anywhere,
        database=f"sqlite:///{tmp_path / 'chat.db'}",
        proxy_protocol=True,
        tls_cert=issued.certificate if issued else None,
        tls_key=issued.key if issued else None,
    )


@contextmanager
def nginx(directory: Path, name: str, server: Server, issued: Certificate) -> Iterator[dict[str, int]]:
    """Run it with the shipped file, but for paths and ports; yields its ports by the shipped ones."""
    directory.mkdir()
    program = find_program("nginx")
    text = (DEPLOY / name).read_text(encoding="utf-8").replace(MODULES, load_stream(program))
    text = text.replace("/etc/nginx/fullchain.pem", str(issued.certificate))
    text = text.replace("/etc/nginx/privkey.pem", str(issued.key))
    text = text.replace("pid /run/nginx.pid;", f"pid {directory / 'nginx.pid'};")
    paths = "".join(
        f"{each}_temp_path {directory / each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {\n", f"http {{\n{paths}")
    ports = {port: free_port() for port in re.findall(r"(?m)^ *listen (\d+)", text)}
    text = re.sub(r"(?m)^( *listen )(\d+)", lambda found: f"{found[1]}127.0.0.1:{ports[found[2]]}", text)
    (directory / "nginx.conf").write_text(text)
    for file, address in (("nodes.conf", str(server.addresses[0])), ("nodes-web.conf", server.pages[0].split("/")[2])):
        shipped = (DEPLOY / file).read_text(encoding="utf-8")
        (directory / file).write_text(re.sub(r"(?m)^server \S+(.*)\n(server .*\n)*", rf"server {address}\1\n", shipped))
    command = [program, "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
    run = directory / "run"
    run.mkdir()
    with ServiceProcess("nginx", command, directory=run, ready=lambda: accepts(ports["6000"])):
        yield ports


@pytest.fixture(params=HOW)
async def front(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> AsyncIterator[Front]:
    issued = authority.issue("front", "DNS:localhost", "IP:127.0.0.1")
    through = request.param == "nginx-passthrough.conf"
    async with trio_chat.open_server(server_behind(tmp_path, issued if through else None)) as server:
        with nginx(tmp_path / "nginx", request.param, server, issued) as ports:
            yield Front(
                server,
                Address("127.0.0.1", ports["6000"]),
                Address("127.0.0.1", ports["443"]),
                Address("127.0.0.1", ports["80"]) if "80" in ports else None,
            )


@asynccontextmanager
async def encrypted(address: Address, trust: ssl.SSLContext) -> AsyncIterator[tuple[Any, int]]:
    tcp = await trio.open_tcp_stream(*address)
    stream = trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True)
    try:
        yield stream, tcp.socket.getsockname()[1]
    finally:
        await trio.aclose_forcefully(tcp)


async def test_chat_and_page_through_nginx(front: Front, authority: Authority) -> None:
    """With the client's address; the certificate is the one that was given to whoever ends TLS."""
    trust = ssl.create_default_context(cafile=authority.certificate)
    async with encrypted(front.chat, trust) as (stream, port):
        wire = Wire(cast(Any, stream))
        await wire.ok(Kind.HELLO, version=1)
        await wire.ok(Kind.REGISTER, name="alice", password="secret")
        await wire.ok(Kind.LOGIN, name="alice", password="secret")
        (connection,) = front.server.node.connections
        assert connection.peer == f"127.0.0.1:{port}", "nginx's own port would be another one"
    async with connect(f"tls://localhost:{front.chat.port}", ssl_context=trust) as chat:
        await chat.login("alice", "secret")
        assert (await chat.send(1, "to myself")).seq == 1
    async with encrypted(front.web, trust) as (stream, _):
        await stream.send_all(request("/", Connection="close"))
        answer = await Raw(stream).answer()
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    async with encrypted(front.web, trust) as (stream, _):
        raw = Raw(stream)
        await raw.send(upgrade(Origin="https://chat.example"))
        assert (await raw.answer()).status == 101
        await raw.send(masked(1, b'{"msgid":22,"data":1}'))
        assert (await raw.event()).payload == b'{"msgid":23,"data":1}'
    if front.plain is not None:
        async with await trio.open_tcp_stream(*front.plain) as plain:
            await plain.send_all(request("/x?y", Connection="close"))
            answer = await Raw(plain).answer()
            assert (answer.status, answer.headers["location"]) == (301, "https://chat.example/x?y")
        async with encrypted(front.web, trust) as (stream, _):
            await stream.send_all(request("/metrics", Connection="close"))
            assert (await Raw(stream).answer()).status == 404
