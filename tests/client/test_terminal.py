"""What the terminal client shows, on the fake server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.client.fake import FakeServer
from tests.client.fake_link import FakeDial
from trio_chat.client import Options, connect
from trio_chat.client.terminal_commands import BadCommand, Console, harmless
from trio_chat.errors import BadCredentials, NoSuchUser

QUICK = Options(reconnect_first=0.01, reconnect_limit=0.02)


class Screen:
    """The lines that were shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = anyio.Event()

    def write(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def wait_for(self, text: str) -> str:
        while True:
            for line in self.lines:
                if text in line:
                    return line
            self._changed = anyio.Event()
            await self._changed.wait()


async def no_password() -> str:
    raise BadCommand("none")


def run(main: Callable[[FakeServer, FakeDial, Console, Screen], Awaitable[None]]) -> None:
    """Play `main` with a console of Alice's, who has an account and is not logged in; what arrives is shown."""

    async def play() -> None:
        server = FakeServer()
        server.account("alice")
        server.account("bob")
        screen = Screen()
        dial = FakeDial(server)
        with anyio.fail_after(20):
            async with connect("fake:1", options=QUICK, dial=dial) as chat, anyio.create_task_group() as tasks:
                console = Console(chat, screen.write, no_password)
                tasks.start_soon(console.show_messages)
                tasks.start_soon(console.show_events)
                await main(server, dial, console, screen)
                tasks.cancel_scope.cancel()

    anyio.run(play)


def test_messages_are_shown_again_after_the_server_has_logged_one_out() -> None:
    async def main(server: FakeServer, dial: FakeDial, console: Console, screen: Screen) -> None:
        await console.do("login:alice:pw")
        server.post(server.accounts[2], "d:1:2", "one")
        await screen.wait_for("bob: one")
        server.login_refusals.extend([BadCredentials(), BadCredentials()])  # the token, then the password
        dial.cut()
        await screen.wait_for("-- logged out by the server")
        await console.do("login:alice:pw")
        server.post(server.accounts[2], "d:1:2", "two")
        await screen.wait_for("bob: two")

    run(main)


def test_nobody_can_forge_a_line() -> None:
    async def main(server: FakeServer, _: FakeDial, console: Console, screen: Screen) -> None:
        server.accounts[2].name = "b\nob"
        await console.do("login:alice:pw")
        message = server.post(server.accounts[2], "d:1:2", "x\n2026-11-23 12:00:00 [1] alice: I did it\x1b[A\u202e")
        assert "time" in message
        line = await screen.wait_for("I did it")
        assert line.endswith(r"[2] b\nob: x\n2026-11-23 12:00:00 [1] alice: I did it\x1b[A\u202e")
        assert line.startswith("1970-01-01 ")  # the server's time, which the sender cannot choose

    run(main)


def test_who_wrote_can_be_named() -> None:
    async def main(server: FakeServer, _: FakeDial, console: Console, screen: Screen) -> None:
        await console.do("login:alice:pw")
        with pytest.raises(NoSuchUser):
            await console.do("addfriend:nobody")
        server.post(server.accounts[2], "d:1:2", "one")
        await screen.wait_for("bob: one")
        asked = len(server.requests)
        await console.do("history:bob")
        assert len(server.requests) == asked + 1, "who wrote is known without asking"
        await console.do("addfriend:bob")
        assert await screen.wait_for("bob is on your list")
        assert "chat:bob:" in console.words()
        server.accounts[2].name = "12:x"
        await console.do("addfriend:2")
        assert "chat:2:" in console.words()

    run(main)


def test_people_are_found_by_name_and_messages_by_their_words() -> None:
    async def main(server: FakeServer, _: FakeDial, console: Console, screen: Screen) -> None:
        await console.do("login:alice:pw")
        await console.do("find:bob")
        await screen.wait_for("bob has id 2, offline")
        await console.do("chat:bob:the long rope: 10 m")
        await console.do("chat:bob:something else")
        await console.do("search:rope: 10")
        assert (await screen.wait_for("rope")).endswith("[1] alice: the long rope: 10 m")
        assert not any("something else" in line for line in screen.lines)
        await console.do("search:tent")
        await screen.wait_for("nothing was found")

    run(main)


@pytest.mark.parametrize(
    "line", ["chat:" + "9" * 5000 + ":x", "history:1:" + "9" * 5000, "history:1:0", "chat:1:\udcff"]
)
def test_a_line_that_cannot_be_meant(line: str) -> None:
    async def main(_: FakeServer, __: FakeDial, console: Console, ___: Screen) -> None:
        await console.do("login:alice:pw")
        with pytest.raises(BadCommand):
            await console.do(line)

    run(main)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢 🙂", "plain ü 漢 🙂"),
        ("a\xa0b\u200dc 👨\u200d👩", "a\xa0b\u200dc 👨\u200d👩"),
        ("\r\n\t\0\x7f\x9b", r"\r\n\t\x00\x7f\x9b"),
        ("\u2028\u2029\u202e\u2066\ufeff\udc80", r"\u2028\u2029\u202e\u2066\ufeff\udc80"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown
