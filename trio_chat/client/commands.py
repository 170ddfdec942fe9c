"""The terminal client's commands: one line of input is one command, the same typed or piped in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import attrs

from trio_chat.client.chat import Chat
from trio_chat.client.events import Connected, Disconnected, Event, PresenceChanged, ReadBy, SignedOut
from trio_chat.client.model import Friend, Group, Message
from trio_chat.errors import ChatError

__all__ = ["COMMANDS", "BadCommand", "Console", "Quit", "event_line", "message_line"]

N = TypeVar("N", Friend, Group)


class BadCommand(ChatError):
    """The line is no command; the text says what is."""


class Quit(Exception):
    """The user wants to leave."""


@attrs.frozen
class Command:
    """`arguments` as the help shows them; the last one takes the rest of the line, colons included."""

    run: Callable[[Console, list[str]], Awaitable[None]]
    arguments: str
    doc: str

    @property
    def most(self) -> int:
        return len(self.arguments.split(":")) if self.arguments else 0

    @property
    def least(self) -> int:
        return len([a for a in self.arguments.split(":") if a and not a.startswith("[")])


class Console:
    """Carries out commands on a `Chat`.

    `show` prints a line for the user. `ask_password` asks for a password without showing it; it may raise `BadCommand`
    where nobody can be asked.
    """

    def __init__(self, chat: Chat, show: Callable[[str], None], ask_password: Callable[[], Awaitable[str]]) -> None:
        self.chat = chat
        self.show = show
        self.ask_password = ask_password

    async def do(self, line: str) -> None:
        """Carry out one line; an empty one does nothing.

        Raises `Quit`, `BadCommand`, the server's refusal, or `ConnectionLost`. Cancelling is safe.
        """
        name, _, rest = line.strip().partition(":")
        if not name:
            return
        command = COMMANDS.get(name.strip())
        if command is None:
            raise BadCommand(f"there is no command {name!r}; help shows them all")
        given = [part.strip() for part in rest.split(":", command.most - 1)] if rest and command.most else []
        if len(given) < command.least or not all(given[: command.least]):
            raise BadCommand(f"it is {name}:{command.arguments}")
        await command.run(self, given)

    def words(self) -> Iterator[str]:
        """What a line may begin with: the commands, and those that address somebody with the names known."""
        for name, command in COMMANDS.items():
            yield f"{name}:" if command.arguments else name
        for friend in self.chat.friends.values():
            yield f"chat:{friend.name}:"
            yield f"history:{friend.name}"
        for group in self.chat.groups.values():
            yield f"groupchat:{group.name}:"
            yield f"history:{group.name}"

    def friend_id(self, text: str) -> int:
        return self._id(text, list(self.chat.friends.values()), "friend")

    def group_id(self, text: str) -> int:
        return self._id(text, list(self.chat.groups.values()), "group")

    def _id(self, text: str, known: list[N], what: str) -> int:
        if text.isdecimal():
            return int(text)
        for one in known:
            if one.name == text:
                return one.id
        raise BadCommand(f"{text!r} is not the name of a {what} of yours; anybody can be named by id")


async def _help(console: Console, _: list[str]) -> None:
    for name, command in COMMANDS.items():
        usage = f"{name}:{command.arguments}" if command.arguments else name
        console.show(f"  {usage:<32} {command.doc}")


async def _register(console: Console, given: list[str]) -> None:
    password = given[1] if len(given) > 1 and given[1] else await console.ask_password()
    userid = await console.chat.register(given[0], password)
    console.show(f"registered {given[0]}, id {userid}; now login:{given[0]}")


async def _login(console: Console, given: list[str]) -> None:
    password = given[1] if len(given) > 1 and given[1] else await console.ask_password()
    user = await console.chat.login(int(given[0]) if given[0].isdecimal() else given[0], password)
    console.show(f"logged in as {user.name}, id {user.id}")
    await _friends(console, [])
    await _groups(console, [])


async def _friends(console: Console, _: list[str]) -> None:
    for friend in console.chat.friends.values():
        console.show(f"  friend {friend.id} {friend.name}, {'online' if friend.online else 'offline'}")


async def _groups(console: Console, _: list[str]) -> None:
    for group in console.chat.groups.values():
        names = ", ".join(member.name for member in group.members[:20])
        console.show(f"  group {group.id} {group.name}: {group.description} ({names})")


async def _chat(console: Console, given: list[str]) -> None:
    await console.chat.send(console.friend_id(given[0]), given[1])


async def _groupchat(console: Console, given: list[str]) -> None:
    await console.chat.send(f"g:{console.group_id(given[0])}", given[1])


async def _addfriend(console: Console, given: list[str]) -> None:
    friend = await console.chat.add_friend(console.friend_id(given[0]))
    console.show(f"{friend.name} is on your list, {'online' if friend.online else 'offline'}")


async def _creategroup(console: Console, given: list[str]) -> None:
    group = await console.chat.create_group(given[0], given[1] if len(given) > 1 else "")
    console.show(f"group {group.name} has id {group.id}; others join it with addgroup:{group.id}")


async def _addgroup(console: Console, given: list[str]) -> None:
    group = await console.chat.join_group(console.group_id(given[0]))
    console.show(f"you are in {group.name}")


async def _history(console: Console, given: list[str]) -> None:
    try:
        limit = int(given[1]) if len(given) > 1 else 20
    except ValueError:
        raise BadCommand("it is history:NAME_OR_ID:HOW_MANY") from None
    page = await console.chat.history(_conversation(console, given[0]), limit=limit)
    for message in page.messages:
        console.show(message_line(console.chat, message))


def _conversation(console: Console, text: str) -> str:
    me = console.chat.user
    for group in console.chat.groups.values():
        if group.name == text:
            return f"g:{group.id}"
    low, high = sorted((me.id if me else 0, console.friend_id(text)))
    return f"d:{low}:{high}"


async def _logout(console: Console, _: list[str]) -> None:
    await console.chat.logout()
    console.show("logged out")


async def _quit(_: Console, __: list[str]) -> None:
    raise Quit


#: The family's own commands, and those that its clients have in menus.
COMMANDS: dict[str, Command] = {
    "help": Command(_help, "", "show this"),
    "register": Command(_register, "NAME:[PASSWORD]", "make an account"),
    "login": Command(_login, "NAME_OR_ID:[PASSWORD]", "log in; without a password it is asked for"),
    "chat": Command(_chat, "ID:TEXT", "write to a user, by id or a friend's name"),
    "addfriend": Command(_addfriend, "ID", "put a user on your list"),
    "creategroup": Command(_creategroup, "NAME:[DESC]", "make a group"),
    "addgroup": Command(_addgroup, "ID", "join a group"),
    "groupchat": Command(_groupchat, "ID:TEXT", "write to a group, by id or name"),
    "friends": Command(_friends, "", "who is on your list"),
    "groups": Command(_groups, "", "the groups you are in"),
    "history": Command(_history, "NAME_OR_ID:[N]", "the last messages with a friend or in a group"),
    "loginout": Command(_logout, "", "log out"),
    "quit": Command(_quit, "", "leave"),
}


def message_line(chat: Chat, message: Message) -> str:
    """A message as it is shown."""
    place = ""
    if message.group is not None:
        group = chat.groups.get(message.group)
        place = f" in {group.name if group else message.conv}"
    return f"{message.time} [{message.sender}] {message.name}{place}: {message.text}"


def event_line(chat: Chat, event: Event) -> str | None:
    """What happened, as it is shown; None for what need not be."""
    match event:
        case Disconnected():
            return f"-- connection lost ({event.reason}); trying again"
        case Connected():
            return f"-- connected to {event.node}"
        case SignedOut():
            return f"-- logged out by the server: {event.error}; login again"
        case PresenceChanged():
            friend = chat.friends.get(event.id)
            return f"-- {friend.name if friend else event.id} is {'online' if event.online else 'offline'}"
        case ReadBy():
            return None
