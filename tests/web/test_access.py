"""For everybody: with a keyboard, with a screen reader, on a phone, in both languages, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.web.person import PHONE, Persons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

AXE = Axe()


def flawless(page: Page, state: str) -> None:
    results = AXE.run(page).response
    flaws = [(flaw["id"], [node["html"][:200] for node in flaw["nodes"]]) for flaw in results["violations"]]
    assert not flaws, (state, flaws)


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark", **PHONE}], ids=["desk, light", "phone, dark"]
)
def test_axe_finds_nothing(people: Persons, options: dict[str, Any]) -> None:
    alice = people("alice", register=False, **options)
    page = alice.page
    flawless(page, "login")
    page.get_by_text("Appearance and language").click()
    page.get_by_role("button", name="Create an account").click()
    flawless(page, "register")
    alice.fill_in()
    page.get_by_role("button", name="Create an account").click()
    expect(page.locator(".empty-title").first).to_be_visible()
    flawless(page, "nothing yet")
    page.get_by_role("tab", name="People").click()
    flawless(page, "nobody yet")
    page.get_by_role("tab", name="Chats").click()
    bob = people("bob")
    alice.add(bob.name)
    flawless(page, "an empty conversation")
    alice.say("Hello! https://example.org", "👍", "x\n" * 30)
    bob.open(alice.name)
    bob.say("Hello back")
    alice.state("Hello!", "read")
    flawless(page, "a conversation")
    page.get_by_role("button", name="Insert an emoji").click()
    flawless(page, "emoji")
    page.keyboard.press("Escape")
    page.locator(".stage .who").click()
    flawless(page, "about a person")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Search in this conversation").click()
    page.get_by_role("searchbox").fill("hello")
    expect(page.locator(".found .entry")).to_have_count(2)
    flawless(page, "search")
    page.keyboard.press("Escape")  # empties the field
    page.keyboard.press("Escape")
    page.evaluate("location.hash = ''")
    page.get_by_role("button", name="New conversation").click()
    for tab in ("Person", "New group", "Join group"):
        page.get_by_role("tab", name=tab).click()
        flawless(page, tab)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings", exact=True).click()
    flawless(page, "settings")
    page.keyboard.press("Escape")
    flawless(page, "the list")


def test_the_keyboard_is_enough(people: Persons) -> None:
    """From the first page to a message, and to the next conversation, without a pointer."""
    bob = people("bob")
    alice = people("alice", register=False)
    page, press = alice.page, alice.page.keyboard.press

    def focused() -> str:
        words: str = page.evaluate(
            "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
        )
        return words

    def tab_to(words: str, key: str = "Tab") -> None:
        for _ in range(25):
            if focused().startswith(words):
                return
            press(key)
        raise AssertionError(f"{words!r} cannot be reached; {focused()!r} is where one is")

    tab_to("Create an account")
    press("Enter")
    page.keyboard.type(alice.name)
    press("Tab")
    page.keyboard.type("my secret")
    press("Enter")
    page.locator("tc-sidebar").wait_for()
    tab_to("New conversation")
    press("Enter")
    expect(page.get_by_label("Name or number")).to_be_focused()
    press("Escape")
    assert focused() == "New conversation"  # where one was
    press("Enter")
    page.keyboard.type(bob.name)
    press("Enter")
    expect(alice.composer).to_be_focused()
    page.keyboard.type("Hello")
    press("Shift+Enter")
    page.keyboard.type("Bob")
    press("Enter")
    alice.sees("Hello\nBob")
    expect(alice.composer).to_be_focused()
    tab_to("Insert an emoji", "Shift+Tab")
    press("Enter")
    press("ArrowRight")
    press("ArrowDown")
    press("Enter")
    expect(alice.composer).to_be_focused()
    press("Enter")
    expect(alice.rows).to_have_count(2)
    tab_to("Messages with", "Shift+Tab")
    tab_to("Chats", "Shift+Tab")
    press("ArrowRight")
    expect(page.get_by_role("tab", name="People")).to_be_focused()
    press("Alt+ArrowDown")
    expect(alice.composer).to_be_focused()
    press("Control+k")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_screen_reader_is_told_of_messages(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    bob.add(alice.name)
    bob.say("Can you hear me?")
    expect(alice.page.locator("#live")).to_have_text(f"{bob.name}: Can you hear me?")
    for role, name in (
        ("navigation", "Conversations and people"),
        ("main", ""),
        ("region", f"Messages with {bob.name}"),
    ):
        expect(alice.page.get_by_role(role, name=name)).to_be_visible()  # type: ignore[arg-type]
    expect(alice.page.get_by_role("listitem").filter(has_text="Can you hear me?").last).to_be_visible()


def test_in_chinese(people: Persons) -> None:
    alice = people("alice", register=False, locale="zh-CN")
    page = alice.page
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.get_by_role("button", name="注册账号").click()
    page.get_by_label("用户名").fill("小明" + alice.name)
    page.get_by_label("密码").fill("my secret")
    page.get_by_role("button", name="注册账号").click()
    expect(page.get_by_text("还没有会话")).to_be_visible()
    flawless(page, "Chinese")
    page.get_by_role("button", name="设置", exact=True).click()
    page.get_by_label("English").click()
    expect(page.get_by_text("No conversations yet")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_colours_one_chose_stay(people: Persons) -> None:
    alice = people("alice", color_scheme="light")
    page = alice.page
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Dark").check()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == dark == "rgb(21, 23, 28)"


def test_a_phone_shows_one_thing_at_a_time(people: Persons) -> None:
    alice, bob = people("alice", **PHONE), people("bob")
    alice.add(bob.name)
    expect(alice.page.locator("tc-sidebar")).to_be_hidden()
    alice.composer.fill("one")
    alice.composer.press("Enter")  # a new line: the button sends
    alice.composer.press_sequentially("two")
    alice.page.get_by_role("button", name="Send").click()
    alice.sees("one\ntwo")
    alice.page.get_by_role("link", name="Back to the list").click()
    expect(alice.page.locator("tc-sidebar")).to_be_visible()
    expect(alice.entry(bob.name)).to_be_focused()
    assert alice.page.evaluate("document.documentElement.scrollWidth") == 390
