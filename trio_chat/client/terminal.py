"""`trio-chat client [HOST:PORT]`: chat in the terminal, or have a file of commands carried out.

Typed, a line is edited with prompt_toolkit, and what arrives is printed above it. Piped in, each line is carried out
when the one before is acknowledged, and the exit status says whether all of them succeeded.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import anyio.lowlevel
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from trio_chat.client.chat import connect
from trio_chat.client.errors import NotReachable
from trio_chat.client.options import DEFAULT_SERVER, Endpoint
from trio_chat.client.terminal_commands import BadCommand, Console, Quit, harmless
from trio_chat.errors import ChatError

__all__ = ["add_arguments", "main"]

#: How long a piped client goes on showing what still arrives after its last line, in seconds.
_AFTERGLOW = 0.5

_CHUNK = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `main`."""
    parser.add_argument(
        "server", metavar="HOST:PORT", nargs="?", default=DEFAULT_SERVER, help="the server (default %(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the client; returns 0, 1 where a piped command failed or no server was there, 2 for an address that is none."""
    try:
        Endpoint.parse(args.server)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # A text may have more than this terminal's character set.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    status = 1
    try:
        status = asyncio.run(_typed(args.server) if sys.stdin.isatty() else _piped(args.server))
    except* NotReachable as group:
        print(f"{group.exceptions[0]}\nis a server running? start one: trio-chat serve", file=sys.stderr)
    except* BrokenPipeError:
        # Whoever read the output has gone; Python's own last flush must not complain of it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


@asynccontextmanager
async def _shown(console: Console) -> AsyncGenerator[None]:
    """Show what arrives while the block is carried out. A defect in showing ends the block too: nobody goes deaf unseen."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(console.show_messages)
        tasks.start_soon(console.show_events)
        yield
        tasks.cancel_scope.cancel()


async def _piped(server: str) -> int:
    async def nobody() -> str:
        raise BadCommand("a piped command has its password in the line")

    status = 0
    async with connect(server) as chat:
        console = Console(chat, lambda line: print(line, flush=True), nobody)
        async with _shown(console):
            try:
                async for line in _Lines(sys.stdin.fileno()):
                    try:
                        await console.do(line)
                    except ChatError as error:
                        said = f"{line.strip().partition(':')[0]}: {error}"
                        print(harmless(said), file=sys.stderr, flush=True)
                        status = 1
                await anyio.sleep(_AFTERGLOW)
            except Quit:
                pass
    return status


class _Lines:
    """The lines of a file or pipe. Bytes that are no UTF-8 become surrogates. Waiting can be cancelled at any time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._ended = False

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        return self._lines.popleft().decode(errors="surrogateescape")

    async def _read(self) -> None:
        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:
            await anyio.lowlevel.checkpoint()  # an ordinary file: it can always be read
        chunk = os.read(self._descriptor, _CHUNK)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(lines)
        if not chunk:
            self._ended = True
            self._lines.append(self._rest)


async def _typed(server: str) -> int:
    async def ask_password() -> str:
        secret: PromptSession[str] = PromptSession(history=InMemoryHistory())
        return await secret.prompt_async("password: ", is_password=True)

    async with connect(server) as chat:
        console = Console(chat, print, ask_password)
        # Not while typing: a Tab that comes while such a completion is looked for would be lost.
        session: PromptSession[str] = PromptSession(
            history=_history(), completer=_Completer(console), complete_while_typing=False
        )

        def prompt() -> str:
            return f"{harmless(chat.user.name)}> " if chat.user else "> "

        with patch_stdout():
            console.show("help shows the commands, register:NAME makes an account, quit leaves")
            async with _shown(console):
                try:
                    while True:
                        try:
                            await _do_unless_interrupted(console, await session.prompt_async(prompt))
                        except ChatError as error:
                            console.show(str(error))
                        except KeyboardInterrupt:
                            continue
                except (Quit, EOFError):
                    pass
    return 0


async def _do_unless_interrupted(console: Console, line: str) -> None:
    """Carry out a line; Ctrl-C gives up waiting for it, not the whole program."""
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        loop.add_signal_handler(signal.SIGINT, scope.cancel)
        try:
            await console.do(line)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
    if scope.cancelled_caught:
        console.show("not waited for any more: it may or may not have been carried out")


class _Completer(Completer):
    def __init__(self, console: Console) -> None:
        self._console = console

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        begun = document.text_before_cursor
        for word in self._console.words():
            if word.startswith(begun) and word != begun:
                yield Completion(word, start_position=-len(begun))


class _Discreet(FileHistory):
    """Keeps what was typed, but no line that may have a password in it."""

    def store_string(self, string: str) -> None:
        if not string.lstrip().startswith(("login", "register")):
            super().store_string(string)


def _history() -> FileHistory | InMemoryHistory:
    folder = Path(platformdirs.user_state_dir("trio-chat", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return InMemoryHistory()
    return _Discreet(str(folder / "history"))
