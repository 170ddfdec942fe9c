"""Somebody in front of the page: what people do there, and what they see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.web.programs import Server

__all__ = ["PHONE", "Person", "Persons"]

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PASSWORD = "my secret"
#: What a browser says by itself when a server is away: not the page's fault.
_NETWORK = re.compile(r"WebSocket connection to|Failed to load resource|net::ERR_")


class Person:
    """One page of one person. `problems` is what the page complained of: errors, refused content."""

    def __init__(self, context: BrowserContext, address: str, name: str) -> None:
        self.context = context
        self.address = address
        self.name = name
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.page.locator("tc-app").wait_for(state="attached")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _NETWORK.search(message.text):
            self.problems.append(message.text)

    # What one does.

    def register(self) -> None:
        self.page.get_by_role("button", name="Create an account").click()
        self.fill_in()
        self.page.get_by_role("button", name="Create an account").click()
        self.page.locator("tc-sidebar").wait_for()

    def fill_in(self, password: str = PASSWORD) -> None:
        self.page.get_by_label("Name").fill(self.name)
        self.page.get_by_label("Password").fill(password)

    def add(self, name: str) -> None:
        """Add a person, and stand in the conversation with them."""
        self._new("Person", {"Name or number": name}, "Add")

    def add_self(self) -> None:
        """Notes to oneself."""
        self.page.evaluate(
            "id => (location.hash = `d:${id}:${id}`)", json.loads(self.storage()["trio-chat:session"])["id"]
        )
        self.composer.wait_for()

    def create_group(self, name: str, about: str = "") -> None:
        self._new("New group", {"Name of the group": name, "What it is about": about}, "Create")

    def join_group(self, name: str) -> None:
        self._new("Join group", {"Name of the group": name}, "Join")

    def _new(self, tab: str, fields: dict[str, str], button: str) -> None:
        self.page.get_by_role("button", name="New conversation").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("tab", name=tab).click()
        for label, value in fields.items():
            dialog.get_by_label(label).fill(value)
        dialog.get_by_role("button", name=button, exact=True).click()
        dialog.wait_for(state="detached")
        self.composer.wait_for()

    def open(self, title: str) -> None:
        self.entry(title).click()
        self.composer.wait_for()

    def say(self, *texts: str) -> None:
        for text in texts:
            self.composer.fill(text)
            self.page.get_by_role("button", name="Send").click()

    # What one sees.

    @property
    def composer(self) -> Locator:
        return self.page.locator("tc-composer textarea")

    @property
    def rows(self) -> Locator:
        return self.page.locator("tc-timeline .row")

    def row(self, text: str) -> Locator:
        return self.rows.filter(has=self.page.locator(".text", has_text=text))

    def entry(self, title: str) -> Locator:
        return self.page.locator("tc-sidebar .entry").filter(
            has=self.page.locator(".entry-title", has_text=re.compile(f"^{re.escape(title)}$"))
        )

    def texts(self) -> list[str]:
        return self.page.locator("tc-timeline .row .text").all_inner_texts()

    def sees(self, *texts: str) -> None:
        """Exactly these messages, in this order."""
        expect(self.page.locator("tc-timeline .row .text")).to_have_text(list(texts), use_inner_text=True)

    def state(self, text: str, state: str) -> None:
        """What became of one's own message."""
        expect(self.row(text).locator(".state")).to_have_class(re.compile(rf"\b{state}\b"))

    def storage(self) -> dict[str, str]:
        found: dict[str, str] = self.page.evaluate("({...localStorage})")
        return found


class Persons:
    """Whoever takes part in a test, each with a browser profile of their own; `close` says what their pages complained of."""

    def __init__(self, browser: Browser, server: Server, unique: Callable[[str], str], address: str = "") -> None:
        self._browser = browser
        self._server = server
        self._address = address or server.address
        self._unique = unique
        self._persons: list[Person] = []

    def __call__(self, name: str, *, register: bool = True, **options: Any) -> Person:
        """Somebody who has an account and is logged in, or (not `register`) stands before the first page."""
        name = self._unique(name)
        options = {"locale": "en-GB", "viewport": {"width": 1280, "height": 800}, **options}
        if register:
            session = json.dumps(self._server.account(name, PASSWORD))
            kept = [{"name": "trio-chat:session", "value": session}]
            options["storage_state"] = {"cookies": [], "origins": [{"origin": self._address, "localStorage": kept}]}
        person = Person(self._browser.new_context(**options), self._address, name)
        self._persons.append(person)
        if register:
            person.page.locator("tc-sidebar").wait_for()
        return person

    def second_tab(self, person: Person) -> Person:
        """The same person in another tab of the same browser."""
        other = Person(person.context, person.address, person.name)
        self._persons.append(other)
        return other

    def close(self) -> list[str]:
        for context in {id(person.context): person.context for person in self._persons}.values():
            context.close()
        return [problem for person in self._persons for problem in person.problems]
