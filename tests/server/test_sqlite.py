"""The server on a SQLite file that somebody else has, or that is none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

import trio_chat
from tests.wire import log_in, register
from trio_chat import Address, Settings
from trio_chat.errors import StartupError
from trio_chat.wire.messages import Kind


@pytest.mark.settings(store_timeout=0.5)
async def test_what_is_unavailable_was_not_stored(address: Address, settings: Settings) -> None:
    """Another process has the file for longer than `store_timeout`: what had begun goes on, what waited is refused."""
    alice = await register(address, "alice")
    other = sqlite3.connect(settings.database.removeprefix("sqlite:///"), isolation_level=None)
    async with log_in(address, alice) as a, log_in(address, alice) as b:
        other.execute("BEGIN IMMEDIATE")
        await a.send(Kind.DIRECT, toid=alice, msg="begun", ref="begun")
        # Time passes, about so much: what is asserted holds whatever came first.
        await trio.sleep(0.1)
        await b.send(Kind.CREATE_GROUP, groupname="behind it", ref="behind it")
        await trio.sleep(1)
        other.execute("ROLLBACK")
        refused = await b.receive_where(lambda frame: frame.get("ref") == "behind it")
        answer = await a.receive_where(lambda frame: frame.get("ref") == "begun")
        history = (await a.ok(Kind.HISTORY, conv=f"d:{alice}:{alice}"))["messages"]
    stored = [message["msg"] for message in history]
    groups = other.execute("SELECT groupname FROM AllGroup").fetchall()
    other.close()
    assert stored == (["begun"] if answer["errno"] == 0 else [])
    assert groups == ([("behind it",)] if refused["errno"] == 0 else [])
    assert refused["errno"] in {0, 130}


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """What is in the current directory, in which there are a directory and files that are no databases."""
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("file").touch()
    Path("no-database").write_bytes(b"not a database at all" * 100)
    return lambda: sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("path", ["", "there", "file/chat.db", "no-database", "nul%00byte"])
async def test_a_path_that_cannot_be_a_database(
    path: str, contents: Callable[[], list[Path]], settings: Settings
) -> None:
    before = contents()
    with pytest.raises(StartupError, match=r"the database .*(is a directory|cannot be opened)"):
        async with trio_chat.open_server(attrs.evolve(settings, database=f"sqlite:///{path}")):
            pass
    assert contents() == before


async def test_a_file_that_another_process_has_locked(tmp_path: Path, settings: Settings) -> None:
    other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StartupError, match=r"the database .*chat\.db cannot be opened: database is locked"):
        async with trio_chat.open_server(settings):
            pass
    other.execute("ROLLBACK")
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StartupError, match=r"the database .*chat\.db .*database is locked"):
        async with trio_chat.open_server(settings):
            pass
    other.close()
