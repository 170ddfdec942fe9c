"""What searching costs: `python -m bench.search`. The log itself is read (docs/decisions/0008-search-reads-the-log.md), so
beside the time of a search stands what an index of the texts would add to each message, and what it would find sooner.

One user has `--messages` of them (100,000), half in English, half in Chinese, in twenty conversations.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import trio

from bench.population import execute, populate
from trio_chat.store.contract import Database
from trio_chat.store.mysql import MySQL
from trio_chat.store.search import MessageSearch
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.mariadb import MariaDB

_ENGLISH = "the rope is in car we meet at seven bring water and bread who comes tomorrow maybe later I am there".split()
_CHINESE = "今天明天下午上午我们去爬山吃饭见面你好朋友火车站电影院回家工作学习时间地点什么怎么可以没有"
_CONVERSATIONS = 20
_COLUMNS = "conv, seq, ts, sender, msg, time"


def texts(count: int) -> Iterator[str]:
    chance = random.Random(1)
    for number in range(count):
        if number % 2:
            yield "".join(chance.choices(_CHINESE, k=25))
        else:
            yield " ".join(chance.choices(_ENGLISH, k=17))
