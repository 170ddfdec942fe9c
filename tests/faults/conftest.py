"""The same nodes as in the cluster's tests, with the settings that operators get."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import nodes
from tests.services.mariadb import MariaDB
from tests.services.redis import Redis
from trio_chat import Address, Settings

__all__ = ["nodes", "settings"]


@pytest.fixture
def settings(mariadb: MariaDB, mysql_database: str, redis: Redis) -> Settings:
    return Settings(tcp=(Address("127.0.0.1", 0),), database=mariadb.url(mysql_database), bus=redis.url)
