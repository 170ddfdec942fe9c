"""One's own account in the page: the password, the logins, one's data, the end; and registering by invitation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.web.person import PASSWORD, Person, Persons
from tests.web.programs import Server
from tests.web.test_access import flawless

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def account(person: Person, part: str) -> Locator:
    """The dialog about the account, with a part of it open."""
    page = person.page
    if not page.get_by_role("dialog").is_visible():
        page.get_by_role("button", name="Settings", exact=True).click()
        page.get_by_role("button", name="Account and logins").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("summary").get_by_text(part, exact=True).click()
    return dialog.locator("details[open]").filter(has_text=part)


def test_password_logins_data_and_the_end(people: Persons, tmp_path: Path) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.say("Hello!")
    part = account(alice, "Where you are logged in")
    expect(part.get_by_role("listitem")).to_have_count(1)
    expect(part.get_by_text("This one")).to_be_visible()
    flawless(alice.page, "logins")
    # Another device of hers, which a change of the password logs out.
    phone = people("alice", register=False)
    phone.fill_in()
    phone.page.get_by_role("button", name="Log in").click()
    phone.page.locator("tc-sidebar").wait_for()
    part = account(alice, "Change the password")
    part.get_by_label("Your present password").fill("wrong")
    part.get_by_label("New password").fill("another secret")
    part.get_by_role("button", name="Change it").click()
    expect(part.get_by_role("alert")).to_contain_text("do not go together")
    part.get_by_label("Your present password").fill(PASSWORD)
    part.get_by_role("button", name="Change it").click()
    expect(part.get_by_text("The password is changed.")).to_be_visible()
    flawless(alice.page, "the password is changed")
    expect(phone.page.get_by_text("You were logged out here from another device")).to_be_visible()
    part = account(alice, "Take your data out")
    with alice.page.expect_download() as download:
        part.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "mine.json")
    mine = json.loads((tmp_path / "mine.json").read_text())
    assert (mine["name"], [message["msg"] for message in mine["messages"]]) == (alice.name, ["Hello!"])
    part = account(alice, "Delete the account")
    part.get_by_label("Your present password").fill("another secret")
    flawless(alice.page, "before the end")
    part.get_by_role("button", name="Delete my account").click()
    expect(alice.page.get_by_role("button", name="Log in")).to_be_visible()
    assert alice.problems == phone.problems == []


def test_out_everywhere(people: Persons) -> None:
    alice = people("alice")
    phone = people("alice", register=False)
    phone.fill_in()
    phone.page.get_by_role("button", name="Log in").click()
    phone.page.locator("tc-sidebar").wait_for()
    part = account(alice, "Where you are logged in")
    expect(part.get_by_role("listitem")).to_have_count(2)
    part.get_by_role("button", name="Log out everywhere").click()
    for person in (alice, phone):
        expect(person.page.get_by_role("button", name="Log in")).to_be_visible()
    assert phone.storage().get("trio-chat:session") in {None, "null"}


def test_what_a_deleted_account_leaves(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    name = f"climbers of {alice.name}"
    alice.create_group(name)
    alice.say("Seven o'clock?")
    alice.state("Seven o'clock?", "stored")
    part = account(alice, "Delete the account")
    part.get_by_label("Your present password").fill(PASSWORD)
    part.get_by_role("button", name="Delete my account").click()
    expect(alice.page.get_by_role("button", name="Log in")).to_be_visible()
    bob.join_group(name)
    expect(bob.page.get_by_text("deleted user").first).to_be_visible()
    expect(bob.page.locator(".row .text").get_by_text("Deleted with its account")).to_be_visible()


def test_registering_by_invitation(browser: Browser, tmp_path: Path) -> None:
    """A right code and a wrong one, by a link and by hand; and a server that takes nobody."""
    server = Server(tmp_path, registration="invitation")
    server.start()
    people = Persons(browser, server, lambda name: name)
    try:
        code = server.invite("--uses", "2")
        # Who knows nothing of it is told, and what was written stays.
        alice = people("alice", register=False)
        page = alice.page
        page.get_by_role("button", name="Create an account").click()
        alice.fill_in()
        page.get_by_role("button", name="Create an account").click()
        expect(page.get_by_role("alert")).to_contain_text("by invitation only")
        expect(page.get_by_label("Invitation")).to_be_focused()
        expect(page.get_by_label("Name")).to_have_value("alice")
        flawless(page, "by invitation")
        page.get_by_label("Invitation").fill("no-such-code")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This invitation is not valid")
        page.keyboard.type(f" {code.upper()} ")  # in the place of the wrong one
        page.keyboard.press("Enter")
        page.locator("tc-sidebar").wait_for()
        # Who has the code says so.
        bob = people("bob", register=False)
        bob.page.get_by_role("button", name="Create an account").click()
        bob.fill_in()
        bob.page.get_by_role("button", name="I have an invitation").click()
        expect(bob.page.get_by_label("Password")).to_have_value(PASSWORD)
        # The link leads straight there, also in a page that is open; it survives a reload, and is gone afterwards.
        bob.page.evaluate(f"location.hash = 'invite={code}'")
        bob.page.reload()
        expect(bob.page.get_by_text("You are invited")).to_be_visible()
        expect(bob.page.get_by_label("Invitation")).to_have_value(code)
        flawless(bob.page, "invited")
        bob.fill_in()
        bob.page.get_by_role("button", name="Create an account").click()
        bob.page.locator("tc-sidebar").wait_for()
        assert bob.page.url == f"{server.address}/"
        # It was good for two.
        carol = people("carol", register=False)
        carol.page.evaluate(f"location.hash = 'invite={code}'")
        carol.fill_in()
        carol.page.get_by_role("button", name="Create an account").click()
        expect(carol.page.get_by_role("alert")).to_contain_text("used up")
        server.stop()
        expect(carol.page.locator(".banner:visible")).to_have_count(1)
        server.registration = "closed"
        server.start()
        expect(carol.page.locator(".banner:visible")).to_have_count(0)
        carol.page.get_by_role("button", name="Create an account").click()
        expect(carol.page.get_by_role("alert")).to_contain_text("This server takes no new accounts.")
        assert people.close() == []
    finally:
        people.close()
        server.kill()
