"""The terminal client's commands: one line of input is one command, the same typed or piped in.

People and groups are named by id or by name; a number is an id. A name that this client has not come across (as a
friend's, a group member's, that of somebody who wrote) the server is asked for.

What is shown comes from other people, so it is made harmless first: nobody can forge a line or move the cursor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress

import attrs

from trio_chat.client import terminal_account
from trio_chat.client.chat import Chat
from trio_chat.client.model import Connected, Disconnected, Event, Message, PresenceChanged, RemovedFrom, SignedOut
from trio_chat.errors import BadCredentials, ChatError

__all__ = ["COMMANDS", "BadCommand", "Console", "Quit", "harmless"]

#: So many people who wrote are remembered by name.
_REMEMBERED = 1000

#: Characters that may shape letters and emoji, although they belong to a class that cannot be seen.
_JOINERS = "\u200c\u200d"


def harmless(text: str) -> str:
    """The text in one line, with an escape in the place of each character that steers a terminal or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _is_harmless(character: str) -> bool:
    return (
        character.isprintable()
        or character in _JOINERS
        # Spaces of other widths, private use, and what this Python's Unicode does not know yet.
        or unicodedata.category(character) in ("Zs", "Co", "Cn")
    )


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
    """Carries out commands on a `Chat`, and shows what arrives.

    `write` prints a line for the user. `ask_password` asks for a password without showing it; it may raise `BadCommand`
    where nobody can be asked.
    """

    def __init__(self, chat: Chat, write: Callable[[str], None], ask_password: Callable[[], Awaitable[str]]) -> None:
        self.chat = chat
        self.ask_password = ask_password
        self._write = write
        self._wrote: dict[str, int] = {}  # who wrote, by name

    def show(self, line: str) -> None:
        """Show a line, whoever its parts come from."""
        self._write(harmless(line))

    async def do(self, line: str) -> None:
        """Carry out one line; an empty one does nothing.

        Raises `Quit`, `BadCommand`, the server's refusal, or `ConnectionLost`. Cancelling is safe.
        """
        name, _, rest = line.strip().partition(":")
        if not name:
            return
        if any("\ud800" <= character <= "\udfff" for character in line):
            raise BadCommand("this line is not text in UTF-8; nothing was sent")
        command = COMMANDS.get(name.strip())
        if command is None:
            raise BadCommand(f"there is no command {name!r}; help shows them all")
        given = [part.strip() for part in rest.split(":", command.most - 1)] if rest and command.most else []
        if len(given) < command.least or not all(given[: command.least]):
            raise BadCommand(f"it is {name}:{command.arguments}")
        await command.run(self, given)

    async def show_messages(self) -> None:
        """Show the messages that arrive, until the chat is closed; a refused login does not end it."""
        while not self.chat.closed:
            # An event tells of the refusal too; messages come again after the next login.
            with suppress(ChatError):
                async for message in self.chat.messages():
                    self._wrote.pop(message.name, None)
                    self._wrote[message.name] = message.sender
                    if len(self._wrote) > _REMEMBERED:
                        del self._wrote[next(iter(self._wrote))]
                    self.show(self.message_line(message))

    async def show_events(self) -> None:
        """Show what else happens, until the chat is closed."""
        async for event in self.chat.events():
            if (line := self._event_line(event)) is not None:
                self.show(line)

    def message_line(self, message: Message) -> str:
        """A message as it is shown: with the server's time, for the sender's could be any text."""
        place = ""
        if message.group is not None:
            group = self.chat.groups.get(message.group)
            place = f" in {group.name if group else message.conv}"
        time = f"{message.sent_at.astimezone():%Y-%m-%d %H:%M:%S}"
        return f"{time} [{message.sender}] {message.name}{place}: {message.text}"

    def _event_line(self, event: Event) -> str | None:
        match event:
            case Disconnected():
                return f"-- connection lost ({event.reason}); trying again"
            case Connected():
                return f"-- connected to {event.node}"
            case SignedOut():
                return f"-- logged out by the server: {event.error}; login again"
            case PresenceChanged():
                friend = self.chat.friends.get(event.id)
                return f"-- {friend.name if friend else event.id} is {_state(event.online)}"
            case RemovedFrom():
                return f"-- you are not in group {event.group} any more"
            case _:
                return None

    def words(self) -> Iterator[str]:
        """What a line may begin with: the commands, and those that address somebody with the names known."""
        for name, command in COMMANDS.items():
            yield f"{name}:" if command.arguments else name
        for one in self.chat.friends.values():
            yield f"chat:{_handle(one.id, one.name)}:"
            yield f"history:{_handle(one.id, one.name)}"
        for group in self.chat.groups.values():
            yield f"groupchat:{_handle(group.id, group.name)}:"
            yield f"grouphistory:{_handle(group.id, group.name)}"

    async def user_id(self, text: str) -> int:
        """A user's id, from an id or a name. Raises `BadCommand`, and what the server says of a name that nobody has."""
        if (number := _number(text)) is not None:
            return number
        for userid, name in self._people():
            if name == text:
                return userid
        return (await self.chat.find_user(text)).id

    async def group_id(self, text: str) -> int:
        """The id of a group, from an id or a name. Raises `BadCommand`, and what the server says of a name that none has."""
        if (number := _number(text)) is not None:
            return number
        for group in self.chat.groups.values():
            if group.name == text:
                return group.id
        return (await self.chat.group_info(text)).id

    async def conversation(self, text: str) -> str:
        """The conversation with a user, by id or name, or in a group, by name. Raises `BadCommand`."""
        for group in self.chat.groups.values():
            if group.name == text:
                return f"g:{group.id}"
        low, high = sorted((self.chat.user.id if self.chat.user else 0, await self.user_id(text)))
        return f"d:{low}:{high}"

    def _people(self) -> Iterable[tuple[int, str]]:
        if self.chat.user is not None:
            yield self.chat.user.id, self.chat.user.name
        yield from ((friend.id, friend.name) for friend in self.chat.friends.values())
        for group in self.chat.groups.values():
            yield from ((member.id, member.name) for member in group.members)
        yield from ((userid, name) for name, userid in self._wrote.items())


