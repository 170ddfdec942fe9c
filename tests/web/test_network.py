"""Weak networks: what is written is kept, sent once, shown once, whatever breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.web.person import Persons
from tests.web.programs import Line, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    line = Line(server.port)
    yield line
    line.close()


@pytest.fixture
def on_the_line(browser: Browser, server: Server, line: Line) -> Iterator[Persons]:
    """People whose pages reach the server over the line."""
    persons = Persons(browser, server, lambda name: f"{name} of {line.port}", line.address)
    yield persons
    problems = persons.close()
    assert not problems


def test_the_server_is_killed_while_people_write(own_server: Server, people_of: Persons) -> None:
    alice, bob = people_of("alice"), people_of("bob")
    alice.add(bob.name)
    bob.add(alice.name)
    texts = [f"text {number}" for number in range(12)]
    alice.say(*texts[:4])
    bob.sees(*texts[:4])
    own_server.kill()
    expect(alice.page.locator(".banner")).to_be_visible()
    alice.say(*texts[4:8])
    alice.state(texts[7], "sending")
    own_server.start()
    alice.page.evaluate("dispatchEvent(new Event('online'))")
    alice.say(*texts[8:])
    alice.state(texts[11], "stored|received|read")
    bob.sees(*texts)
    alice.sees(*texts)
    expect(alice.page.locator(".banner")).to_be_hidden()
    assert own_server.stored("d:1:2") == texts
    assert not [key for key in alice.storage() if ":outbox:" in key]


def test_what_was_written_offline_survives_a_reload(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.say("before")
    bob.open(alice.name)
    alice.page.route_web_socket("**/ws", lambda route: route.close())
    alice.page.reload()  # the files come, the connection does not
    expect(alice.page.locator(".banner")).to_be_visible()
    alice.say("while away", "and another")
    alice.page.reload()
    alice.state("while away", "sending")
    alice.state("and another", "sending")
    expect(alice.entry(bob.name).locator(".preview")).to_contain_text("and another")
    alice.page.unroute_all()
    other = people.second_tab(alice)  # a page without the obstacle; the first one is closed for good
    alice.page.close()
    other.open(bob.name)
    other.sees("before", "while away", "and another")
    bob.sees("before", "while away", "and another")
    assert not [key for key in other.storage() if ":outbox:" in key]


def test_a_part_of_the_page_that_does_not_come_is_asked_for_again(people: Persons) -> None:
    alice = people("alice")
    alice.page.route("**/state/store.js", lambda route: route.abort(), times=2)  # the preload, and the import
    alice.page.reload()
    expect(alice.page.get_by_text("could not be loaded")).to_be_visible()
    expect(alice.page.locator("tc-sidebar")).to_be_visible()


def test_flight_mode(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.add(bob.name)
    alice.context.set_offline(True)
    expect(alice.page.locator(".banner")).to_contain_text("You are offline")
    alice.say("from above the clouds")
    alice.state("from above", "sending")
    alice.context.set_offline(False)
    alice.state("from above", "received")
    expect(alice.page.locator(".banner")).to_be_hidden()
    bob.open(alice.name)
    bob.sees("from above the clouds")


def test_an_answer_that_is_lost_doubles_nothing(line: Line, on_the_line: Persons, people: Persons) -> None:
    alice, bob = on_the_line("alice"), people("bob")
    alice.add(bob.name)
    alice.say("first")
    bob.open(alice.name)
    bob.sees("first")
    line.mute = True
    alice.say("stored, but alice does not know")
    bob.sees("first", "stored, but alice does not know")
    alice.state("stored", "sending")
    alice.say("another")
    line.cut()
    line.mend()
    alice.page.evaluate("dispatchEvent(new Event('online'))")
    alice.state("another", "read")
    for person in (alice, bob):
        person.sees("first", "stored, but alice does not know", "another")
    alice.page.reload()
    alice.sees("first", "stored, but alice does not know", "another")


def test_a_slow_line(line: Line, on_the_line: Persons, people: Persons) -> None:
    alice, bob = on_the_line("alice"), people("bob")
    alice.add(bob.name)
    line.delay = 3  # long enough to be seen
    alice.say("one", "two", "three")
    alice.sees("one", "two", "three")  # at once, whatever the network does
    alice.state("three", "sending")
    line.delay = 0.1
    alice.state("three", "received")
    bob.open(alice.name)
    bob.sees("one", "two", "three")
    alice.page.reload()
    alice.sees("one", "two", "three")


def test_a_message_that_is_refused_can_be_thrown_away(people: Persons) -> None:
    alice = people("alice")
    me = json.loads(alice.storage()["trio-chat:session"])["id"]
    alice.page.evaluate(f"location.hash = 'd:{me}:999999'")
    alice.composer.wait_for()
    alice.say("Is anybody there?")
    alice.state("Is anybody", "failed")
    expect(alice.page.locator(".failure")).to_contain_text("There is nobody of this name.")
    alice.page.reload()
    alice.state("Is anybody", "failed")
    alice.page.get_by_role("button", name="Delete").click()
    alice.sees()


def test_a_page_without_a_connection_shows_what_it_knew(people: Persons) -> None:
    alice, bob = people("alice"), people("bob")
    alice.create_group(f"group of {alice.name}")
    alice.add(bob.name)
    alice.say("the last words")
    alice.state("the last words", "received")
    alice.page.route_web_socket("**/ws", lambda route: route.close())
    alice.page.reload()
    expect(alice.entry(bob.name).locator(".preview")).to_have_text("You: the last words")
    expect(alice.entry(f"group of {alice.name}")).to_be_visible()
    alice.open(bob.name)
    alice.say("and some more")
    alice.state("and some more", "sending")
    expect(alice.page.locator(".stage .about")).to_have_text("")  # nobody knows whether bob is online
