"""Defects of the C++ family that must not come back; those of its parser are in test_classic.py."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from tests.wire import connect, log_in, register
from trio_chat import Address, Settings
from trio_chat.wire.messages import Kind

NUL = b"\0"


def rows(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    """What is in the database, past the server."""
    connection = sqlite3.connect(f"file:{Path(settings.database.removeprefix('sqlite:///'))}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_half_of_an_object_and_the_rest_later(address: Address) -> None:
    """One object over two segments, while another client goes on."""
    alice = await register(address, "alice")
    async with connect(address, modern=False, terminator=NUL) as wire, connect(address) as other:
        await wire.send_bytes(b'{"msgid":1,"id":%d,"pass' % alice)
        await other.quiet()
        await wire.send_bytes(b'word":"secret"}\0')
        assert (await wire.receive())["errno"] == 0


async def test_two_objects_in_one_segment(address: Address) -> None:
    alice = await register(address, "alice")
    async with connect(address, modern=False, terminator=NUL) as wire:
        login = b'{"msgid":1,"id":%d,"password":"secret"}\0' % alice
        await wire.send_bytes(login + b'{"msgid":6,"toid":%d,"msg":"both"}\0' % alice)
        assert (await wire.receive())["errno"] == 0
        assert (await wire.receive())["msg"] == "both"


@pytest.mark.parametrize("text", ["it's \"quoted\" \\ '); DROP TABLE Message; --", "x" * 501, "'" * 16_000])
async def test_an_offline_message_arrives_as_it_was(address: Address, text: str) -> None:
    """Over 500 bytes, or with quotes in it."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice, modern=False, terminator=NUL) as a:
        await a.send(Kind.DIRECT, toid=bob, msg=text)
        await a.send(Kind.DIRECT, toid=alice, msg="done")
        await a.messages(1)
    async with log_in(address, bob) as b:
        assert [m["msg"] for m in await b.messages(1)] == [text]


async def test_the_senders_own_id_is_not_believed(address: Address) -> None:
    alice, bob, carol = [await register(address, name) for name in ("alice", "bob", "carol")]
    async with log_in(address, alice, modern=False) as a, log_in(address, bob) as b:
        await a.send(Kind.DIRECT, id=carol, name="carol", toid=bob, msg="guess who")
        (message,) = await b.messages(1)
        assert (message["id"], message["name"]) == (alice, "alice")


async def test_nobody_logs_another_out(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, log_in(address, bob, modern=False) as b:
        await b.send(Kind.LOGOUT, id=alice)
        async with log_in(address, bob) as again:
            await again.ok(Kind.DIRECT, toid=alice, msg="still there?")
        assert [m["msg"] for m in await a.messages(1)] == ["still there?"]
        await a.ok(Kind.DIRECT, toid=bob, msg="yes")


async def test_nobody_chats_before_the_login(address: Address, settings: Settings) -> None:
    alice = await register(address, "alice")
    async with connect(address, modern=False) as wire:
        for kind, fields in ((Kind.DIRECT, {"toid": alice}), (Kind.GROUP, {"groupid": 1})):
            await wire.send(kind, id=alice, msg="x", **fields)
            assert (await wire.receive())["error"] == "not_logged_in"
    assert rows(settings, "SELECT * FROM Message") == []


async def test_a_message_to_nobody_is_not_kept(address: Address, settings: Settings) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice, modern=False) as a:
        await a.send(Kind.DIRECT, toid=alice + 1000, msg="x")
        assert (await a.receive())["error"] == "no_such_user"
    for table in ("Message", "Conversation", "DeliveryCursor"):
        assert rows(settings, f"SELECT * FROM {table}") == []


async def test_no_text_of_a_client_is_run_as_sql(address: Address) -> None:
    nasty = "x'); DROP TABLE User; -- \\"
    alice = await register(address, nasty, nasty)
    async with log_in(address, alice, nasty) as a:
        assert a.ack["name"] == nasty
        group = await a.ok(Kind.CREATE_GROUP, groupname=nasty, groupdesc=nasty)
        await a.ok(Kind.GROUP, groupid=group["groupid"], msg=nasty, key=nasty, time=nasty)
        assert (await a.call(Kind.HISTORY, conv="g:1' OR '1'='1"))["error"] == "bad_request"
        (message,) = (await a.ok(Kind.HISTORY, conv=f"g:{group['groupid']}"))["messages"]
        assert (message["msg"], message["key"], message["time"]) == (nasty, nasty, nasty)
    async with connect(address) as wire:
        await wire.send(Kind.LOGIN, name="x' OR '1'='1", password="x' OR '1'='1")
        assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 1
    await register(address, "bob")


async def test_passwords_are_not_kept(address: Address, settings: Settings) -> None:
    await register(address, "alice", "a secret that is mine")
    ((kept,),) = rows(settings, "SELECT password FROM User")
    assert re.match(r"\$argon2id\$", str(kept))
    files = Path(settings.database.removeprefix("sqlite:///")).parent.glob("chat.db*")
    assert not any(b"a secret that is mine" in file.read_bytes() for file in files)
