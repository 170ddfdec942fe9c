"""A server inside the test's own Trio program, on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import trio_chat
from trio_chat import Address, Server, Settings


def settings_for(request: pytest.FixtureRequest, directory: Path, **standard: Any) -> Settings:
    """A server in this folder; a test changes some with `@pytest.mark.settings(name=value, …)`."""
    marker = request.node.get_closest_marker("settings")
    changed: dict[str, Any] = dict(marker.kwargs) if marker else {}
    standard |= {"tcp": (Address("127.0.0.1", 0),), "database": f"sqlite:///{directory / 'chat.db'}"}
    return Settings(**(standard | changed))


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    return settings_for(request, tmp_path, http=None)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with trio_chat.open_server(settings) as running:
        yield running


@pytest.fixture
def address(server: Server) -> Address:
    return server.addresses[0]


@pytest.fixture
def database(settings: Settings, server: Server) -> Iterator[sqlite3.Connection]:
    """A connection to the server's database beside its own."""
    assert server.addresses
    connection = sqlite3.connect(settings.database.removeprefix("sqlite:///"), isolation_level=None)
    yield connection
    connection.close()
