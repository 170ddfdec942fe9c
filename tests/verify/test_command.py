"""The command around a run: its arguments, its plan, its figures, its report."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import NoReturn

import attrs
import pytest

from tests.verify.story import Story
from trio_chat.__main__ import main
from trio_chat.errors import StartupError
from trio_chat.verify import command
from trio_chat.verify.checker import check
from trio_chat.verify.history import Answered, Closed, FaultBegan, FaultEnded, Logged, Opened, Record, to_line
from trio_chat.verify.plan import FAULTS, draw_plan
from trio_chat.verify.report import Report
from trio_chat.verify.stats import summarize

ALICE, BOB = 1, 2


def tale() -> Story:
    story = Story()
    alice, bob = story.login(ALICE), story.login(BOB)
    story.send(alice, BOB, "one", key="1")
    story.send(bob, ALICE, "two", key="2")
    story.received(alice, "d:1:2", 2)
    return story


def spoilt() -> list[Record]:
    return [record for record in tale().read_logs() if not (isinstance(record, Logged) and record.text == "two")]


# -- the plan -------------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_plan() -> None:
    kinds = dict.fromkeys(FAULTS, 1)
    plan = draw_plan(7, clients=12, seconds=60, kinds=kinds)
    assert plan == draw_plan(7, clients=12, seconds=60, kinds=kinds)
    assert plan != draw_plan(8, clients=12, seconds=60, kinds=kinds)
    assert sum(account.devices for account in plan.accounts) == 12
    assert any(account.devices > 1 for account in plan.accounts)
    assert {fault.kind for fault in plan.faults} <= set(FAULTS)


@pytest.mark.parametrize("clients", [2, 3, 50])
def test_a_plan_fits_any_number_of_clients(clients: int) -> None:
    plan = draw_plan(1, clients=clients, seconds=10, kinds={})
    assert sum(account.devices for account in plan.accounts) == clients
    assert plan.faults == ()
    assert all(account.peers for account in plan.accounts)


# -- the figures ----------------------------------------------------------------------------------------------------------


def test_figures_of_a_fault() -> None:
    story = Story()
    alice, bob = story.login(ALICE), story.login(BOB)
    opened = story.records[0]
    assert isinstance(opened, Opened)
    opened.client = "a phone"
    story.add(FaultBegan(0, 9, "node-kill"))
    story.send(alice, BOB, "one", key="1", answered=False)
    story.close(alice)
    closed = next(record for record in story.records if isinstance(record, Closed))
    closed.why = "reset"
    story.wait(1)
    story.add(FaultEnded(0, 9))
    story.wait(2)
    alice = story.login(ALICE)
    opened = [record for record in story.records if isinstance(record, Opened)][-1]
    opened.client = "a phone"
    story.send(alice, BOB, "one", key="1")
    story.send(bob, ALICE, "after")
    stats = summarize(story.read_logs())
    assert (stats.messages, stats.acknowledged, stats.sent_again, stats.logins) == (2, 2, 1, 3)
    worst = stats.faults["node-kill"]
    assert worst.faults == 1
    assert worst.acknowledged == pytest.approx(3.0, abs=0.1)
    assert worst.reconnected == pytest.approx(3.0, abs=0.1)
    assert worst.recovered == pytest.approx(2.0, abs=0.1)
    assert worst.delivered < 0.1


def test_there_may_be_nothing_to_count() -> None:
    assert summarize([]).messages == 0


# -- the report -----------------------------------------------------------------------------------------------------------


def test_a_good_report() -> None:
    records = tale().read_logs()
    report = Report("a test", 3, 2, summarize(records), check(records))
    assert "2 sent, 2 acknowledged" in report.as_text()
    assert "every promise was kept" in report.as_text()
    assert json.loads(report.as_json())["violations"] == []


def test_a_bad_report_shows_why() -> None:
    records = spoilt()
    report = Report("a test", None, 2, summarize(records), check(records), Path("kept"))
    text = report.as_text()
    assert "acknowledged-and-lost" in text
    assert '"text":"two"' in text
    assert "kept" in text
    (found,) = json.loads(report.as_json())["violations"]
    assert found["rule"] == "acknowledged-and-lost"
    assert {record["event"] for record in found["excerpt"]} >= {"requested", "answered"}


def test_the_excerpts_of_a_thousand_violations_are_not_shown() -> None:
    records = tale().read_logs()
    answer = next(record for record in records if isinstance(record, Answered))
    records += [attrs.evolve(answer, ref=f"unasked {number}") for number in range(1000)]
    text = Report("a test", None, 2, summarize(records), check(records)).as_text()
    assert len(text.splitlines()) < 30


# -- the command ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [True, False])
def test_a_history_is_checked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, good: bool) -> None:
    file = tmp_path / "history.jsonl"
    records = tale().read_logs() if good else spoilt()
    file.write_bytes(b"".join(to_line(record) + b"\n" for record in records))
    assert main(["verify", "--check", str(file)]) == (0 if good else 1)
    assert ("kept" in capsys.readouterr().out) == good


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--check", "nowhere"], "nowhere"),
        (["--nodes", "2", "--database", "sqlite"], "--database mysql"),
        (["--nodes", "0"], "--nodes"),
        (["--target", "nowhere"], "HOST:PORT"),
        (["--target", "127.0.0.1:1", "--seconds", "1"], "127.0.0.1"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trio-chat:")]
    assert says in line


def test_a_missing_program_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert main(["verify", "--nodes", "2"]) == 2
    assert "apt-get install" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--clients", "1"], ["--seconds", "x"]])
def test_wrong_numbers_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", *arguments])


def test_a_history_that_cannot_be_written_is_told() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def never(*_: object) -> NoReturn:
        raise AssertionError

    options = parser.parse_args(["--check", "/proc/nowhere"])
    with pytest.raises(StartupError, match="nowhere"):
        command.main(options, never)
