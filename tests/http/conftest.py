"""A server inside the test's own Trio program that serves HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trio_chat
from tests.http.raw import address_of
from trio_chat import Address, Server, Settings


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Change some with `@pytest.mark.settings(name=value, …)`."""
    marker = request.node.get_closest_marker("settings")
    changed: dict[str, Any] = dict(marker.kwargs) if marker else {}
    anywhere = Address("127.0.0.1", 0)
    standard = {"tcp": (anywhere,), "http": anywhere, "database": f"sqlite:///{tmp_path / 'chat.db'}"}
    return Settings(**(standard | changed))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with trio_chat.open_server(settings) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Address:
    return address_of(server)
