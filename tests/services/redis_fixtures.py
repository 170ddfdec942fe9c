"""Fixtures for the private Redis. `tests/conftest.py` loads this file as a plugin."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_chat.verify.programs.redis import Redis

__all__ = ["redis", "redis_server"]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One Redis for the whole session; tests take `redis`, which repairs it."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory, Redis(Path(directory)) as server:
        yield server


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """A Redis that runs and is as after its start. A test may pause, kill or restart it."""
    yield _clean(redis_server)
    # Not left stopped or dead for those that take the server of the session.
    _clean(redis_server)


def _clean(server: Redis) -> Redis:
    server.resume()
    if not server.running:
        server.start()
    with server.client() as client:
        client.flushall()
        client.client_kill_filter(_type="pubsub")
    return server
