"""`trio-chat account disable NAME` and `enable NAME`: who may not log in at present, by the operator's word.

Works beside running servers, which need not be told: they find it by their next look at the database, end the account's
sessions within moments, and refuse its logins at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from trio_chat.errors import NoSuchUser, StartupError
from trio_chat.store.contract import Database
from trio_chat.store.relations import Relations

__all__ = ["add_arguments", "main"]

RunTrio = Callable[[Callable[[], Awaitable[int]]], int]
OpenDatabase = Callable[[], AbstractAsyncContextManager[Database]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line of `main` has beside the settings."""
    parser.add_argument(
        "what", choices=["disable", "enable"], help="end its logins and admit no new one; or admit them again"
    )
    parser.add_argument("name", metavar="NAME", help="the account's name, exactly")


def main(options: argparse.Namespace, open_database: OpenDatabase, run_trio: RunTrio) -> int:
    """Run the command; `run_trio` is `trio.run`. Returns the exit status. Raises `StartupError`."""

    async def work() -> int:
        async with open_database() as database:
            relations = Relations(database)
            try:
                if options.what == "disable":
                    userid = await relations.disable(options.name)
                else:
                    userid = await relations.enable(options.name)
            except NoSuchUser as error:
                raise StartupError(str(error)) from None
            print(f"{options.name}, id {userid}, is {options.what}d")
            return 0

    return run_trio(work)
