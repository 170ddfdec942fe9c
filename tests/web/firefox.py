"""The page in Firefox: `python -m tests.web.firefox [PICTURE]`, for a look after a change of the page; no part of the tests.

Firefox is driven by WebDriver BiDi, which it speaks itself (Debian: firefox-esr). Somebody makes an account, creates a group, writes,
searches, and loads the page anew; what Firefox complains of is an error.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.web.programs import Server, free_port

#: Puts a text into the field of a label; true where it was there.
FILL = """(() => {
    const put = (label, text) => {
        const field = [...document.querySelectorAll('label')].find((one) => one.textContent.startsWith(label))?.control;
        if (!field) return false;
        field.value = text;
        field.dispatchEvent(new Event('input', { bubbles: true }));
        return true;
    };
    return %s;
})()"""


class Firefox:
    """One page. `complaints` is what the console says of errors."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        self.version = self._do("session.new", capabilities={})["capabilities"]["browserVersion"]
        self._do("session.subscribe", events=["log.entryAdded"])
        self._page = self._do("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, address: str) -> None:
        self._do("browsingContext.navigate", context=self._page, url=address, wait="complete")

    def wait(self, expression: str) -> None:
        """Evaluate until it is true; 30 seconds at most."""
        deadline = time.monotonic() + 30
        while True:
            answer = self._do(
                "script.evaluate", expression=f"!!({expression})", target={"context": self._page}, awaitPromise=False
            )
            if answer.get("result", {}).get("value") is True:
                return
            assert time.monotonic() < deadline, (expression, answer, self.complaints)
            time.sleep(0.1)

    def click(self, found: str) -> None:
        self.wait(f"(() => {{ const found = {found}; found?.click(); return found; }})()")

    def picture(self) -> bytes:
        return base64.b64decode(self._do("browsingContext.captureScreenshot", context=self._page)["data"])

    def _do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._line.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._line.recv(30))
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] == "error":
                self.complaints.append(answer["params"]["text"])
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result


def button(words: str) -> str:
    return f"[...document.querySelectorAll('button')].filter((one) => one.checkVisibility()).findLast((one) => one.textContent.trim() === '{words}')"


def visit(firefox: Firefox, address: str) -> None:
    firefox.open(address)
    firefox.click(button("Create an account"))
    firefox.wait(FILL % "put('Name', 'Fox') && put('Password', 'a secret of hers')")
    firefox.click(button("Create an account"))
    firefox.wait("document.querySelector('tc-sidebar .empty-title')")
    firefox.click(button("Create a group"))
    firefox.wait(FILL % "put('Name of the group', 'Burrow')")
    firefox.click(button("Create"))
    firefox.wait("document.querySelector('tc-composer textarea')?.checkVisibility()")
    firefox.wait(
        "(() => { const area = document.querySelector('tc-composer textarea'); area.value = 'Hello from Firefox'; "
        "area.dispatchEvent(new Event('input', { bubbles: true })); return true; })()"
    )
    firefox.click("document.querySelector('tc-composer button[type=submit]')")
    said = "[...document.querySelectorAll('tc-timeline .row')].some((row) => row.textContent.includes('Hello from Firefox') && row.querySelector('.state.stored, .state.received, .state.read'))"
    firefox.wait(said)
    firefox.open("about:blank")  # to the same address there would be nothing to load
    firefox.open(address)
    firefox.wait("document.querySelector('tc-sidebar .entry-title')?.textContent === 'Burrow'")
    firefox.click("document.querySelector('tc-sidebar .entry')")
    firefox.wait(said)


def main(picture: str = "") -> int:
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        print("there is no Firefox here: on Debian apt-get install firefox-esr")
        return 1
    with tempfile.TemporaryDirectory() as place:
        server, port = Server(Path(place)), free_port()
        command = [
            program,
            "--headless",
            "--no-remote",
            "--profile",
            place,
            "--remote-debugging-port",
            str(port),
            "about:blank",
        ]
        with (Path(place) / "firefox.log").open("wb") as log:
            browser = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            server.start()
            with patient(lambda: connect(f"ws://127.0.0.1:{port}/session", max_size=None)) as line:
                firefox = Firefox(line)
                visit(firefox, server.address)
                if picture:
                    Path(picture).write_bytes(firefox.picture())
                print(f"Firefox {firefox.version}: all of it works; complaints: {firefox.complaints or 'none'}")
                return 1 if firefox.complaints else 0
        finally:
            browser.kill()
            browser.wait()
            server.stop()


def patient(begin: Callable[[], ClientConnection]) -> ClientConnection:
    """A browser takes a while to start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return begin()
        time.sleep(0.2)
    return begin()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
