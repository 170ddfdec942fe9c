"""The benchmark works, and it notices a server that does not. Nothing here looks at how fast anything is."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.generator import BenchmarkError, Link, Measured, build_generator, generate
from bench.report import BEGIN, END, update_document
from bench.workloads import TEXT, Sizes

Frame = dict[str, Any]
#: What a server makes of message `number`: frames for the sender and frames for the receiver.
Behaviour = Callable[[int, Frame], tuple[list[Frame], list[Frame]]]

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = Sizes(pairs=1, members=2, warmup=0.02, measured=0.05)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_generator(tmp_path_factory.mktemp("generator"))


@pytest.mark.slow
@pytest.mark.timeout(180)  # eight servers, in a machine that may be busy with other things
def test_quick_run_of_everything(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())["results"]
    kinds = [f"{kind}-{in_flight}" for kind in ("direct", "group") for in_flight in (1, 64)]
    assert [result["name"] for result in results] == [
        f"{system}/{kind}" for system in ("sqlite", "mariadb") for kind in kinds
    ]
    for result in results:
        (run,) = result["runs"]
        receivers = 9 if "group" in result["name"] else 1
        assert run["delivered"] == run["sent"] * receivers
        assert run["sent"] > 0
        assert set(run["cpu"]) >= {"server", "generator"}
    assert done.stdout.count("\n| ") == 1 + len(results)


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "there is no nothing" in capsys.readouterr().err


def good(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply = {"msgid": 24, "ref": frame["ref"], "errno": 0, "conv": "d:1:2", "seq": number, "ts": 1}
    return [reply], [{**frame, "id": 1, "name": "user1", "conv": "d:1:2", "seq": number, "ts": 1}]


def refuses(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return [{**reply[0], "errno": 130}] if number == 9 else reply, delivery


def loses_an_acknowledgement(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return [] if number == 9 else reply, delivery


def loses_a_delivery(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return reply, [] if number == 9 else delivery


def repeats_a_delivery(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return reply, delivery * 2 if number == 9 else delivery


def swaps_texts(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return reply, [{**delivery[0], "msg": "another"}] if number == 9 else delivery


def leaves_a_hole_in_seq(number: int, frame: Frame) -> tuple[list[Frame], list[Frame]]:
    reply, delivery = good(number, frame)
    return reply, [{**delivery[0], "seq": number + 1}] if number == 9 else delivery


def run_against(program: Path, behaviour: Behaviour, received: list[Frame]) -> Measured:
    """The generator against a server that is a function; `received` gets the receipts."""
    sender, sender_end = socket.socketpair()
    receiver, receiver_end = socket.socketpair()

    def serve() -> None:
        for number, line in enumerate(sender_end.makefile("rb"), 1):
            for end, frames in zip((sender_end, receiver_end), behaviour(number, json.loads(line)), strict=True):
                end.sendall(b"".join(json.dumps(frame, separators=(",", ":")).encode() + b"\n" for frame in frames))

    def read_receipts() -> None:
        received.extend(json.loads(line) for line in receiver_end.makefile("rb"))

    def tolerant(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with contextlib.suppress(OSError):  # the generator has ended
                work()

        return run

    threads = [threading.Thread(target=tolerant(work)) for work in (serve, read_receipts)]
    for thread in threads:
        thread.start()
    try:
        link = Link(sender, 6, "toid", 2, "d:1:2", [receiver])
        return generate(program, [link], 4, SHORT, {}, lambda *_: None)
    finally:
        for end in (sender, receiver, sender_end, receiver_end):
            end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in (sender, receiver, sender_end, receiver_end):
            end.close()


def test_generator_against_a_correct_server(program: Path) -> None:
    receipts: list[Frame] = []
    measured = run_against(program, good, receipts)
    assert measured.sent == measured.delivered > 0
    assert measured.ack_ns[0] <= measured.ack_ns[1] <= measured.ack_ns[2]
    assert len(TEXT) == 64
    assert {(frame["msgid"], frame["conv"]) for frame in receipts} <= {(25, "d:1:2")}
    assert sorted(frame["seq"] for frame in receipts) == [frame["seq"] for frame in receipts]


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (refuses, "a message to d:1:2 failed"),
        (loses_an_acknowledgement, "the acknowledgement of message 9"),
        (loses_a_delivery, "message 9 of d:1:2 was to come"),
        (repeats_a_delivery, "message 10 of d:1:2 was to come"),
        (swaps_texts, "message 9 of d:1:2 has another text"),
        (leaves_a_hole_in_seq, "message 9 of d:1:2 was to come"),
    ],
)
def test_generator_notices_a_broken_server(program: Path, behaviour: Behaviour, complaint: str) -> None:
    with pytest.raises(BenchmarkError, match=complaint):
        run_against(program, behaviour, [])


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "performance.md"
    file.write_text(f"Before\n{BEGIN}\nold\n{END}\nAfter\n")
    return file


def test_figures_go_between_the_markers(document: Path) -> None:
    update_document(document, "new")
    assert document.read_text() == f"Before\n{BEGIN}\nnew\n{END}\nAfter\n"


def test_document_without_markers(document: Path) -> None:
    document.write_text("nothing here")
    with pytest.raises(ValueError, match="has no"):
        update_document(document, "new")
