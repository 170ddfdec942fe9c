"""Pictures of the page in its states: `python -m tests.web.pictures FOLDER`; with `--docs` those of the README, to docs/img.

For looking at after a change of the page: on a desk and on a phone, light and dark, some in Chinese.
"""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, expect, sync_playwright

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


class Look:
    """Takes the pictures of one look, numbered in the order in which somebody meets what they show."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        self._count = 0

    def shot(self, person: Person, what: str) -> None:
        person.page.wait_for_timeout(300)  # for what moves
        self._count += 1
        person.page.screenshot(path=self._folder / f"{self.name}-{self._count:02}-{what}.png")

    @contextlib.contextmanager
    def dialog(self, person: Person, opener: str, what: str) -> Iterator[Locator]:
        """A dialog, a picture of it, and whatever is to be done in it; it is closed then."""
        person.page.locator(opener).first.click()
        dialog = person.page.locator("dialog[open]")
        self.shot(person, what)
        yield dialog
        while dialog.count():
            person.page.keyboard.press("Escape")


def first_pages(look: Look, guest: Person, invited: Person) -> None:
    """Log in, register, an invitation: refused at first."""
    page, submit = guest.page, guest.page.locator("form button[type=submit]")
    look.shot(guest, "login")
    page.locator("form input").first.fill("Guest")
    page.locator("form input[type=password]").fill("not it")
    submit.click()
    page.locator(".problem:not(:empty)").first.wait_for()
    look.shot(guest, "refused")
    page.locator(".welcome-settings summary").click()
    page.locator(".other button").first.click()
    look.shot(guest, "register")
    page.locator(".welcome-settings summary").click()
    page.locator("form input").first.fill("Guest")
    page.locator("form input[type=password]").fill("secret")
    submit.click()
    page.locator("input[name=invitation]").wait_for()
    look.shot(guest, "invitation-needed")
    invited.page.evaluate("location.hash = 'invite=sy4mx-9jrtd-vperr-c7ybp'")
    invited.page.locator("form input").first.fill("Guest")
    invited.page.locator("form input[type=password]").fill("secret")
    invited.page.locator("form button[type=submit]").click()
    invited.page.locator(".problem:not(:empty)").first.wait_for()
    look.shot(invited, "invitation-refused")


def conversations(look: Look, maya: Person) -> None:
    """A group, its members, the list, searching, nothing yet."""
    look.shot(maya, "group")
    maya.page.locator(".emoji button").first.click()
    look.shot(maya, "emoji")
    maya.page.keyboard.press("Escape")
    with look.dialog(maya, ".stage .who", "members") as dialog:
        dialog.locator(".members .link").first.click()
        look.shot(maya, "remove")
        maya.page.keyboard.press("Escape")
        dialog.locator(".details > .danger").click()
        look.shot(maya, "leave")
    maya.page.evaluate("location.hash = ''")
    look.shot(maya, "list")
    maya.page.locator("#tab-people").click()
    look.shot(maya, "people")
    maya.page.locator("#tab-chats").click()
    maya.page.keyboard.press("Control+k")
    look.shot(maya, "search-begins")
    maya.page.locator("input[type=search]").fill("rope")
    maya.page.locator(".found .entry").first.wait_for()
    look.shot(maya, "search")
    maya.page.locator("input[type=search]").fill("nothing like this")
    look.shot(maya, "search-nothing")
    maya.page.keyboard.press("Escape")
    maya.page.keyboard.press("Escape")
    maya.add_self()
    look.shot(maya, "empty-conversation")


def dialogs(look: Look, maya: Person) -> None:
    """A new conversation and what may be wrong with it, the settings, the account."""
    maya.page.evaluate("location.hash = ''")
    with look.dialog(maya, "tc-sidebar header button:nth-of-type(3)", "add") as dialog:
        dialog.locator("input").fill("nobody of this name")
        dialog.locator("button[type=submit]").click()
        dialog.locator(".problem:not(:empty)").wait_for()
        look.shot(maya, "add-refused")
        for tab in ("create", "join"):
            dialog.locator(f"#add-{tab}").click()
            look.shot(maya, f"add-{tab}")
    with look.dialog(maya, "tc-sidebar header button:nth-of-type(4)", "settings") as dialog:
        dialog.locator("button.button:not(.danger)").click()
        look.shot(maya, "account")
        for part in dialog.locator("details").all():
            part.locator("summary").click()
            look.shot(maya, "account-part")
            part.locator("summary").click()


def parting(look: Look, cast: Cast) -> None:
    """Somebody is blocked, either way; a group that one was removed from."""
    maya = cast.maya
    maya.open("Otto")
    with look.dialog(maya, ".stage .who", "person") as dialog:
        dialog.locator(".danger").click()
        look.shot(maya, "block")
        maya.page.get_by_role("alertdialog").locator(".destructive").click()
        expect(maya.page.get_by_role("alertdialog")).to_have_count(0)
        look.shot(maya, "person-blocked")
    look.shot(maya, "blocked")
    maya.page.evaluate("location.hash = ''")
    with look.dialog(maya, "tc-sidebar header button:nth-of-type(4)", "settings") as dialog:
        dialog.locator("button.button:not(.danger)").click()
        dialog.locator("summary").nth(2).click()
        look.shot(maya, "account-blocked")
    maya.open(cast.fatima.name)
    fatima = cast.fatima
    fatima.open(maya.name)
    fatima.page.locator(".stage .who").click()
    fatima.page.get_by_role("button", name="Block", exact=True).click()
    fatima.page.get_by_role("alertdialog").get_by_role("button", name="Block").click()
    fatima.page.locator("dialog").get_by_text("You cannot write to each other").wait_for()
    fatima.page.keyboard.press("Escape")
    maya.composer.fill("Did you get my message?")
    maya.page.locator("tc-composer button[type=submit]").click()
    maya.page.locator(".failure").wait_for()
    look.shot(maya, "failure")
    fatima.create_group("Sunday runners")
    maya.page.evaluate("location.hash = 'g:2'")
    maya.page.locator(".stopped button").click()
    maya.composer.wait_for()
    fatima.page.locator(".stage .who").click()
    fatima.page.get_by_role("button", name=f"Remove {maya.name}").click()
    fatima.page.get_by_role("alertdialog").get_by_role("button", name="Remove").click()
    maya.page.locator(".banner:visible").wait_for()
    look.shot(maya, "removed")
    maya.page.locator(".stopped button").click()
    maya.page.locator(".stopped .problem:not(:empty)").wait_for()
    look.shot(maya, "removed-for-good")
    maya.page.locator(".banner:visible button").click()


def extremes(look: Look, cast: Cast) -> None:
    """Names as long as may be, texts that mean no good, a text that is too long."""
    maya, other = cast.maya, cast.people("Wilhelmina-Wolfeschlegelsteinhausenbergerdorff-Wow")
    other.create_group("Donaudampfschifffahrtselektrizitätenhauptbetriebsw", "about " * 33)
    maya.page.evaluate("location.hash = 'g:3'")
    maya.page.locator(".stopped button").click()
    maya.composer.wait_for()
    for text in (
        "<img src=x onerror=alert(1)>",
        "\u202eevil\u202c a\u200bb",
        "W" * 300,
        "Z\u0351\u036b\u0343" * 40,
        "https://example.org/" + "x" * 200,
    ):
        other.say(text)
        maya.row(text[:4]).first.wait_for()
    other.say("\n".join(f"line {number}" for number in range(40)))
    maya.page.locator(".more").first.wait_for()
    look.shot(maya, "hostile")
    with look.dialog(maya, ".stage .who", "long-names") as dialog:
        dialog.locator(".details > .danger").click()
        look.shot(maya, "long-names-leave")
    maya.composer.fill("so long " * 4000)
    look.shot(maya, "too-long")
    maya.composer.fill("")
    maya.page.evaluate("location.hash = ''")
    look.shot(maya, "long-names-list")


def troubles(look: Look, maya: Person, server: Server) -> None:
    """No network; a server that stops; none."""
    maya.page.evaluate("location.hash = 'g:1'")
    maya.row("Great").wait_for()
    maya.context.set_offline(True)
    maya.page.locator(".banner:visible").wait_for()
    maya.composer.fill("Written in the tunnel")
    maya.page.locator("tc-composer button[type=submit]").click()
    look.shot(maya, "offline")
    maya.context.set_offline(False)
    maya.page.locator(".banner:visible").wait_for(state="detached")
    server.stop()
    maya.page.locator(".banner:visible").wait_for()
    look.shot(maya, "reconnecting")
    expect(maya.page.locator(".banner:visible")).to_contain_text(re.compile(r"\d"))
    look.shot(maya, "no-server")


def states(folder: Path, name: str, browser: Browser, server: Server, exclusive: Server) -> None:
    """Every state of the page; `exclusive` is a server that takes people by invitation only."""
    options, look = LOOKS[name], Look(folder, name)
    strangers = Persons(browser, exclusive, lambda name: name)
    guest, invited = (strangers(name, register=False, **options) for name in ("Guest", "Invited"))
    first_pages(look, guest, invited)
    cast = Cast(browser, server, options)
    maya = cast.maya
    look.shot(maya, "nothing-yet")
    maya.page.locator("#tab-people").click()
    look.shot(maya, "nobody-yet")
    maya.page.locator("#tab-chats").click()
    if "chinese" in name:
        maya.page.evaluate("localStorage.setItem('trio-chat:language', '\"en\"')")
        maya.page.reload()
    cast.talk()
    if "chinese" in name:
        maya.page.evaluate("localStorage.removeItem('trio-chat:language')")
    maya.page.reload()
    maya.page.locator("tc-timeline .row").first.wait_for()
    conversations(look, maya)
    dialogs(look, maya)
    parting(look, cast)
    extremes(look, cast)
    troubles(look, maya, server)
    print(name, strangers.close() + cast.people.close())


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
                exclusive = Server(Path(place) / "exclusive", registration="invitation")
                (Path(place) / "exclusive").mkdir()
                server.start()
                exclusive.start()
                try:
                    if folder == "--docs":
                        docs(browser, server)
                        return 0
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    states(Path(folder), look, browser, server, exclusive)
                finally:
                    server.stop()
                    exclusive.stop()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
