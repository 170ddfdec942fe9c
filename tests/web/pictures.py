"""Pictures of the page in its states: `python -m tests.web.pictures FOLDER`; with `--docs` those of the README, to docs/img.

For looking at after a change of the page: on a desk and on a phone, light and dark, some in Chinese.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from tests.web.conftest import FLAGS, chromium
from tests.web.person import PHONE, Person, Persons
from tests.web.programs import Server

DOCS = Path("docs/img")
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
expect.set_options(timeout=30_000)
LOOKS: dict[str, dict[str, Any]] = {
    "desk-light": {**DESK, "color_scheme": "light"},
    "desk-dark": {**DESK, "color_scheme": "dark"},
    "phone-light": {**PHONE, "color_scheme": "light"},
    "phone-dark": {**PHONE, "color_scheme": "dark"},
    "phone-chinese": {**PHONE, "color_scheme": "light", "locale": "zh-CN"},
}
GROUP = "Climbing on Thursdays"


class Cast:
    """Who is in the pictures, after they have talked; only `maya` is looked at."""

    def __init__(self, browser: Browser, server: Server, options: dict[str, Any]) -> None:
        self.people = Persons(browser, server, lambda name: name)
        self.maya = self.people("Maya Lindqvist", **options)
        self.tom, self.lin = self.people("Tom"), self.people("小林")
        self.fatima, self.otto = self.people("Fatima Zahra"), self.people("Otto")

    def talk(self) -> None:
        maya = self.maya
        maya.create_group(GROUP, "Seven o'clock at the wall")
        for other in (self.tom, self.lin, self.fatima):
            other.join_group(GROUP)
        maya.say("Who is in this week?")
        for who, *texts in (
            (
                self.tom,
                "Me! I bring the long rope.",
                "Topo of the new route: https://www.openbeta.io/climbs (see the second page)",
            ),
            (self.lin, "我也来，七点见 👋"),
            (self.fatima, "Running late, start without me 😅"),
        ):
            for text in texts:
                who.say(text)
                maya.row(text[:12]).wait_for()
        maya.say("Great.\nThen we are four: two ropes, eight quickdraws each, and somebody brings coffee ☕")
        maya.state("Great", "read")
        self.tom.say("🧗🧗")
        maya.row("🧗🧗").wait_for()
        for who, text in (
            (self.otto, "Are you at home?"),
            (self.otto, "There is a concert in the park."),
            (self.fatima, "شكراً جزيلاً، أراك غداً!"),
        ):
            if not who.entry(maya.name).count():
                who.add(maya.name)
            who.say(text)
            expect(maya.entry(who.name)).to_have_count(1)

    def typing(self) -> None:
        self.lin.composer.press_sequentially("Coff")
        expect(self.maya.page.locator(".typing")).to_contain_text("小林")


def states(folder: Path, look: str, browser: Browser, server: Server) -> None:
    """Every state of the page, in the order in which somebody meets them."""
    options = LOOKS[look]

    def shot(person: Person, name: str) -> None:
        person.page.wait_for_timeout(300)  # for what moves
        person.page.screenshot(path=folder / f"{look}-{name}.png")

    cast = Cast(browser, server, options)
    guest = cast.people("Guest", register=False, **options)
    shot(guest, "01-login")
    form = guest.page.locator("form")
    guest.page.locator("form input").first.fill("Guest")
    guest.page.locator("form input[type=password]").fill("not it")
    form.locator("button[type=submit]").first.click()
    guest.page.locator(".problem:not(:empty)").first.wait_for()
    shot(guest, "02-refused")
    maya = cast.maya
    shot(maya, "03-nothing-yet")
    if "chinese" in look:
        maya.page.evaluate("localStorage.setItem('trio-chat:language', '\"en\"')")
        maya.page.reload()
    cast.talk()
    if "chinese" in look:
        maya.page.evaluate("localStorage.removeItem('trio-chat:language')")
        maya.page.reload()
        maya.page.locator("tc-timeline .row").first.wait_for()
    shot(maya, "04-group")
    maya.page.locator(".stage .who").click()
    shot(maya, "05-members")
    maya.page.keyboard.press("Escape")
    maya.page.evaluate("location.hash = ''")
    shot(maya, "06-list")
    for number, button in enumerate(("header button:nth-of-type(3)", "header button:nth-of-type(4)"), 7):
        maya.page.locator(f"tc-sidebar {button}").first.click()
        shot(maya, f"{number:02}-dialog")
        maya.page.keyboard.press("Escape")
    maya.page.keyboard.press("Control+k")
    maya.page.locator("input[type=search]").fill("rope")
    maya.page.locator(".found .entry").first.wait_for()
    shot(maya, "09-search")
    maya.page.locator("input[type=search]").fill("nothing like this")
    shot(maya, "10-search-nothing")
    maya.page.keyboard.press("Escape")
    maya.page.keyboard.press("Escape")
    maya.add_self()
    shot(maya, "11-empty-conversation")
    maya.page.evaluate("location.hash = 'g:999999'")
    maya.composer.wait_for()
    maya.composer.fill("Is anybody there?")
    maya.page.locator("tc-composer button[type=submit]").click()
    maya.page.locator(".failure").wait_for()
    shot(maya, "12-failure")
    maya.page.evaluate("location.hash = 'g:1'")
    maya.row("Great").wait_for()
    maya.context.set_offline(True)
    maya.page.locator(".banner").wait_for()
    maya.composer.fill("Written in the tunnel")
    maya.page.locator("tc-composer button[type=submit]").click()
    shot(maya, "13-offline")
    print(look, cast.people.close())


def docs(browser: Browser, server: Server) -> None:
    """The README's two: on a desk, and on a phone the list beside the group."""
    cast = Cast(browser, server, LOOKS["desk-light"])
    cast.talk()
    kept = cast.maya.context.storage_state()
    phone = Person(browser.new_context(**LOOKS["phone-dark"], locale="en-GB", storage_state=kept), server.address, "")
    phone.page.locator("tc-sidebar").wait_for()
    cast.typing()
    cast.maya.page.screenshot(path=DOCS / "page.png")
    halves = [phone.page.screenshot()]
    phone.page.evaluate("location.hash = 'g:1'")
    phone.row("Great").wait_for()
    cast.typing()
    halves.append(phone.page.screenshot())
    sheet = browser.new_page(viewport={"width": 804, "height": 844})
    pictures = "".join(f"<img src='data:image/png;base64,{base64.b64encode(half).decode()}'>" for half in halves)
    sheet.set_content(f"<body style='margin:0;display:flex;gap:24px;background:#8a8f99'>{pictures}")
    sheet.screenshot(path=DOCS / "page-phone.png")
    phone.context.close()
    cast.people.close()


def main(folder: str) -> int:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for look in LOOKS:
            with tempfile.TemporaryDirectory() as place:
                server = Server(Path(place))
                server.start()
                try:
                    if folder == "--docs":
                        docs(browser, server)
                        return 0
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    states(Path(folder), look, browser, server)
                finally:
                    server.stop()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
