"""The page over https, from the server itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.services.certificates import Authority
from tests.web.person import Person
from tests.web.programs import Server

pytestmark = pytest.mark.slow


def test_two_people_chat_over_https(browser: Browser, tmp_path: Path, authority: Authority) -> None:
    server = Server(tmp_path, tls=authority.issue("page", "IP:127.0.0.1"))
    server.start()
    # Chromium does not know the authority of the tests, and has no other way to be told of it.
    contexts = [browser.new_context(ignore_https_errors=True) for _ in range(2)]
    try:
        alice, bob = (
            Person(context, server.address, name) for context, name in zip(contexts, ("alice", "bob"), strict=True)
        )
        sockets: list[str] = []
        alice.page.on("websocket", lambda socket: sockets.append(socket.url))
        alice.register()
        bob.register()
        alice.add("bob")
        alice.say("hello over https")
        bob.open("alice")
        bob.sees("hello over https")
        # Files, too, come again: from the cache, or once more.
        alice.page.reload()
        alice.sees("hello over https")
        assert alice.page.evaluate("location.protocol") == "https:"
        assert sockets
        assert all(url.startswith("wss://") for url in sockets)
        assert not [*alice.problems, *bob.problems]
    finally:
        for context in contexts:
            context.close()
        server.stop()
