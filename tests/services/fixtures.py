"""Fixtures for the private services. `tests/conftest.py` loads this file as a plugin."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.certificates import Authority
from trio_chat.verify.programs.mariadb import MariaDB

__all__ = ["authority", "mariadb", "mysql_database"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that the tests' services and clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def mariadb(authority: Authority) -> Iterator[MariaDB]:
    """One MariaDB for the whole session, with TLS for the name `localhost`.

    A test that pauses, restarts or kills it leaves it running.
    """
    tls = authority.issue("mariadb", "DNS:localhost")
    options = [f"--ssl-cert={tls.certificate}", f"--ssl-key={tls.key}", f"--ssl-ca={authority.certificate}"]
    # Not pytest's tmp_path: a unix socket's path may have 108 bytes, and the data need not outlive the session.
    with (
        tempfile.TemporaryDirectory(prefix="mariadb-") as directory,
        MariaDB(Path(directory), options=options) as server,
    ):
        yield server


@pytest.fixture
def mysql_database(mariadb: MariaDB) -> Iterator[str]:
    """The name of a new, empty database on `mariadb`, dropped after the test."""
    name = f"test_{next(_numbers)}"
    mariadb.create_database(name)
    yield name
    mariadb.drop_database(name)
