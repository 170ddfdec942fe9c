"""A server with TLS inside the test's own Trio program, and who trusts it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trio_chat
from tests.services.certificates import Authority, Certificate
from trio_chat import Address, Server, Settings


@pytest.fixture(scope="package")
def issued(authority: Authority) -> Certificate:
    """A certificate for this machine."""
    return authority.issue("here", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="package")
def trust(authority: Authority) -> ssl.SSLContext:
    """The client's side."""
    return ssl.create_default_context(cafile=authority.certificate)


@pytest.fixture
def settings(tmp_path: Path, issued: Certificate, request: pytest.FixtureRequest) -> Settings:
    """Change some with `@pytest.mark.settings(name=value, …)`."""
    marker = request.node.get_closest_marker("settings")
    changed: dict[str, Any] = dict(marker.kwargs) if marker else {}
    anywhere = Address("127.0.0.1", 0)
    standard: dict[str, Any] = {
        "tcp": (anywhere,),
        "http": anywhere,
        "database": f"sqlite:///{tmp_path / 'chat.db'}",
        "tls_cert": issued.certificate,
        "tls_key": issued.key,
    }
    return Settings(**(standard | changed))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with trio_chat.open_server(settings) as running:
        yield running
