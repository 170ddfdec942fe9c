"""`check` on a SQLite file: in use, missing, damaged, too old, too new, in the wrong place."""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_chat.check.finding import Finding, Level
from trio_chat.check.sqlite import check_sqlite
from trio_chat.store.schema import migrate, newest
from trio_chat.store.sqlite import SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chat.db"

    async def make() -> None:
        async with SQLite.open(path) as database:
            await migrate(database)

    trio.run(make)
    return path


def bad(path: Path, *, thoroughly: bool = False) -> dict[str, Finding]:
    """What is not as it should be."""
    findings = trio.run(partial(check_sqlite, path, thoroughly=thoroughly))
    return {each.says: each for each in findings if each.level is not Level.OK}


def change(file: Path, sql: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(sql)
    connection.close()


def test_a_file_that_a_server_left(file: Path) -> None:
    before = sorted(file.parent.iterdir())
    assert bad(file, thoroughly=True) == {}
    assert sorted(file.parent.iterdir()) == before


async def test_a_file_that_a_server_has_open(file: Path) -> None:
    async with SQLite.open(file):
        findings = await check_sqlite(file, thoroughly=True)
    assert {each.level for each in findings} == {Level.OK}
    assert f"a server has {file} open" in [each.says for each in findings]


async def test_the_server_makes_it_for_its_user_alone(file: Path) -> None:
    async with SQLite.open(file):
        assert len(await check_sqlite(file, thoroughly=False)) > 1
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(file.parent)}
    assert modes == dict.fromkeys(["chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"], 0o600)


def test_a_file_that_others_may_read(file: Path) -> None:
    file.chmod(0o644)
    (finding,) = bad(file).values()
    assert (finding.level, finding.do) == (Level.WARNING, f"chmod 600 {file}")


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    (finding,) = bad(tmp_path / "new" / "chat.db").values()
    assert (finding.level, "is not there yet" in finding.says) == (Level.NOTE, True)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path}/chat.db is not there yet: the first start makes it" in bad(Path("chat.db"))


def test_a_directory(tmp_path: Path) -> None:
    (finding,) = bad(tmp_path).values()
    assert (finding.level, "is a directory" in finding.says) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("sql", "level", "says"),
    [
        ("UPDATE SchemaVersion SET version = 1", Level.NOTE, "version 1; the next start"),
        (f"UPDATE SchemaVersion SET version = {newest() + 1}", Level.PROBLEM, "this program knows versions up to"),
        ("UPDATE SchemaVersion SET done = 2", Level.WARNING, "stopped after 2 statements"),
        ("DROP TABLE SchemaVersion", Level.PROBLEM, "holds tables that trio-chat did not make"),
    ],
)
def test_a_schema_of_another_version(file: Path, sql: str, level: Level, says: str) -> None:
    change(file, sql)
    (finding,) = bad(file).values()
    assert finding.level is level
    assert says in finding.says


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "chat.db").touch(0o600)
    (finding,) = bad(tmp_path / "chat.db").values()
    assert (finding.level, "no schema yet" in finding.says) == (Level.NOTE, True)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_bytes(b"something else" * 1000)
    (tmp_path / "chat.db").chmod(0o600)
    (finding,) = bad(tmp_path / "chat.db").values()
    assert (finding.level, "cannot be read" in finding.says) == (Level.PROBLEM, True)


def test_a_damaged_page_is_found_by_a_thorough_look(file: Path) -> None:
    connection = sqlite3.connect(file)
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'user_name'")
    connection.close()
    data = bytearray(file.read_bytes())
    data[(page - 1) * 4096] = 0xFF
    file.write_bytes(data)
    assert bad(file) == {}
    (finding,) = bad(file, thoroughly=True).values()
    assert (finding.level, "damaged" in finding.says) == (Level.PROBLEM, True)
