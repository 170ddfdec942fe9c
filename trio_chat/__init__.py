"""A self-hosted chat server on Trio: one command to start, a cluster when one machine is too small.

async with trio_chat.open_server(trio_chat.Settings(database="sqlite:///chat.db")) as server:
print(server.addresses)
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_chat.config import Address, Limits, Settings
    from trio_chat.server import open_server
    from trio_chat.serving import Server

__all__ = ["Address", "Limits", "Server", "Settings", "__version__", "open_server"]

try:
    __version__ = version("trio-chat")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # Imported on demand: the client library needs none of the server.
    if name in {"Server", "open_server"}:
        from trio_chat import server

        return getattr(server, name)
    if name in {"Address", "Limits", "Settings"}:
        from trio_chat import config

        return getattr(config, name)
    raise AttributeError(name)