def _state(online: bool) -> str:
    return "online" if online else "offline"


def _number(text: str) -> int | None:
    """A text of digits as the number that it is; no id has more than 18 of them."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 18:
        raise BadCommand(f"no id has {len(text)} digits")
    return int(text)


def _handle(number: int, name: str) -> str:
    """What names somebody in a command: his name, unless it would be read otherwise."""
    plain = name == harmless(name).strip() and ":" not in name and not name.isdecimal()
    return name if plain else str(number)


async def _help(console: Console, _: list[str]) -> None:
    for name, command in COMMANDS.items():
        usage = f"{name}:{command.arguments}" if command.arguments else name
        console.show(f"  {usage:<32} {command.doc}")


async def _register(console: Console, given: list[str]) -> None:
    password = given[1] if len(given) > 1 and given[1] else await console.ask_password()
    userid = await console.chat.register(given[0], password)
    console.show(f"registered {given[0]}, id {userid}; now login:{given[0]}")


async def _login(console: Console, given: list[str]) -> None:
    who = given[0]
    password = given[1] if len(given) > 1 and given[1] else await console.ask_password()
    if who.isascii() and who.isdecimal() and len(who) <= 18:
        try:
            user = await console.chat.login(int(who), password)
        except BadCredentials:
            user = await console.chat.login(who, password)  # a name may consist of digits
    else:
        user = await console.chat.login(who, password)
    console.show(f"logged in as {user.name}, id {user.id}")
    await _friends(console, [])
    await _groups(console, [])


async def _friends(console: Console, _: list[str]) -> None:
    for friend in console.chat.friends.values():
        console.show(f"  friend {friend.id} {friend.name}, {_state(friend.online)}")


async def _groups(console: Console, _: list[str]) -> None:
    for group in console.chat.groups.values():
        names = ", ".join(member.name for member in group.members[:20])
        more = f" and {len(group.members) - 20} more" if len(group.members) > 20 else ""
        console.show(f"  group {group.id} {group.name}: {group.description} ({names}{more})")


async def _chat(console: Console, given: list[str]) -> None:
    await console.chat.send(await console.user_id(given[0]), given[1])


async def _groupchat(console: Console, given: list[str]) -> None:
    await console.chat.send(f"g:{await console.group_id(given[0])}", given[1])


async def _addfriend(console: Console, given: list[str]) -> None:
    friend = await console.chat.add_friend(await console.user_id(given[0]))
    console.show(f"{friend.name} is on your list, {_state(friend.online)}")


async def _creategroup(console: Console, given: list[str]) -> None:
    group = await console.chat.create_group(given[0], given[1] if len(given) > 1 else "")
    console.show(f"group {group.name} has id {group.id}; others join it with addgroup:{group.id}")


async def _addgroup(console: Console, given: list[str]) -> None:
    group = await console.chat.join_group(await console.group_id(given[0]))
    console.show(f"you are in {group.name}")


async def _leavegroup(console: Console, given: list[str]) -> None:
    await console.chat.leave_group(await console.group_id(given[0]))
    console.show("you are not in this group any more")


async def _removemember(console: Console, given: list[str]) -> None:
    await console.chat.remove_member(await console.group_id(given[0]), await console.user_id(given[1]))
    console.show("removed; he cannot join again")


async def _block(console: Console, given: list[str]) -> None:
    await console.chat.block(await console.user_id(given[0]))
    console.show("blocked: neither of you can write to the other")


async def _unblock(console: Console, given: list[str]) -> None:
    known = {user.name: user.id for user in await console.chat.blocked()}
    await console.chat.unblock(known.get(given[0]) or await console.user_id(given[0]))
    console.show("not blocked any more")


async def _blocked(console: Console, _: list[str]) -> None:
    for user in await console.chat.blocked():
        console.show(f"  blocked {user.id} {user.name}")


async def _history(console: Console, given: list[str]) -> None:
    await _show_history(console, await console.conversation(given[0]), given)


async def _grouphistory(console: Console, given: list[str]) -> None:
    await _show_history(console, f"g:{await console.group_id(given[0])}", given)


async def _show_history(console: Console, conv: str, given: list[str]) -> None:
    limit = _number(given[1]) if len(given) > 1 else 20
    if not limit:
        raise BadCommand("how many messages is a number, 1 or more")
    page = await console.chat.history(conv, limit=limit)
    for message in page.messages:
        console.show(console.message_line(message))


async def _find(console: Console, given: list[str]) -> None:
    person = await console.chat.find_user(given[0])
    console.show(f"{person.name} has id {person.id}, {_state(person.online)}")


async def _search(console: Console, given: list[str]) -> None:
    page = await console.chat.search(given[0])
    for message in reversed(page.messages):  # the newest last, as in a history
        console.show(console.message_line(message))
    if not page.messages:
        console.show("nothing was found")
    elif page.more:
        console.show(f"-- the latest {len(page.messages)}; there are more")


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
    "chat": Command(_chat, "ID:TEXT", "write to a user, by id or name"),
    "find": Command(_find, "NAME", "who has this name"),
    "addfriend": Command(_addfriend, "ID", "put a user on your list, by id or name"),
    "creategroup": Command(_creategroup, "NAME:[DESC]", "make a group"),
    "addgroup": Command(_addgroup, "ID", "join a group, by id or name"),
    "groupchat": Command(_groupchat, "ID:TEXT", "write to a group, by id or name"),
    "friends": Command(_friends, "", "who is on your list"),
    "groups": Command(_groups, "", "the groups you are in"),
    "history": Command(_history, "NAME_OR_ID:[N]", "the last messages with a user, or in a group of this name"),
    "grouphistory": Command(_grouphistory, "ID:[N]", "the last messages in a group, by id or name"),
    "search": Command(_search, "TEXT", "your messages that hold all these words"),
    "leavegroup": Command(_leavegroup, "ID", "leave a group, by id or name"),
    "removemember": Command(_removemember, "GROUP_ID:ID", "remove somebody from a group that you have created"),
    "block": Command(_block, "ID", "have nothing to do with a user, by id or name"),
    "unblock": Command(_unblock, "ID", "take that back"),
    "blocked": Command(_blocked, "", "whom you have blocked"),
    "invited": Command(terminal_account.invited, "CODE:NAME:[PASSWORD]", "make an account with an invitation"),
    "password": Command(
        terminal_account.password, "[PRESENT]:[NEW]", "change your password, and end your other logins"
    ),
    "logins": Command(terminal_account.logins, "", "where you are logged in"),
    "revoke": Command(terminal_account.revoke, "LOGIN", "end one of your logins"),
    "logoutall": Command(terminal_account.logout_everywhere, "", "end all of them, this one too"),
    "export": Command(terminal_account.export, "FILE", "write all that the server has of you to a file"),
    "deleteaccount": Command(
        terminal_account.delete_account, "[PASSWORD]", "delete your account and your texts, for good"
    ),
    "loginout": Command(_logout, "", "log out"),
    "quit": Command(_quit, "", "leave"),
}
