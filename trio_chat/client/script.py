"""`python -m trio_chat script FILE…`: play scenarios of several people against a server.

Prints one line for each that passes and, for each that does not, the first difference. The exit status is 0 where all
passed, 1 where a server did something else than a scenario says, 2 where a scenario or an address cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio

from trio_chat.client.address import DEFAULT_SERVER, Address, parse_address
from trio_chat.client.player import Difference, play
from trio_chat.client.scenario import Scenario, load
from trio_chat.errors import ChatError

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `main`."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a scenario in TOML")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT[,HOST:PORT]",
        default=DEFAULT_SERVER,
        help="the server, or the nodes of a cluster, among which the scenario's connections choose; default %(default)s",
    )


def main(args: argparse.Namespace) -> int:
    """Play the files in turn; see the head of this file for the exit status."""
    try:
        addresses = [parse_address(server) for server in args.server.split(",")]
        scenarios = [load(file) for file in args.files]
    except (ChatError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return anyio.run(_play_all, scenarios, addresses, backend="trio")


async def _play_all(scenarios: list[Scenario], addresses: list[Address]) -> int:
    status = 0
    for scenario in scenarios:
        try:
            await play(scenario, addresses)
        except Difference as difference:
            print(f"FAIL {difference}")
            status = max(status, 1)
        except ChatError as error:
            print(f"FAIL {error}")
            status = 2
        except OSError as error:
            print(f"FAIL {scenario.file}: {error}; is a server running? start one: trio-chat serve")
            status = 2
        else:
            print(f"ok   {scenario.file}: {scenario.about}")
    return status
