"""The terminal client's commands about one's own account: its password, its logins, its data, its end."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio
import attrs

if TYPE_CHECKING:
    from trio_chat.client.model import Message
    from trio_chat.client.terminal_commands import Console

__all__ = ["delete_account", "export", "invited", "logins", "logout_everywhere", "password", "revoke"]


async def invited(console: Console, given: list[str]) -> None:
    code, name = given[:2]
    secret = given[2] if len(given) > 2 and given[2] else await console.ask_password()
    userid = await console.chat.register(name, secret, invitation=code)
    console.show(f"registered {name}, id {userid}; now login:{name}")


async def password(console: Console, given: list[str]) -> None:
    if len(given) > 1:
        present, new = given
    else:
        console.show("the present password, then the new one")
        present, new = await console.ask_password(), await console.ask_password()
    await console.chat.change_password(present, new)
    console.show("the password is changed; all other logins are ended")


async def logins(console: Console, _: list[str]) -> None:
    for login in await console.chat.logins():
        used = f"{datetime.fromtimestamp(login.used / 1000).astimezone():%Y-%m-%d %H:%M}" if login.used else "?"
        here = ", this one" if login.current else ""
        console.show(f"  {login.id} last used {used} from {login.address or '?'}: {login.client or '?'}{here}")


async def revoke(console: Console, given: list[str]) -> None:
    await console.chat.revoke_login(given[0])
    console.show("that login is ended")


async def logout_everywhere(console: Console, _: list[str]) -> None:
    await console.chat.logout_everywhere()
    console.show("logged out, everywhere")


async def export(console: Console, given: list[str]) -> None:
    """One JSON object per line: first the account, then each message."""
    page = await console.chat.export()
    count = 0
    try:
        # Nobody else on this machine needs to read it.
        async with await anyio.open_file(given[0], "x", encoding="utf-8", opener=_private) as file:
            await file.write(_line(page.profile))
            while True:
                await file.write("".join(_line(_fields(message)) for message in page.messages))
                count += len(page.messages)
                if not page.more:
                    break
                page = await console.chat.export(page.messages[-1])
    except OSError as error:
        console.show(f"{given[0]}: {error.strerror}")
        return
    console.show(f"{given[0]} has your account and {count} messages")


async def delete_account(console: Console, given: list[str]) -> None:
    secret = given[0] if given else await console.ask_password()
    await console.chat.delete_account(secret)
    console.show("your account is deleted")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fields(message: Message) -> dict[str, Any]:
    return attrs.asdict(message)


def _line(fields: object) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"
