"""Parting: leaving a group, being removed from one, blocking somebody; in other tabs and after a reconnect too."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.person import PHONE, Person, Persons
from tests.web.test_access import flawless

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def details(person: Person) -> Locator:
    """The dialog about who or what one writes to."""
    person.page.locator(".stage .who").click()
    return person.page.locator("dialog[open]")


def question(person: Person) -> Locator:
    return person.page.get_by_role("alertdialog")


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def test_a_group_is_left(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    group = f"climbers of {alice.name}"
    alice.create_group(group)
    alice.say("Seven o'clock?")
    bob.join_group(group)
    expect(bob.row("Seven o'clock?")).to_be_visible()
    tab = people.second_tab(bob)
    tab.open(group)
    details(bob).get_by_role("button", name="Leave group").click()
    expect(question(bob)).to_contain_text(group)
    flawless(bob.page, "leave?")
    question(bob).get_by_role("button", name="Cancel").click()
    expect(bob.page.get_by_role("button", name="Leave group")).to_be_focused()  # where one was
    bob.page.get_by_role("button", name="Leave group").click()
    question(bob).get_by_role("button", name="Leave", exact=True).click()
    expect(bob.page.locator("dialog")).to_have_count(0)
    expect(bob.entry(group)).to_have_count(0)
    expect(bob.page.locator("#list")).to_be_focused()
    expect(bob.page.locator(".banner:visible")).to_have_count(0)  # nobody is told what they did
    # The other tab stood in it.
    expect(tab.composer).to_be_hidden()
    expect(tab.page.locator(".stopped").get_by_text("You are not in this group.")).to_be_visible()
    expect(tab.page.get_by_text(re.compile(f"not in the group .*{group}"))).to_be_visible()
    expect(tab.rows).to_have_count(0)
    flawless(tab.page, "a group that one is not in")
    # And back, from there; the creator's role went on meanwhile.
    details(alice).get_by_role("button", name="Leave group").click()
    expect(question(alice)).to_contain_text("Whoever has been in it longest")
    question(alice).get_by_role("button", name="Leave", exact=True).click()
    expect(alice.entry(group)).to_have_count(0)
    tab.page.get_by_role("button", name="Join", exact=True).click()
    expect(tab.row("Seven o'clock?")).to_be_visible()
    tab.say("Back again")
    tab.state("Back again", "stored")
    expect(bob.entry(group)).to_contain_text("Back again")
    expect(details(tab).locator(".members .tag")).to_have_text("Creator")


def test_a_member_is_removed(people: Persons) -> None:
    alice, bob = people("alice"), people("bob", **PHONE)
    group = f"climbers of {alice.name}"
    alice.create_group(group)
    bob.join_group(group)
    bob.composer.fill("I was about to say")
    alice.page.locator(".stage .who").click()
    expect(alice.page.get_by_role("button", name=f"Remove {alice.name}")).to_have_count(0)
    alice.page.get_by_role("button", name=f"Remove {bob.name}").click()
    flawless(alice.page, "remove?")
    question(alice).get_by_role("button", name="Remove", exact=True).click()
    expect(alice.page.locator(".members li")).to_have_count(1)
    expect(alice.page.locator("dialog .details")).to_be_focused()
    alice.page.keyboard.press("Escape")
    expect(bob.page.get_by_text(re.compile(f"not in the group .*{group}"))).to_be_visible()
    expect(bob.composer).to_be_hidden()
    flawless(bob.page, "removed")
    bob.page.get_by_role("button", name="Join", exact=True).click()
    expect(bob.page.get_by_role("alert").filter(has_text="You cannot join: you were removed")).to_be_visible()
    bob.page.reload()
    expect(bob.page.locator(".stopped").get_by_text("You are not in this group.")).to_be_visible()
    bob.page.get_by_role("link", name="Back to the list").click()
    expect(bob.entry(group)).to_have_count(0)
    expect(bob.page.get_by_text("No conversations yet")).to_be_visible()
    bob.page.evaluate("location.hash = 'g:999999'")
    expect(bob.page.locator(".stopped")).to_have_text("There is no such group.")
    expect(bob.composer).to_be_hidden()


def test_what_happened_while_one_was_away(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    group, other = f"climbers of {alice.name}", f"runners of {alice.name}"
    for name in (other, group):
        alice.create_group(name)
        bob.join_group(name)
    bob.context.set_offline(True)
    bob.open(group)
    bob.say("Written in the tunnel")
    bob.open(other)
    alice.page.locator(".stage .who").click()
    alice.page.get_by_role("button", name=f"Remove {bob.name}").click()
    question(alice).get_by_text("They may join again").click()
    question(alice).get_by_role("button", name="Remove", exact=True).click()
    expect(alice.page.locator(".members li")).to_have_count(1)
    bob.context.set_offline(False)
    expect(bob.page.get_by_text(re.compile(f"not in the group .*{group}"))).to_be_visible()
    bob.page.get_by_role("button", name="Close").click()
    # What was written for it is not lost, and says what became of it.
    bob.page.reload()
    bob.entry(group).click()
    expect(bob.page.locator(".failure")).to_contain_text("You are not a member here.")
    bob.page.get_by_role("button", name="Join", exact=True).click()
    bob.composer.wait_for()
    bob.page.get_by_role("button", name="Try again").click()
    bob.state("Written in the tunnel", "stored")
    alice.page.keyboard.press("Escape")
    alice.sees("Written in the tunnel")


def test_somebody_is_blocked_by_keyboard_alone(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    tab = people.second_tab(alice)
    page, press = alice.page, alice.page.keyboard.press
    for one, other in ((alice, bob), (bob, alice)):
        one.add(other.name)
        expect(one.page.locator(".stage .about")).to_have_text("Online")

    def reach(words: str, key: str = "Tab") -> None:
        for _ in range(25):
            if (
                page.evaluate("(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText)")
                == words
            ):
                return
            press(key)
        raise AssertionError(f"{words!r} cannot be reached")

    page.locator(".stage .who").focus()
    press("Enter")
    reach("Block")
    press("Enter")
    expect(focused(page)).to_have_text("Cancel")  # Enter alone does nothing
    flawless(page, "block?")
    press("Escape")
    expect(focused(page)).to_have_text("Block")
    press("Enter")
    press("Tab")
    press("Enter")
    expect(page.locator("dialog .details")).to_contain_text("You cannot write to each other.")
    flawless(page, "about somebody who is blocked")
    press("Escape")
    expect(alice.composer).to_be_hidden()
    expect(page.get_by_text(re.compile(f"You have blocked .*{bob.name}"))).to_be_visible()
    expect(page.locator(".stage .about")).to_have_text("Blocked")
    tab.page.get_by_role("tab", name="People").click()
    expect(tab.page.get_by_text("Nobody here yet")).to_be_visible()
    # The other one sees somebody who is not there, and is refused in plain words.
    expect(bob.page.locator(".stage .about")).to_have_text("Offline")
    bob.say("Alice?")
    expect(bob.page.locator(".failure")).to_contain_text("One of you has blocked the other.")
    expect(bob.composer).to_be_visible()
    # Undone where the account's settings list them, after a new start.
    page.reload()
    expect(page.get_by_text(re.compile(f"You have blocked .*{bob.name}"))).to_be_visible()
    page.get_by_role("button", name="Settings", exact=True).focus()
    press("Enter")
    reach("Account and logins")
    press("Enter")
    reach("Blocked people")
    press("Enter")
    reach(f"Unblock {bob.name}")
    flawless(page, "blocked people")
    press("Enter")
    expect(page.get_by_text("is not blocked any more")).to_be_visible()
    expect(focused(page)).to_have_text("Blocked people")
    press("Escape")
    expect(alice.composer).to_be_visible()
    expect(page.locator(".stage .about")).to_have_text("Online")
    expect(tab.entry(bob.name)).to_be_visible()
    expect(bob.page.locator(".stage .about")).to_have_text("Online")
    bob.page.get_by_role("button", name="Try again").click()
    alice.sees("Alice?")


def test_parting_in_chinese(people: Persons) -> None:
    alice, bob = people("alice", locale="zh-CN"), people("bob")
    bob.add(alice.name)
    bob.say("Hello")
    alice.entry(bob.name).click()
    page = alice.page
    details(alice).get_by_role("button", name="屏蔽", exact=True).click()
    flawless(page, "block? in Chinese")
    question(alice).get_by_role("button", name="屏蔽", exact=True).click()
    expect(question(alice)).to_have_count(0)
    expect(page.locator("dialog[open]")).to_contain_text("你们不能互发消息。")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="取消屏蔽").click()
    expect(alice.composer).to_be_visible()
    page.get_by_role("button", name="新会话").click()
    page.get_by_role("tab", name="新群组").click()
    page.get_by_label("群组名称").fill(f"攀岩 {alice.name}")
    page.get_by_role("button", name="创建", exact=True).click()
    page.locator("dialog").wait_for(state="detached")
    details(alice).get_by_role("button", name="退出群组").click()
    flawless(page, "leave? in Chinese")
    question(alice).get_by_role("button", name="退出", exact=True).click()
    expect(alice.entry(f"攀岩 {alice.name}")).to_have_count(0)
