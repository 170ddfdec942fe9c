"""Texts that want to be more than text."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.web.person import Persons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HOSTILE = [
    "<script>document.title = 'caught'</script>",
    "<img src=x onerror=\"document.title = 'caught'\"><b>bold</b>",
    "javascript:alert(1) data:text/html,<script>alert(1)</script>",
    "https://example.org/\"onmouseover=\"alert(1)",
    "&lt;b&gt; {{7*7}} ${7*7} </textarea></style>",
    "abc \u202etxt.exe\u202c and \u2067right\u2069 \u200f\u200b\u200d\ufeff end",
    "שלום, https://example.org/שלום?a=1 مرحبا",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324 algo",
    "\u200b\u2060\ufeff|",
]  # fmt: skip


def test_texts_stay_texts(people: Persons) -> None:
    alice, bob = people("alice"), people("<b>bob</b> & 'co'")
    alice.add(bob.name)
    expect(alice.page.locator(".stage .name")).to_have_text(bob.name)
    alice.say(*HOSTILE)
    bob.open(alice.name)
    for person in (alice, bob):
        expect(person.rows).to_have_count(len(HOSTILE))
        assert (
            person.page.locator("tc-timeline .text").evaluate_all("all => all.map((one) => one.textContent)") == HOSTILE
        )
        assert person.page.locator("tc-timeline .text :not(a)").count() == 0
        links = person.page.locator("tc-timeline .text a").evaluate_all("all => all.map((one) => one.href)")
        assert all(link.startswith("https://example.org/") for link in links), links
        assert "caught" not in person.page.title()


def test_an_address_is_not_more_than_it_seems(people: Persons) -> None:
    alice = people("alice")
    alice.add_self()
    alice.say("see (https://example.org/a_(b)), http://user:word@example.org/ and https://exa\u202emple.org/x.")
    links = alice.page.locator("tc-timeline .text a").all_inner_texts()
    assert links == ["https://example.org/a_(b)", "https://exa"]


def test_a_long_text_is_folded_and_does_not_widen_the_page(people: Persons) -> None:
    alice, bob = people("alice"), people("bob", viewport={"width": 390, "height": 844})
    alice.add(bob.name)
    long = "x" * 16384
    alice.say(long)
    alice.state("xxx", "received")
    bob.open(alice.name)
    fold = bob.page.get_by_role("button", name="Show all")
    expect(fold).to_be_visible()
    for person in (alice, bob):
        assert person.page.evaluate("document.querySelector('.scroller').scrollWidth <= innerWidth")
    fold.click()
    expect(fold).to_have_count(0)
    assert bob.page.locator(".text").inner_text() == long
    alice.composer.fill("好" * 6000)
    expect(alice.page.locator("#composer-note")).to_contain_text("Too long by 1616 of 16384 bytes")
    expect(alice.page.get_by_role("button", name="Send")).to_be_disabled()
    alice.composer.press("Enter")
    expect(alice.rows).to_have_count(1)


def test_the_page_allows_nothing_but_itself(people: Persons) -> None:
    alice = people("alice")
    policy = alice.page.request.get(alice.address).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    hosts = alice.page.evaluate("performance.getEntriesByType('resource').map((one) => new URL(one.name).host)")
    assert set(hosts) == {alice.address.removeprefix("http://")}
