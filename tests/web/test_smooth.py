"""A conversation of 10,000 messages is as quick as a short one."""

from __future__ import annotations

import contextlib
import re
import sqlite3

import pytest
from playwright.sync_api import expect

from tests.web.person import Persons
from tests.web.programs import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COUNT = 10_000

#: Scrolls up as somebody in a hurry does, a screen every five frames; tells what it cost.
SCROLL = """async () => {
    const scroller = document.querySelector(".scroller");
    const frames = [];
    let rows = 0;
    let last = performance.now();
    for (let step = 0; step < 150; step += 1) {
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        frames.push(now - last);
        last = now;
        scroller.scrollTop -= 130;
        rows = Math.max(rows, document.querySelectorAll(".row").length);
    }
    frames.sort((one, other) => one - other);
    return { median: frames[75], slow: frames[142], rows };
}"""


def fill(server: Server) -> None:
    """Put a long conversation into the log, as the server itself would have stored it."""
    with contextlib.closing(sqlite3.connect(server.database)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(Message)")]
        sample = dict(
            zip(columns, database.execute("SELECT * FROM Message WHERE conv = 'd:1:2'").fetchone(), strict=True)
        )
        rows = [
            {
                **sample,
                "seq": seq,
                "ts": sample["ts"] + seq * 60_000,
                "sender_key": None,
                "msg": f"message {seq}" + " and more" * (seq * 7 % 40),
            }
            for seq in range(2, COUNT + 1)
        ]
        names = ", ".join(columns)
        marks = ", ".join(f":{name}" for name in columns)
        database.executemany(f"INSERT INTO Message ({names}) VALUES ({marks})", rows)
        database.execute("UPDATE Conversation SET last_seq = ? WHERE conv = 'd:1:2'", (COUNT,))
        database.execute("UPDATE DeliveryCursor SET received = ?, seen = ? WHERE conv = 'd:1:2'", (COUNT, COUNT))
        database.commit()


def test_ten_thousand_messages(own_server: Server, people_of: Persons) -> None:
    alice, bob = people_of("alice"), people_of("bob")
    alice.add(bob.name)
    alice.say("message 1")
    alice.state("message 1", "stored|received")
    own_server.stop()
    fill(own_server)
    own_server.start()
    alice.page.reload()
    page = alice.page
    expect(alice.rows.last).to_contain_text(f"message {COUNT}")
    cost = page.evaluate(SCROLL)
    assert cost["rows"] < 200, cost
    # A frame every 16 ms on a quiet machine; what would fail here is work that grows with the conversation.
    assert cost["median"] < 60, cost
    assert cost["slow"] < 250, cost
    print(f"frames while scrolling, in ms: {cost}")  # noqa: T201
    expect(page.locator(".placeholder")).to_have_count(0)

    page.locator(".scroller").evaluate("scroller => (scroller.scrollTop = 0)")
    expect(alice.rows.first).to_contain_text("message 1")
    page.evaluate("location.hash = 'd:1:2/5000'")
    found = page.locator("[data-seq='5000']")
    expect(found).to_be_in_viewport()
    expect(page.locator(".placeholder")).to_have_count(0)

    # What is read stays where it is while messages come.
    before = found.bounding_box()
    bob.page.reload()
    bob.open(alice.name)
    bob.say("a new one")
    expect(page.locator(".jump .badge")).to_have_text("1")
    assert found.bounding_box() == before
    page.get_by_role("button", name=re.compile("To the latest message")).click()
    expect(alice.rows.last).to_contain_text("a new one")
