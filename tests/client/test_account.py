"""One's own account by the client library, on asyncio and on Trio, and in the terminal; invitations by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from tests.client.conftest import Live, living
from trio_chat.client import Chat, Message, SignedOut, connect
from trio_chat.client.terminal_commands import BadCommand, Console
from trio_chat.errors import BadCredentials, BadInvitation, LoginRevoked, NoSuchLogin, NotLoggedIn, RegistrationClosed

Main = Callable[[Live], Awaitable[None]]


def run(main: Main, live: Live, backend: str) -> None:
    async def limited() -> None:
        with anyio.fail_after(40):
            await main(live)

    anyio.run(limited, backend=backend)


async def nobody() -> str:
    raise BadCommand("nobody can be asked")


async def signed_out(chat: Chat) -> SignedOut:
    async for event in chat.events():
        if isinstance(event, SignedOut):
            return event
    raise AssertionError("closed")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_password_logins_and_the_end(standing: Live, backend: str) -> None:
    name = f"alice on {backend}"

    async def main(live: Live) -> None:
        async with connect(live.address) as desk, connect(live.address, client="a phone") as phone:
            await desk.register(name, "pw")
            await desk.login(name, "pw")
            await phone.login(name.upper(), "pw")
            logins = await desk.logins()
            assert {(login.client, login.current) for login in logins} == {("a phone", False), ("trio-chat", True)}
            with pytest.raises(NoSuchLogin):
                await desk.revoke_login("0" * 16)
            with pytest.raises(BadCredentials):
                await desk.change_password("wrong", "new pw")
            await desk.change_password("pw", "new pw")
            # It knows the old password, and does not come back by it.
            assert isinstance((await signed_out(phone)).error, LoginRevoked)
            assert phone.user is None
            with pytest.raises(NotLoggedIn):
                await phone.logins()
            await phone.login(name, "new pw")
            (other,) = [login for login in await desk.logins() if not login.current]
            await desk.revoke_login(other)
            assert isinstance((await signed_out(phone)).error, LoginRevoked)
            await phone.login(name, "new pw")
            await phone.logout_everywhere()
            assert phone.user is None
            assert isinstance((await signed_out(desk)).error, LoginRevoked)
            user = await desk.login(name, "new pw")
            for number in range(3):
                await desk.send(user, f"note {number} " + "x" * 15000)
            await desk.send(user, "x" * 16000)
            await desk.send(user, "x" * 16000)
            page = await desk.export()
            assert page.profile is not None
            assert page.profile["name"] == name
            assert (len(page.messages), page.more) == (4, True)
            last = await desk.export(page.messages[-1])
            assert (last.profile, len(last.messages), last.more) == (None, 1, False)
            await desk.delete_account("new pw")
            assert desk.user is None
            with pytest.raises(BadCredentials):
                await desk.login(name, "new pw")

    run(main, standing, backend)


def test_in_the_terminal(standing: Live, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines: list[str] = []

    async def main(live: Live) -> None:
        async with connect(live.address) as chat:
            console = Console(chat, lines.append, nobody)
            for line in ("register:terry:pw", "login:terry:pw", "chat:terry:a note", "password:pw:new:pw", "logins"):
                await console.do(line)
            assert "this one" in lines[-1]
            assert "127.0.0.1: trio-chat" in lines[-1]
            await console.do(f"export:{file}")
            assert lines[-1] == f"{file} has your account and 1 messages"
            await console.do(f"export:{file}")
            assert lines[-1] == f"{file}: File exists"
            await console.do("logoutall")
            await console.do("login:terry:new:pw")
            with pytest.raises(NoSuchLogin):
                await console.do("revoke:0123456789abcdef")
            with pytest.raises(BadCommand):
                await console.do("deleteaccount")
            await console.do("deleteaccount:new:pw")
            assert lines[-1] == "your account is deleted"

    run(main, standing, "trio")
    account, message = [json.loads(line) for line in file.read_text().splitlines()]
    assert account["name"] == "terry"
    assert message["text"] == "a note"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Message(**message).mine


def invite(live: Live, *arguments: str) -> str:
    command = [sys.executable, "-m", "trio_chat", "invite", "--database", f"sqlite:///{live.directory / 'chat.db'}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_by_invitation(tmp_path: Path) -> None:
    """The command makes codes while the server runs."""
    with living(tmp_path, "--registration", "invitation") as live:
        once, twice, revoked = invite(live), invite(live, "--uses", "2", "--days", "0.5"), invite(live)
        listed = invite(live, "--list").splitlines()
        assert ["uses left: 1" in line for line in listed] == [True, False, True]
        assert not any(code in line for code in (once, twice, revoked) for line in listed)
        invite(live, "--revoke", listed[2].split()[0])

        async def main(live: Live) -> None:
            async with connect(live.address) as chat:
                for code in (None, "guessed", revoked):
                    with pytest.raises(BadInvitation):
                        await chat.register("alice", "pw", invitation=code)
                await chat.register("alice", "pw", invitation=once.upper().replace("-", " "))
                with pytest.raises(BadInvitation):
                    await chat.register("bob", "pw", invitation=once)
                await chat.register("bob", "pw", invitation=twice)
                console = Console(chat, print, nobody)
                await console.do(f"invited:{twice}:carol:pw")
                with pytest.raises(BadInvitation):
                    await chat.register("dave", "pw", invitation=twice)

        run(main, live, "trio")


@pytest.mark.slow
def test_where_nobody_registers(tmp_path: Path) -> None:
    async def main(live: Live) -> None:
        async with connect(live.address) as chat:
            with pytest.raises(RegistrationClosed):
                await chat.register("alice", "pw")

    with living(tmp_path, "--registration", "closed") as live:
        run(main, live, "asyncio")
