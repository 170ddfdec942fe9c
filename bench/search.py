"""What searching costs: `python -m bench.search`.

The log itself is read (docs/decisions/0008-search-reads-the-log.md). So beside the time of a search stands what an index of the
texts would add to each message, and how quickly it would find. One user has `--messages` (100,000), half of them in
English, half in Chinese, in twenty conversations.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from bench.machine import CpuTimes
from bench.population import execute, populate
from trio_chat.store.append import Appender, Draft
from trio_chat.store.clock import DatabaseClock
from trio_chat.store.contract import Steps
from trio_chat.store.mysql import MySQL
from trio_chat.store.search import MessageSearch
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.wire.conversation import direct_conv

_ENGLISH = [
    "the",
    "rope",
    "is",
    "in",
    "car",
    "we",
    "meet",
    "at",
    "seven",
    "bring",
    "water",
    "and",
    "bread",
    "who",
    "comes",
    "tomorrow",
    "maybe",
    "later",
    "I",
    "am",
    "there",
]
_CHINESE = "今天明天下午上午我们去爬山吃饭见面你好朋友火车站电影院回家工作学习时间地点什么怎么可以没有"
_FRIENDS = 20
_BATCH = 100
_RUNS = 5

_SEARCHES = {
    "a word of every second message": ("rope",),
    "two characters": ("爬山",),
    "one character": ("山",),
    "an English word that nobody wrote": ("zebra",),
    "a Chinese word that nobody wrote": ("图书馆",),
}
_INDEX = {
    "sqlite": [
        "CREATE VIRTUAL TABLE MessageText USING fts5(msg, content='', tokenize='trigram')",
        "CREATE TRIGGER message_text AFTER INSERT ON Message BEGIN"
        " INSERT INTO MessageText (rowid, msg) VALUES (NEW.rowid, NEW.msg); END",
    ],
    "mysql": ["ALTER TABLE Message ADD FULLTEXT INDEX message_text (msg)"],
}
_ASK = {
    "sqlite": "SELECT COUNT(*) FROM MessageText WHERE MessageText MATCH '\"{}\"'",
    "mysql": "SELECT COUNT(*) FROM Message WHERE MATCH (msg) AGAINST ('{}' IN BOOLEAN MODE)",
}

Open = Callable[[], AbstractAsyncContextManager[SQLite | MySQL]]


def texts(count: int) -> Iterator[str]:
    chance = random.Random(1)
    for number in range(count):
        if number % 2:
            yield "".join(chance.choices(_CHINESE, k=25))
        else:
            yield " ".join(chance.choices(_ENGLISH, k=17))


async def fill(database: SQLite | MySQL, count: int) -> None:
    appender = Appender(database, DatabaseClock(time.monotonic))
    batch: list[Draft] = []
    for number, text in enumerate(texts(count)):
        other = 2 + number // 50 % _FRIENDS
        batch.append(Draft(direct_conv(1, other), 1, "user00000", other, text, "2026-01-01 00:00:00", f"k{number}"))
        if len(batch) == _BATCH:
            await appender.append(batch)
            batch = []
    await appender.append(batch)


async def measure(name: str, url: str, open_: Open, pids: Sequence[int], count: int, *, indexed: bool) -> None:
    await populate(url, _FRIENDS + 1, ())
    if indexed:
        await execute(url, _INDEX[name])
    async with open_() as database:
        before = CpuTimes.now({"database": pids})
        await fill(database, count)
        spent = CpuTimes.now({"database": pids}).since(before)["database"]
        print(
            f"{name}, {'with' if indexed else 'without'} an index: {spent / count * 1e6:.0f} us of CPU a message",
            flush=True,
        )
        for what, words in _SEARCHES.items():
            question = _ASK[name].format(words[0])

            async def search(words: tuple[str, ...] = words, question: str = question) -> int:
                def steps() -> Steps[int]:
                    result = yield question, ()
                    return int(result.rows[0][0])

                if indexed:
                    return await database.run(steps)
                return len(await MessageSearch(database).search(1, words, None, None, 20, count))

            times, found = [], 0
            for _ in range(_RUNS):
                began = time.perf_counter()
                found = await search()
                times.append(time.perf_counter() - began)
            print(f"  {what}: {statistics.median(times) * 1000:.1f} ms, {found} found", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        directory = Path(place)
        for indexed in (False, True):
            file = directory / f"chat-{indexed}.db"

            def open_sqlite(file: Path = file) -> AbstractAsyncContextManager[SQLite]:
                return SQLite.open(file, patience=120.0)

            async def on_sqlite(file: Path = file, open_: Open = open_sqlite, *, indexed: bool = indexed) -> None:
                await measure("sqlite", f"sqlite:///{file}", open_, [os.getpid()], options.messages, indexed=indexed)

            trio.run(on_sqlite)
            print(f"  the file: {file.stat().st_size / 2**20:.0f} MiB", flush=True)
        with MariaDB(
            directory / "mariadb", options=("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G")
        ) as mariadb:
            for indexed in (False, True):
                name = f"search_{indexed}".lower()
                mariadb.create_database(name)
                url = mariadb.url(name)

                async def on_mariadb(url: str = url, *, indexed: bool = indexed) -> None:
                    def open_() -> AbstractAsyncContextManager[MySQL]:
                        return MySQL.from_url(url, timeout=120.0, pool=2).open()

                    await measure("mysql", url, open_, [mariadb.pid], options.messages, indexed=indexed)

                trio.run(on_mariadb)
    return 0


if __name__ == "__main__":
    sys.exit(main())
