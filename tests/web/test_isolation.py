"""What other tests do to the machine's network is not seen here; and where it does change, the page begins all the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.web.person import Persons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def restless() -> Iterator[threading.Event]:
    """While it is set, this machine gets and loses an address several times a second."""
    going, over = threading.Event(), threading.Event()

    def change() -> None:
        while not over.wait(0.1):
            if going.is_set():
                ip("address", "add", "198.18.1.1/24", "dev", "lo")
                over.wait(0.1)
                ip("address", "delete", "198.18.1.1/24", "dev", "lo")

    thread = threading.Thread(target=change)
    thread.start()
    yield going
    over.set()
    thread.join()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces exist on Linux only")
def test_the_network_may_change_while_the_page_is_loaded(
    network: bool, people: Persons, restless: threading.Event
) -> None:
    if not network:
        pytest.skip("needs a network of its own, whose addresses it may change")
    assert "eth0" not in ip("-oneline", "address")
    alice, bob = people("alice"), people("bob")
    failed: list[str] = []
    alice.page.on("requestfailed", lambda request: failed.append(request.failure or ""))
    restless.set()
    for _ in range(3):
        alice.page.goto("about:blank")
        alice.page.goto(alice.address, wait_until="commit")
        alice.page.wait_for_timeout(500)
    assert "net::ERR_NETWORK_CHANGED" in failed
    restless.clear()
    expect(alice.page.locator("tc-sidebar")).to_be_visible()
    alice.add(bob.name)
    alice.say("still here")
    alice.state("still here", "received")
