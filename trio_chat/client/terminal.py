"""`trio-chat client [HOST:PORT]`: chat in the terminal, or have a file of commands carried out.

Typed, a line is edited with prompt_toolkit, and what arrives is printed above it. Piped in, each line is carried out
when the one before is acknowledged, and the exit status says whether all of them succeeded.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from trio_chat.client.address import DEFAULT_SERVER
from trio_chat.client.chat import Chat, connect
from trio_chat.client.commands import BadCommand, Console, Quit, event_line, message_line
from trio_chat.client.errors import NotReachable
from trio_chat.errors import ChatError

__all__ = ["add_arguments", "main"]

#: How long a piped client goes on showing what still arrives after its last line, in seconds.
_AFTERGLOW = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "server", metavar="HOST:PORT", nargs="?", default=DEFAULT_SERVER, help="the server (default %(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the client; returns 0, or 1 where a piped command failed or no server was there."""
    try:
        return asyncio.run(_typed(args.server) if sys.stdin.isatty() else _piped(args.server))
    except NotReachable as error:
        print(f"{error}\nis a server running? start one: trio-chat serve", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"{args.server}: {error}", file=sys.stderr)
        return 1


async def _show_what_arrives(chat: Chat) -> None:
    async def messages() -> None:
        async for message in chat.messages():
            print(message_line(chat, message), flush=True)

    async def events() -> None:
        async for event in chat.events():
            if (line := event_line(chat, event)) is not None:
                print(line, flush=True)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(messages())
        tasks.create_task(events())


async def _piped(server: str) -> int:
    async def nobody() -> str:
        raise BadCommand("a piped command has its password in the line")

    status = 0
    async with connect(server) as chat:
        showing = asyncio.create_task(_show_what_arrives(chat))
        console = Console(chat, lambda line: print(line, flush=True), nobody)
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                try:
                    await console.do(line)
                except ChatError as error:
                    print(f"{line.strip().partition(':')[0]}: {error}", file=sys.stderr, flush=True)
                    status = 1
            await asyncio.sleep(_AFTERGLOW)
        except Quit:
            pass
        finally:
            showing.cancel()
            await asyncio.wait([showing])
    return status


class _Completer(Completer):
    def __init__(self, console: Console) -> None:
        self._console = console

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        begun = document.text_before_cursor
        for word in self._console.words():
            if word.startswith(begun) and word != begun:
                yield Completion(word, start_position=-len(begun))


async def _typed(server: str) -> int:
    async def ask_password() -> str:
        secret: PromptSession[str] = PromptSession(history=InMemoryHistory())
        return await secret.prompt_async("password: ", is_password=True)

    async with connect(server) as chat:
        console = Console(chat, print, ask_password)
        session: PromptSession[str] = PromptSession(history=_history(), completer=_Completer(console))
        with patch_stdout():
            showing = asyncio.create_task(_show_what_arrives(chat))
            print(f"connected to {chat.node}; help shows the commands, register:NAME makes an account")
            try:
                while True:
                    prompt = f"{chat.user.name}> " if chat.user else "> "
                    try:
                        await console.do(await session.prompt_async(prompt))
                    except ChatError as error:
                        print(error)
                    except KeyboardInterrupt:
                        continue
            except (Quit, EOFError):
                return 0
            finally:
                showing.cancel()
                await asyncio.wait([showing])


class _Discreet(FileHistory):
    """Keeps what was typed, but no line that may have a password in it."""

    def store_string(self, string: str) -> None:
        if not string.lstrip().startswith(("login:", "register:")):
            super().store_string(string)


def _history() -> FileHistory | InMemoryHistory:
    folder = Path(platformdirs.user_state_dir("trio-chat", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return InMemoryHistory()
    return _Discreet(str(folder / "history"))
