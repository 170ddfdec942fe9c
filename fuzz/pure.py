"""The pure parts under any bytes: the splitter, the decoder, the session's machine. Only `RequestError` may escape.

Each target takes some bytes. atheris, where it is installed, chooses them by what they make the code do; without it they
come from `Frames` and from chance.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable

import msgspec

from fuzz.frames import Frames, Place, decodes
from trio_chat.errors import RequestError
from trio_chat.session import TRANSITIONS, Identity, Session, State
from trio_chat.transport.proxy import BadProxyHeader, parse_proxy_header
from trio_chat.wire.delivery import decode_delivery
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind

__all__ = ["TARGETS", "hunt", "with_atheris"]


def split(data: bytes) -> None:
    """Frames do not depend on how the bytes arrive, and none is over the limit or blank."""
    limit = data[0] if data else 9
    whole, pieces = FrameSplitter(limit), FrameSplitter(limit)
    expected = whole.feed(data)
    cuts = random.Random(len(data))
    found, at = [], 0
    while at < len(data):
        size = cuts.choice((1, 2, 7, 100))
        found += pieces.feed(data[at : at + size])
        at += size
    assert found == expected
    assert pieces.overflowed == whole.overflowed
    assert all(frame.strip() and len(frame) <= limit for frame in found)


def read(data: bytes) -> None:
    decodes(data)


def walk(data: bytes) -> None:
    """Any outcomes in any order: the session stays in a state that the table has, and knows who it is exactly while logged in."""
    session = Session()
    outcomes: list[Callable[[], None]] = [
        session.greeted,
        lambda: session.logged_in(Identity(1, "ann")),
        session.logged_out,
        *[lambda kind=kind: session.check(kind) for kind in Kind],
        session.close,
    ]
    states = {state for state, _ in TRANSITIONS} | {State.CLOSED}
    for byte in data[:200]:
        with contextlib.suppress(RequestError):
            outcomes[byte % len(outcomes)]()
        assert session.state in states
        assert (session.identity is not None) == (session.state is State.LOGGED_IN)


def proxy(data: bytes) -> None:
    """What stands before a connection's first frame, where a proxy is trusted."""
    with contextlib.suppress(BadProxyHeader):
        parse_proxy_header(data)


def hint(data: bytes) -> None:
    """What another node says on the bus: whatever is wrong is one of those errors that the router drops it for."""
    with contextlib.suppress(msgspec.MsgspecError, LookupError, RecursionError, TypeError, ValueError):
        decode_delivery(data)


TARGETS: dict[str, Callable[[bytes], None]] = {"split": split, "read": read, "walk": walk, "proxy": proxy, "hint": hint}


def hunt(name: str, seed: int, *, seconds: float | None = None, count: int | None = None) -> int:
    """Give a target bytes from a seed, for a time or so often; returns how often. What escapes is raised, with its bytes noted."""
    target, chance = TARGETS[name], random.Random(seed)
    frames = Frames(chance, Place([1, 2, 3], [1, 2], ["ann", "bob"]))
    until = time.monotonic() + seconds if seconds is not None else float("inf")
    done = 0
    while (count is None or done < count) and (done % 256 or time.monotonic() < until):
        match chance.randrange(4):
            case 0:
                data = chance.randbytes(chance.choice((0, 1, 5, 50, 500)))
            case 1:
                data = b"\n".join(frames.next() for _ in range(3)) + chance.choice((b"", b"\n", b"\0"))
            case 2 if name == "proxy":
                data = b"PROXY " + bytes(chance.choice(b"TCP4 6UNKNOW1.:\r\n0") for _ in range(chance.randrange(110)))
            case _:
                data = frames.next()
        try:
            target(data)
        except BaseException as error:
            error.add_note(f"target {name}, seed {seed}, input {data!r}")
            raise
        done += 1
    return done


def with_atheris(name: str, arguments: list[str]) -> None:
    """Hand a target to atheris, which ends the process when it is done. `arguments` are libFuzzer's, such as `-max_total_time=60`."""
    import atheris  # noqa: PLC0415  # there are no wheels of it for every system

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()
