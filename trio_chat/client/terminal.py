"""`python -m trio_chat client [HOST:PORT]`: chat in the terminal."""

from __future__ import annotations

import argparse

from trio_chat.client.address import DEFAULT_SERVER

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="HOST:PORT", nargs="?", default=DEFAULT_SERVER)


def main(args: argparse.Namespace) -> int:
    raise NotImplementedError(args)
