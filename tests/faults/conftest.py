"""The same nodes as in the cluster's tests, with the settings that operators get."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.cluster.conftest import nodes
from trio_chat import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.redis import Redis

__all__ = ["Show", "nodes", "settings", "show"]

Show = Callable[[str], None]


@pytest.fixture
def settings(mariadb: MariaDB, mysql_database: str, redis: Redis) -> Settings:
    return Settings(tcp=(Address("127.0.0.1", 0),), http=None, database=mariadb.url(mysql_database), bus=redis.url)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Write a measured figure where people see it."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n{text}\n")

    return write
