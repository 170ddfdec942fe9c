"""The parts of it, one by one, without processes."""

from __future__ import annotations

import io
import socket
from functools import partial

import attrs
import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry, Counter, generate_latest

import trio_chat
from trio_chat import Settings
from trio_chat.__main__ import main
from trio_chat.errors import StartupError
from trio_chat.workers.control import Control
from trio_chat.workers.figures import gather, merged
from trio_chat.workers.supervisor import check
from trio_chat.workers.turns import Board, Turns
from trio_chat.workers.worker import Assignment

MYSQL = "mysql://u:p@127.0.0.1/chat"


@pytest.mark.parametrize(
    ("database", "bus", "reason"),
    [
        ("sqlite:///chat.db", "redis://127.0.0.1/0", "a SQLite file serves one process"),
        (MYSQL, "local:", "needs Redis"),
    ],
)
def test_what_several_workers_cannot_work_with_is_refused(
    database: str, bus: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--workers", "2", "--database", database, "--bus", bus]) == 2
    assert reason in capsys.readouterr().err


def test_mysql_and_redis_are_enough() -> None:
    check(Settings(workers=2, database=MYSQL, bus="redis://127.0.0.1/0"))


async def test_a_server_inside_a_program_has_no_workers() -> None:
    with pytest.raises(StartupError, match="is one"):
        async with trio_chat.open_server(Settings(workers=2)):
            pass  # pragma: no cover


def test_only_a_supervisor_starts_workers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"whatever")

    monkeypatch.setattr("sys.stdin", Stdin)
    assert main(["worker"]) == 2
    assert "serve --workers N" in capsys.readouterr().err


def test_a_worker_gets_its_settings_as_they_are() -> None:
    settings = Settings(database=MYSQL, drain=3, limits=attrs.evolve(Settings().limits, batch=7))
    given = Assignment(number=1, workers=2, settings=settings, tcp=(3,), http=(), board=4, control=5)
    assert Assignment.load(io.BytesIO(given.dump())) == given


async def test_who_has_the_fewest_connections_comes_first(autojump_clock: trio.testing.MockClock) -> None:
    with Board.new(3) as board:
        one, two = Turns(board, 0), Turns(Board(board.descriptor, 3), 1)
        connections = {one: 5, two: 2}
        one.count, two.count = (lambda: connections[one]), (lambda: connections[two])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            nursery.start_soon(two.run)
            await trio.testing.wait_all_tasks_blocked()
            assert (one.elsewhere(), two.elsewhere()) == (2, 5)
            began = trio.current_time()
            assert await two.turn() == 4  # as many as one has, and one more
            assert trio.current_time() == began
            assert await one.turn() > 1  # after a moment; two does not come, so one takes several
            assert trio.current_time() > began
            connections[two] = 5
            await trio.sleep(1)  # two writes that down although nobody connects
            began = trio.current_time()
            assert await one.turn() == 1
            assert trio.current_time() == began
            nursery.cancel_scope.cancel()
        assert board.fewest(but=2) is None  # nobody is on it any more
        assert board.others(but=2) == 0
        assert await one.turn() > 1


async def test_messages_between_supervisor_and_worker() -> None:
    ours, its = socket.socketpair()
    supervisor, worker = Control(ours), Control(its)
    long = "x" * 1_000_000  # more than the kernel takes at once
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(partial(supervisor.send, number=number, long=long))
        got = [await worker.receive() for _ in range(3)]
    assert sorted(message["number"] for message in got if message) == [0, 1, 2]
    assert all(message and message["long"] == long for message in got)
    supervisor.close()
    assert await worker.receive() is None
    await worker.send(anything=1)  # nobody is there: nothing happens
    worker.close()


def test_figures_of_several_workers_are_told_apart() -> None:
    figures = {}
    for number in (1, 2):
        registry = CollectorRegistry()
        Counter("trio_chat_logins", "Logins", ["outcome"], registry=registry).labels("ok").inc(number)
        figures[str(number)] = gather(registry)
    page = generate_latest(merged(figures, {"1": 1, "2": 3, "3": 7})).decode()
    assert page.count("# TYPE trio_chat_logins_total counter") == 1
    assert 'trio_chat_logins_total{outcome="ok",worker="1"} 1.0' in page
    assert 'trio_chat_logins_total{outcome="ok",worker="2"} 2.0' in page
    assert 'trio_chat_worker_up{worker="3"} 0.0' in page
    assert 'trio_chat_worker_starts_total{worker="3"} 7.0' in page
