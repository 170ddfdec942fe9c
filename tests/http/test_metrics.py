"""The figures at /metrics say what has happened."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.http.raw import ask, open_raw, request, upgrade
from tests.http.sockets import enter
from tests.server.stalling import eventually
from trio_chat import Address, Server
from trio_chat.metrics import NodeCollector
from trio_chat.wire.messages import Kind
from trio_chat.workers.figures import merged

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


async def scrape(http: Address) -> dict[str, float]:
    answer = await ask(http, request("/metrics"))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {}  # by name and labels, these in the order of their names
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


async def test_the_figures_are_true(server: Server, http: Address) -> None:
    async with enter(server, "tcp", "alice") as alice, enter(server, "websocket", "bob") as bob:
        group = (await alice.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await bob.ok(Kind.JOIN_GROUP, groupid=group)
        for number in range(5):
            await alice.ok(Kind.DIRECT, toid=bob.id, msg=str(number), key=str(number))
        await alice.ok(Kind.DIRECT, toid=bob.id, msg="again", key="1")
        await bob.ok(Kind.GROUP, groupid=group, msg="hello")
        await bob.messages(5)
        await alice.messages(1)
        assert (await alice.call(Kind.DIRECT, toid=77, msg="?"))["error"] == "no_such_user"
        await eventually(lambda: server.node.counters.loop_delay.total > 0)  # it is looked at from time to time
        async with open_raw(http) as raw:
            await raw.send(upgrade())
            await raw.answer()
            before = await scrape(http)
        expected = {
            "trio_chat_connections{tcp}": 1,
            "trio_chat_connections{websocket}": 2,
            "trio_chat_connections_opened_total{tcp}": 1,
            "trio_chat_connections_opened_total{websocket}": 2,
            "trio_chat_accounts_online": 2,
            "trio_chat_logins_total{ok}": 2,
            "trio_chat_messages_stored_total": 6,
            "trio_chat_messages_delivered_total": 6,
            "trio_chat_requests_rejected_total{no_such_user}": 1,
            "trio_chat_batch_messages_sum": 7,
            "trio_chat_writer_queue_messages": 0,
            "trio_chat_outbox_bytes": 0,
            "trio_chat_repaired_messages_total": 0,
            "trio_chat_holes": 0,
            "trio_chat_bus_up": 1,
            "trio_chat_draining": 0,
        }
        assert expected == {name: before.get(name) for name in expected}
        assert before["trio_chat_batch_messages_count"] == before["trio_chat_commit_seconds_count"] <= 7
        assert before["trio_chat_commit_seconds_sum"] > 0
        # HELLO, REGISTER and LOGIN of two, CREATE and JOIN, 6 DIRECT and 1 GROUP, the one that failed.
        assert before["trio_chat_frames_received_total"] == 16
        assert before["trio_chat_loop_delay_seconds_count"] > 0
        assert before["process_resident_memory_bytes"] > 1_000_000
    async with enter(server, "tcp", "carol") as carol:
        await carol.ok(Kind.LOGOUT)
        await carol.call(Kind.LOGIN, name="carol", password="wrong")
        after = await scrape(http)
    assert after["trio_chat_logins_total{bad_credentials}"] == 1
    closed = {name: value for name, value in after.items() if name.startswith("trio_chat_connections_closed_total")}
    assert sum(closed.values()) == 3
    assert after["trio_chat_connections{websocket}"] == 0


async def test_prometheus_gets_the_format_that_it_asks_for(http: Address) -> None:
    answer = await ask(http, request("/metrics", Accept="application/openmetrics-text; version=1.0.0"))
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


@pytest.mark.settings(heartbeat=0.3)
async def test_the_reason_of_an_end_is_counted(server: Server, http: Address) -> None:
    async with open_raw(http) as raw:
        await raw.send(upgrade())
        await raw.answer()
        await raw.send(b"\x81\x80mask" + b"")
        await raw.send(b"\x82\x80mask")
        assert (await raw.event()).code == 1003
        assert await raw.at_end()
    await eventually(lambda: not server.node.connections)
    assert (await scrape(http))["trio_chat_connections_closed_total{done,websocket}"] == 1


def families(server: Server) -> list[Metric]:
    """All that a server tells of itself, and what a supervisor adds."""
    return [*NodeCollector(server.node).collect(), *merged({}, {"1": 1}).collect()]


async def test_the_dashboard_shows_figures_that_there_are(server: Server) -> None:
    known = set()
    for family in families(server):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        known |= {family.name + suffix for suffix in suffixes}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    used = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            used |= set(re.findall(r"\btrio_chat_\w+", target["expr"]))
    assert used - known == set()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    every = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known} - {"trio_chat_info"}
    assert every - shown == set(), "a figure that nobody looks at"


async def test_the_operators_page_has_every_figure(server: Server) -> None:
    text = OPERATIONS.read_text(encoding="utf-8").partition("\n### Metrics\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == {family.name.removeprefix("trio_chat_") for family in families(server)}
