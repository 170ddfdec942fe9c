"""People who talk: accounts, friends, groups, receipts, several tabs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.web.person import PHONE, Persons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_two_people_meet_and_talk(people: Persons) -> None:
    alice, bob = people("alice"), people("bob", **PHONE)
    alice.add(bob.name)
    alice.say("Hello, Bob!", "Have a look at https://trio.readthedocs.io, it is good.")
    alice.state("Hello", "received")
    expect(bob.entry(alice.name).locator(".badge")).to_have_text("2")
    expect(bob.page).to_have_title("(2) trio-chat")
    bob.open(alice.name)
    alice.state("Hello", "read")
    bob.say("Hello!\nTwo lines.", "👍🎉")
    alice.sees("Hello, Bob!", "Have a look at https://trio.readthedocs.io, it is good.", "Hello!\nTwo lines.", "👍🎉")
    link = bob.page.get_by_role("link", name="https://trio.readthedocs.io")
    expect(link).to_have_attribute("href", "https://trio.readthedocs.io/")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    expect(bob.page.locator(".day")).to_have_text(["Today"])


def test_what_is_wrong_is_said_in_plain_words(people: Persons) -> None:
    alice = people("alice", register=False)
    alice.fill_in()
    alice.page.get_by_role("button", name="Log in").click()
    problem = alice.page.get_by_role("alert")
    expect(problem).to_contain_text("do not go together")
    alice.register()
    alice.page.get_by_role("button", name="New conversation").click()
    dialog = alice.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("Name or number is still empty.")
    for name, words in [
        ("nobody of this name", "nobody of this name"),
        ("99999", "nobody of this name"),
        (alice.name, "That is you"),
    ]:
        dialog.get_by_label("Name or number").fill(name)
        dialog.get_by_role("button", name="Add", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text(words)
    other = people("alice", register=False)
    other.page.get_by_role("button", name="Create an account").click()
    other.fill_in()
    other.page.get_by_role("button", name="Create an account").click()
    expect(other.page.get_by_role("alert")).to_contain_text("taken")


def test_a_group_with_its_members(people: Persons) -> None:
    alice, bob, carol = people("alice"), people("bob"), people("carol")
    group = f"climbers of {alice.name}"
    alice.create_group(group, "Thursdays")
    alice.say("Who comes?")
    bob.join_group(group)
    bob.sees("Who comes?")
    bob.say(f"{bob.name} does")
    carol.join_group(group)
    carol.sees("Who comes?", f"{bob.name} does")
    carol.say(f"{carol.name} does")
    alice.sees("Who comes?", f"{bob.name} does", f"{carol.name} does")
    expect(alice.page.locator(".author")).to_have_text([bob.name, carol.name])
    alice.say("Both!")
    alice.state("Both!", "read")
    alice.page.locator(".stage .who").click()
    dialog = alice.page.get_by_role("dialog")
    expect(dialog.get_by_text("3 members")).to_be_visible()
    expect(dialog.locator(".member", has_text=alice.name)).to_contain_text("Creator")
    dialog.get_by_role("link", name=carol.name).click()
    alice.say("Only to you")
    expect(carol.entry(alice.name).locator(".preview")).to_contain_text("Only to you")


def test_a_reload_goes_on_where_one_was(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.say("one", "two")
    alice.state("two", "received")
    alice.composer.fill("half a thou")
    alice.page.reload()
    alice.sees("one", "two")
    expect(alice.composer).to_have_value("half a thou")
    expect(alice.entry(bob.name).locator(".preview")).to_contain_text("two")
    alice.state("two", "received")


def test_who_was_away_finds_the_first_new_message(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.say("seen")
    bob.open(alice.name)
    alice.state("seen", "read")
    bob.page.goto("about:blank")
    alice.say(*(f"new {number}" for number in range(24)))
    alice.state("new 23", "stored")
    bob.page.goto(bob.address)
    expect(bob.entry(alice.name).locator(".badge")).to_have_text("24")
    expect(bob.page).to_have_title("(24) trio-chat")
    bob.open(alice.name)
    expect(bob.page.locator(".unread-line")).to_be_in_viewport()
    expect(bob.row("new 0")).to_be_in_viewport()
    expect(bob.row("new 23")).not_to_be_in_viewport()
    bob.page.get_by_role("button", name=re.compile("To the latest message")).click()
    alice.state("new 23", "read")
    expect(bob.entry(alice.name).locator(".badge")).to_have_count(0)


def test_presence_and_typing(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    about = alice.page.locator(".stage .about")
    expect(about).to_have_text("Online")
    bob.add(alice.name)
    bob.composer.press_sequentially("I am ty")
    expect(about).to_have_text("typing …")
    expect(alice.page.locator(".typing")).to_contain_text(f"{bob.name} is typing")
    bob.say("I was typing")
    expect(alice.page.locator(".typing")).to_have_text("")
    bob.page.close()
    expect(about).to_have_text("Offline")


def test_two_tabs_agree(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    other = people.second_tab(alice)
    alice.page.bring_to_front()
    alice.add(bob.name)
    alice.say("from the first tab")
    other.page.bring_to_front()
    other.open(bob.name)
    other.sees("from the first tab")
    other.say("from the second")
    alice.page.bring_to_front()
    alice.sees("from the first tab", "from the second")
    other.page.evaluate("location.hash = ''")
    bob.open(alice.name)
    bob.say("to both")
    alice.sees("from the first tab", "from the second", "to both")
    expect(other.entry(bob.name).locator(".badge")).to_have_count(0)  # it was read in the first tab
    bob.sees("from the first tab", "from the second", "to both")
    alice.page.get_by_role("button", name="Settings", exact=True).click()
    alice.page.get_by_role("button", name="Log out").click()
    for tab in (alice, other):
        expect(tab.page.get_by_role("button", name="Log in", exact=True)).to_be_visible()
    assert "trio-chat:session" not in alice.storage()


def test_searching_leads_to_the_message(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.say("the rope is in the car", "今天下午去爬山吗", *(f"something else {number}" for number in range(20)))
    alice.state("something else 19", "received")
    alice.page.keyboard.press("Control+k")
    field = alice.page.get_by_role("searchbox")
    field.fill("爬山")
    expect(alice.page.locator(".found mark")).to_have_text(["爬山"])
    field.fill("car rope")
    found = alice.page.locator(".found .entry")
    expect(found).to_have_count(1)
    found.click()
    expect(alice.row("the rope is in the car")).to_be_in_viewport()
    expect(alice.page.locator(".row.found")).to_have_count(1)


def test_a_notification_of_the_desktop(people: Persons) -> None:
    alice, bob = people("alice"), people("bob", permissions=["notifications"])
    bob.page.get_by_role("button", name="Settings", exact=True).click()
    bob.page.get_by_label("Notify me").check()
    bob.page.keyboard.press("Escape")
    bob.page.evaluate(
        """() => {
            const say = (text) => document.documentElement.dataset.notified = text;
            window.Notification = class { constructor(title, options) { say(`${title}: ${options.body}`); } close() {} };
            window.Notification.permission = "granted";
            Object.defineProperty(document, "hidden", { get: () => true });
        }"""
    )
    alice.add(bob.name)
    alice.say("Look here!")
    expect(bob.page.locator("html")).to_have_attribute("data-notified", f"{alice.name}: Look here!")
