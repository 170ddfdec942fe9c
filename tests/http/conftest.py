"""A server inside the test's own Trio program that serves HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http.raw import address_of
from tests.server.conftest import server, settings_for
from trio_chat import Address, Server, Settings

__all__ = ["http", "server", "settings"]


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    return settings_for(request, tmp_path, http=Address("127.0.0.1", 0))


@pytest.fixture
def http(server: Server) -> Address:
    return address_of(server)
