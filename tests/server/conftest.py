"""A server inside the test's own Trio program, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trio_chat
from trio_chat import Address, Server, Settings


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Change some with `@pytest.mark.settings(name=value, …)`."""
    marker = request.node.get_closest_marker("settings")
    changed: dict[str, Any] = dict(marker.kwargs) if marker else {}
    changed.setdefault("tcp", (Address("127.0.0.1", 0),))
    changed.setdefault("http", None)
    changed.setdefault("database", f"sqlite:///{tmp_path / 'chat.db'}")
    return Settings(**changed)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with trio_chat.open_server(settings) as running:
        yield running


@pytest.fixture
def address(server: Server) -> Address:
    return server.addresses[0]
