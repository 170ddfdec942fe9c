"""`trio-chat invite`: codes with which somebody can register where the setting `registration` is `invitation`.

A code is shown once, when it is made; the database keeps its digest. Works beside running servers, which need not be told.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from trio_chat.errors import StartupError
from trio_chat.services.invitations import digest_of_code, make_code
from trio_chat.services.tokens import now_ms
from trio_chat.store.contract import Database
from trio_chat.store.invitations import InvitationRecord, InvitationTable

__all__ = ["add_arguments", "main"]

_DAY_MS = 86_400_000
#: So much of a digest is shown as the id of an invitation, in bytes.
_ID_BYTES = 4

EXAMPLES = """\
examples:
  trio-chat invite                           a code for one person, good for a week
  trio-chat invite --uses 30 --days 1        one for a class room
  trio-chat invite --list                    what is open: ids, uses left, until when
  trio-chat invite --revoke 1a2b3c4d         by id, or by the code itself
"""

RunTrio = Callable[[Callable[[], Awaitable[int]]], int]
OpenDatabase = Callable[[], AbstractAsyncContextManager[Database]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line of `main` has beside the settings."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("--uses", metavar="N", default="1", help="how many people can register with it; default 1")
    parser.add_argument("--days", metavar="DAYS", default="7", help="how long it is good; default 7")
    parser.add_argument("--list", action="store_true", help="show the invitations that can be used")
    parser.add_argument("--revoke", metavar="ID", help="make one of no more use")


def main(options: argparse.Namespace, open_database: OpenDatabase, run_trio: RunTrio) -> int:
    """Run the command; `run_trio` is `trio.run`. Returns the exit status. Raises `StartupError`."""
    uses, days = _uses(options.uses), _days(options.days)

    async def work() -> int:
        async with open_database() as database:
            table = InvitationTable(database)
            if options.list:
                for record in await table.open(now_ms()):
                    print(_line(record))
                return 0
            if options.revoke is not None:
                return await _revoke(table, options.revoke)
            code, now = make_code(), now_ms()
            await table.add(digest_of_code(code), uses, now + int(days * _DAY_MS), now)
            print(code)
            return 0

    return run_trio(work)


async def _revoke(table: InvitationTable, given: str) -> int:
    try:
        start = bytes.fromhex(given)
    except ValueError:
        start = b""
    if len(start) < _ID_BYTES:
        start = digest_of_code(given)
    if await table.revoke(start):
        return 0
    raise StartupError(f"--revoke {given}: there is no such invitation; --list shows them")


def _line(record: InvitationRecord) -> str:
    until = datetime.fromtimestamp(record.expires / 1000, UTC)
    return f"{record.digest[:_ID_BYTES].hex()}  uses left: {record.uses}  until {until:%Y-%m-%d %H:%M} UTC"


def _uses(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:10]) <= 1_000_000):
        raise StartupError(f"--uses {text}: is a number from 1 to 1000000")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= 36500:
        raise StartupError(f"--days {text}: is a number of days, over 0")
    return days
