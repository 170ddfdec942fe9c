"""A browser, a server with the page, and people who use it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.web.isolation import own_network
from tests.web.person import Persons
from tests.web.programs import Server

#: What Chromium does at a start beside showing pages is of no use here, and fails where there is no network.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
_numbers = itertools.count(1)


def chromium() -> str:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "the page's tests need Chromium: on Debian or Ubuntu apt-get install chromium"
    return program


# Servers and browsers that are started within it are in it too.
@pytest.fixture(scope="package", autouse=True)
def network() -> Iterator[bool]:
    with own_network() as isolated:
        yield isolated


# Of this package, not of the session: Playwright's loop must not run while other tests use Trio or asyncio.
@pytest.fixture(scope="package")
def browser(network: bool) -> Iterator[Browser]:
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, which it may kill."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def people(browser: Browser, server: Server) -> Iterator[Persons]:
    """Makes people; names that other tests used before are told apart by a number."""
    number = next(_numbers)
    persons = Persons(browser, server, lambda name: f"{name}{number}")
    yield persons
    problems = persons.close()
    assert not problems


@pytest.fixture
def people_of(browser: Browser, own_server: Server) -> Iterator[Persons]:
    """The same at this test's own server."""
    persons = Persons(browser, own_server, lambda name: name)
    yield persons
    problems = persons.close()
    assert not problems
