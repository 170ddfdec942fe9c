"""The nginx configuration for browsers in docs/operations.md, run by a real nginx in front of a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import trio_chat
from tests.docs.pages import blocks
from tests.http.raw import address_of, ask, masked, open_raw, request, upgrade
from trio_chat import Address, Server, Settings
from trio_chat.verify.programs.process import ServiceProcess, accepts, find_program, free_port

pytestmark = pytest.mark.slow


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    anywhere = Address("127.0.0.1", 0)
    settings = Settings(
        tcp=(anywhere,), http=anywhere, database=f"sqlite:///{tmp_path / 'chat.db'}", proxy_protocol=True
    )
    async with trio_chat.open_server(settings) as running:
        yield running


@pytest.fixture
async def nginx(server: Server, tmp_path: Path) -> AsyncIterator[Address]:
    (block,) = [each for each in blocks("nginx") if "location /ws" in each.text]
    port = free_port()
    text = block.text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"server 127\.0\.0\.1:8001;", f"server {address_of(server)};", text)
    text = re.sub(r"server 127\.0\.0\.1:8002;", f"server 127.0.0.1:{free_port()};", text)
    paths = "".join(
        f"{name}_temp_path {tmp_path / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path / 'nginx.pid'};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{text}}}\n"
    )
    command = [find_program("nginx"), "-c", str(config), "-g", "daemon off;"]
    process = ServiceProcess("nginx", command, directory=tmp_path / "run", ready=lambda: accepts(port))
    (tmp_path / "run").mkdir()
    with process:
        yield Address("127.0.0.1", port)


async def test_browsers_get_the_page_and_the_chat_and_nothing_else(server: Server, nginx: Address) -> None:
    page = await ask(nginx, request("/", Connection="close"))
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/metrics", "/livez", "/readyz"):
        assert (await ask(nginx, request(path, Connection="close"))).status == 404
    async with open_raw(nginx) as raw:
        await raw.send(upgrade(Origin="https://chat.example"))
        assert (await raw.answer()).status == 101
        await raw.send(masked(1, b'{"msgid":22,"data":1}'))
        assert (await raw.event()).payload == b'{"msgid":23,"data":1}'
        assert [connection.peer for connection in server.node.connections] == ["127.0.0.1"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert b"shutting_down" in (await raw.event()).payload
            assert (await raw.event()).code == 1001
            await raw.stream.aclose()
    async with open_raw(nginx) as raw:
        await raw.send(upgrade(Origin="https://evil.example"))
        assert (await raw.answer()).status in {403, 502}
