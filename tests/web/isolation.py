"""A network of the tests' own: to Chromium a network that changes is a reason to break everything off.

Other tests lay cables (`trio_chat.verify.programs.network`) and give them addresses of this machine. Chromium watches its
machine's addresses, and at each change fails what it is loading with ERR_NETWORK_CHANGED, on the loopback device as well. So
where those tests can run, these run in a namespace whose devices lead nowhere.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trio_chat.verify.programs.network import why_not

__all__ = ["own_network"]

_CLONE_NEWNET = 0x40000000
_CURRENT = Path("/proc/thread-self/ns/net")


@contextmanager
def own_network() -> Iterator[bool]:
    """This thread, and the programs and threads that it starts within the block, have a network of their own. Tells whether it is so."""
    if why_not():
        yield False
        return
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _done(libc.unshare(_CLONE_NEWNET))
        try:
            # With the loopback device alone Chromium would say that it is offline.
            for words in (
                "link set lo up",
                "link add name out type veth peer name end",
                # No addresses of their own, which would come some time after the beginning, and be a change as well.
                "link set out addrgenmode none",
                "link set end addrgenmode none",
                "address add 198.18.0.1/24 dev out",
                "link set out up",
                "link set end up",
            ):
                subprocess.run(["ip", *words.split()], check=True)
            yield True
        finally:
            _done(libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _done(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
