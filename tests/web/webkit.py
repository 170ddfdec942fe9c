"""The page in WebKit, Safari's engine: `python -m tests.web.webkit [PICTURE]`, after a change of the page; no part of the tests.

WebKitGTK's MiniBrowser is driven by WebDriver (Debian: webkit2gtk-driver, xvfb), with clicks and keys as a person makes them.
Two people make accounts and talk, one loads the page anew, the server is killed, one writes while it is away; what
the page complains of once it has loaded is an error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.web.firefox import button
from tests.web.programs import Server, free_port

#: How WebDriver names a reference to an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
COMPOSER = "document.querySelector('tc-composer textarea')"
SEND = "document.querySelector('tc-composer button[type=submit]')"
ENTRY = "document.querySelector('tc-sidebar .entry')"
TEXTS = "[...document.querySelectorAll('tc-timeline .row .text')].map((one) => one.innerText)"
#: Keeps what goes wrong in a page from here on; WebDriver has no way to ask for it, and none to begin before the page does.
LISTEN = """(() => {
    window.complaints = [];
    const keep = (words) => window.complaints.push(String(words));
    addEventListener('error', (event) => keep(event.message));
    addEventListener('unhandledrejection', (event) => keep(event.reason));
    addEventListener('securitypolicyviolation', (event) => keep('Content Security Policy: ' + event.violatedDirective));
    for (const kind of ['error', 'warn']) {
        const say = console[kind];
        console[kind] = (...words) => { keep(words.join(' ')); say.apply(console, words); };
    }
    return true;
})()"""


def field(label: str) -> str:
    return f"[...document.querySelectorAll('label')].find((one) => one.checkVisibility() && one.textContent.startsWith('{label}'))?.control"


class WebKit:
    """One browser with a profile of its own."""

    def __init__(self, place: Path, display: str) -> None:
        self._log = place / f"webkit-{free_port()}.log"
        port = free_port()
        self._base = f"http://127.0.0.1:{port}/session"
        environment = {
            **os.environ,
            "DISPLAY": display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",
        }
        with self._log.open("wb") as log:
            self._driver = subprocess.Popen(
                ["WebKitWebDriver", f"--port={port}"], stdout=log, stderr=log, env=environment
            )
        try:
            options = {"binary": str(minibrowser()), "args": ["--automation"]}
            begun = self._begin({"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}})
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise
        self.version = begun["capabilities"]["browserVersion"]
        self._base += "/" + begun["sessionId"]
        self._heard: list[str] = []

    def _begin(self, body: dict[str, Any]) -> Any:
        deadline = time.monotonic() + 30
        while True:
            try:
                return self._do("", body)
            except urllib.error.HTTPError:
                raise
            except OSError:  # it is not there yet
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def open(self, address: str) -> None:
        self._heard = self.complaints()
        self._do("/url", {"url": address})
        self.ask(LISTEN)

    def ask(self, expression: str) -> Any:
        return self._do("/execute/sync", {"script": f"return ({expression})", "args": []})

    def wait(self, expression: str) -> Any:
        """Evaluate until it is true; 30 seconds at most."""
        deadline = time.monotonic() + 30
        while not (answer := self.ask(expression)):
            assert time.monotonic() < deadline, (expression, self.ask("document.body.innerText"), self.complaints())
            time.sleep(0.1)
        return answer

    def click(self, found: str) -> None:
        self._do(f"/element/{self.wait(found)[ELEMENT]}/click", {})

    def type(self, found: str, text: str) -> None:
        self._do(f"/element/{self.wait(found)[ELEMENT]}/value", {"text": text})

    def sees(self, *texts: str) -> None:
        """Exactly these messages, in this order."""
        self.wait(f"JSON.stringify({TEXTS}) === JSON.stringify({json.dumps(texts)})")

    def picture(self) -> bytes:
        return base64.b64decode(self._do("/screenshot"))

    def complaints(self) -> list[str]:
        return self._heard + (self.ask("window.complaints") or [])

    def provoke(self) -> None:
        """Do what the page's policy forbids: that it is complained of shows that complaints are heard at all."""
        self.ask(
            "document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.bad = 1' }))"
        )
        deadline = time.monotonic() + 10
        while not any("Content Security Policy" in complaint for complaint in self.complaints()):
            assert time.monotonic() < deadline, self._log.read_text(errors="replace")
            time.sleep(0.1)
        assert self.ask("window.bad === undefined")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._do("", method="DELETE")
        self._driver.terminate()
        self._driver.wait(10)

    def _do(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode(errors="replace"))
            raise


def minibrowser() -> Path | None:
    return next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)


def register(browser: WebKit, address: str, name: str) -> None:
    browser.open(address)
    browser.click(button("Create an account"))
    browser.type(field("Name"), name)
    browser.type(field("Password"), "a secret of theirs")
    browser.click(button("Create an account"))
    browser.wait("document.querySelector('tc-sidebar .empty-title')")


def talk(alice: WebKit, bob: WebKit, server: Server) -> None:
    """Two people, from their accounts to a server that dies under them."""
    register(alice, server.address, "alice")
    register(bob, server.address, "bob")
    alice.click(button("Create a group"))
    alice.type(field("Name of the group"), "Burrow")
    alice.click(button("Create"))
    say(alice, "Hello from WebKit")
    bob.click('document.querySelector(\'[aria-label="New conversation"], [title="New conversation"]\')')
    bob.click("[...document.querySelectorAll('[role=tab]')].find((one) => one.textContent.trim() === 'Join group')")
    bob.type(field("Name of the group"), "Burrow")
    bob.click(button("Join"))
    bob.sees("Hello from WebKit")
    say(bob, "Hello!")
    alice.sees("Hello from WebKit", "Hello!")
    alice.open("about:blank")
    alice.open(server.address)
    alice.click(ENTRY)
    alice.sees("Hello from WebKit", "Hello!")
    server.kill()
    say(alice, "while it is away")
    server.start()
    said = ["Hello from WebKit", "Hello!", "while it is away"]
    bob.sees(*said)
    say(bob, "after")
    for one in (alice, bob):
        one.sees(*said, "after")


def say(browser: WebKit, text: str) -> None:
    browser.wait(f"{COMPOSER}?.checkVisibility()")
    browser.type(COMPOSER, text)
    browser.click(SEND)


def main(picture: str = "") -> int:
    if minibrowser() is None or not all(map(shutil.which, ("WebKitWebDriver", "Xvfb"))):
        print("there is no WebKit here: on Debian apt-get install webkit2gtk-driver xvfb")
        return 1
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        place = Path(folder)
        reading, writing = os.pipe()
        screen = subprocess.Popen(["Xvfb", "-displayfd", str(writing)], pass_fds=[writing], stderr=subprocess.DEVNULL)
        ends.callback(screen.wait)
        ends.callback(screen.terminate)
        os.close(writing)
        with os.fdopen(reading) as number:
            display = ":" + number.readline().strip()
        server = Server(place)
        server.start()
        ends.callback(server.stop)
        browsers = []
        for _ in range(2):
            browsers.append(WebKit(place, display))
            ends.callback(browsers[-1].close)
        try:
            talk(browsers[0], browsers[1], server)
        finally:
            if picture:
                Path(picture).write_bytes(browsers[0].picture())
        complaints = [complaint for browser in browsers for complaint in browser.complaints()]
        for browser in browsers:
            browser.provoke()
        print(f"WebKitGTK {browsers[0].version}: all of it works; complaints: {complaints or 'none'}")
        return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
