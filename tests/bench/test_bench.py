"""The benchmark works, and it notices a server that does not. Nothing here looks at how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.dialects import TEXT, Client, Native
from bench.generator import BenchmarkError, Generator, Measured, build_generator
from bench.goals import GROWTH
from tests.bench.fake_server import Behaviour, FakeServer, Frame

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = {"ejabberd": "/usr/sbin/ejabberdctl", "prosody": "/usr/bin/prosody", "ngircd": "/usr/sbin/ngircd"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_generator(tmp_path_factory.mktemp("generator"))


def quick(file: Path, *only: str) -> tuple[dict[str, Frame], str]:
    """A short run of some figures: their runs by name, and what it told on the way."""
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(file)]
    for name in only:
        command += ["--only", name]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())["figures"]
    found = {f"{figure['system']}/{figure['workload']}": figure["runs"][0] for figure in figures}
    assert all(value >= 0 for run in found.values() for name, value in run.items() if name != "kib")
    return found, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)  # a server for each part, in a machine that may be busy with other things
def test_quick_run_of_every_part(tmp_path: Path) -> None:
    found, _ = quick(tmp_path / "figures.json", "sqlite/")
    workloads = ["direct-5-1", "direct-5-16", "latency-200", "group-5-1", "group-5-16", "store-pipelined", "drain"]
    workloads += ["store-one", "idle", "reconnect", "idle-websocket", "idle-tls", "login-password", "login-token"]
    workloads += ["stored-1000", "online-10", "groups-3"]
    assert {f"sqlite/{workload}" for workload in workloads} <= set(found)
    assert found["sqlite/direct-5-1"]["rate"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_run_of_the_other_systems(tmp_path: Path) -> None:
    peers = [f"{peer}/{workload}" for peer in PEERS for workload in ("direct", "group", "store-pipelined")]
    found, told = quick(tmp_path / "figures.json", "mariadb/direct", "mariadb/stored", "cluster/direct", *peers)
    assert {"mariadb/direct-5-1", "mariadb/stored-1000", "cluster/direct-5-16"} <= set(found)
    assert {"cpu_server", "cpu_database", "cpu_redis", "cpu_generator"} <= set(found["mariadb/direct-5-1"])
    for peer, file in PEERS.items():
        if Path(file).exists():
            assert {f"{peer}/direct-5-1", f"{peer}/direct-5-16", f"{peer}/group-5-1"} <= set(found)
            assert (f"{peer}/store-pipelined" in found) == (peer != "ngircd")
        else:
            assert f"{peer} is left out: not installed" in told


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "there is no nothing" in capsys.readouterr().err


def test_list_has_what_the_goals_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--list"])
    names = set(capsys.readouterr().out.split())
    for workload in ("direct-50-1", "direct-50-64", "group-100-1", "group-100-64", "store-pipelined", "drain", "idle"):
        assert {f"{system}/{workload}" for system in ("sqlite", "mariadb", "ejabberd")} <= names
    for workloads in GROWTH.values():
        assert {f"{system}/{workload}" for system in ("sqlite", "mariadb") for workload in workloads} <= names
    assert {"mariadb/latency-10000", "mariadb/login-token", "cluster/direct-5000-64", "ngircd/reconnect"} <= names
    assert "ngircd/drain" not in names


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


def run_against(
    program: Path, place: Path, behaviour: Behaviour, *, in_flight: int = 4, rate: float = 0.0
) -> tuple[Measured, list[Frame]]:
    """The generator against a server that is a function; what it measured, and the receipts."""
    with FakeServer(behaviour) as server:
        clients = [Client("n", server.port, Native.token(token), Native.pong) for token in ("sender", "receiver")]
        link = Native.direct(0, 1, 2, (0, [1]))
        with Generator(program, place, clients, [link]) as generator:
            assert generator.login().count == 2
            measured = generator.load({}, in_flight=in_flight, rate=rate, warmup=0.02, measured=0.05)
    return measured, server.received


def test_generator_against_a_correct_server(program: Path, tmp_path: Path) -> None:
    measured, receipts = run_against(program, tmp_path, good)
    assert measured.sent == measured.delivered > 0
    assert list(measured.ack_ns) == sorted(measured.ack_ns)
    assert len(TEXT) == 64
    assert {(frame["msgid"], frame["conv"]) for frame in receipts} <= {(25, "d:1:2")}
    assert sorted(frame["seq"] for frame in receipts) == [frame["seq"] for frame in receipts]


def test_generator_at_a_given_rate(program: Path, tmp_path: Path) -> None:
    measured, _ = run_against(program, tmp_path, good, rate=1000)
    assert measured.sent == measured.delivered
    assert 50 <= measured.sent <= 1000 * (0.07 + 5)  # on a busy machine it takes longer, and sends on meanwhile


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (refuses, "a message failed"),
        (loses_an_acknowledgement, "the acknowledgement of message 9"),
        (loses_a_delivery, "message 9 of link 0"),
        (repeats_a_delivery, "message 10 of link 0"),
        (swaps_texts, "message 9 of link 0 has another text"),
        (leaves_a_hole_in_seq, "message 9 of link 0"),
    ],
)
def test_generator_notices_a_broken_server(program: Path, tmp_path: Path, behaviour: Behaviour, complaint: str) -> None:
    with pytest.raises(BenchmarkError, match=complaint):
        run_against(program, tmp_path, behaviour)
