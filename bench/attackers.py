"""Hostile clients, in a process of their own: `python -m bench.attackers NAME HOST:PORT`, with what they know on standard input.

Prints a line of JSON when the attack is under way, goes on until standard input ends, and prints another with what came of
it. Plain blocking or non-blocking sockets: what they cost is not what is measured.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from trio_chat.address import Address
from trio_chat.wire.messages import Kind

__all__ = ["ATTACKS"]

#: Clients that come from one of this machine's addresses, 127.0.0.2 and so on.
_PER_ADDRESS = 2500
_GUESS = "a wrong one"

Facts = dict[str, Any]


def _frame(kind: Kind, **fields: Any) -> bytes:
    return json.dumps({"msgid": int(kind), **fields}).encode() + b"\n"


def _connect(server: Address, number: int = 0, receive: int = 0, net: int = 0) -> socket.socket:
    """A connection from an address of its own for every so many."""
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.bind((f"127.0.{net}.{2 + number // _PER_ADDRESS}", 0))
    sock.settimeout(30)
    sock.connect(server)
    return sock


def _log_in(server: Address, token: str, number: int = 0, receive: int = 0) -> socket.socket:
    sock = _connect(server, number, receive)
    sock.sendall(_frame(Kind.HELLO, version=1) + _frame(Kind.LOGIN, token=token))
    data = b""
    while data.count(b"\n") < 2:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the server has hung up")
        data += more
    if b'"errno":0' not in data:
        raise ConnectionError(data.decode())
    return sock


class _Ended(Exception):
    """The attack is over."""


def _still() -> Iterator[None]:
    """Goes on until standard input ends."""
    while not select.select([sys.stdin], [], [], 0)[0]:
        yield


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def _ready(selector: selectors.BaseSelector, seconds: float) -> Iterator[tuple[socket.socket, Any]]:
    """The sockets that have something, with what was registered with each."""
    for key, _ in selector.select(seconds):
        assert isinstance(key.fileobj, socket.socket)
        yield key.fileobj, key.data


def _watch(sockets: list[socket.socket], each_second: Callable[[socket.socket], None] | None = None) -> int:
    """Read what comes until the end; returns how many the server has closed."""
    selector = selectors.DefaultSelector()
    for sock in sockets:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    open_ones, due = set(sockets), time.monotonic()
    for _ in _still():
        for sock, _data in _ready(selector, 0.1):
            try:
                ended = not sock.recv(65536)
            except OSError:
                ended = True
            if ended:
                selector.unregister(sock)
                open_ones.discard(sock)
        if each_second is not None and time.monotonic() >= due:
            due += 1
            for sock in list(open_ones):
                with contextlib.suppress(OSError):
                    each_second(sock)
    return len(sockets) - len(open_ones)


def idle(server: Address, known: Facts) -> Facts:
    """Connections that never log in."""
    sockets = [_connect(server, number) for number in range(known["count"])]
    _say(connections=len(sockets))
    return {"closed by the server": _watch(sockets)}


def dribble(server: Address, known: Facts) -> Facts:
    """Clients that are logged in and send a frame that never ends, one byte a second."""
    sockets = [_log_in(server, token, number) for number, token in enumerate(known["tokens"])]
    _say(connections=len(sockets))
    return {"closed by the server": _watch(sockets, lambda sock: sock.sendall(b"x"))}


def silent(server: Address, known: Facts) -> Facts:
    """What a half-open connection looks like: logged in, then no sign of life, not even an answer to a PING."""
    sockets = [_log_in(server, token, number) for number, token in enumerate(known["tokens"])]
    _say(connections=len(sockets))
    return {"closed by the server": _watch(sockets)}


def deaf(server: Address, known: Facts) -> Facts:
    """Clients that never read, and one who sends them long messages as fast as he may."""
    sender = _log_in(server, known["sender"])
    deaf_ones = [_log_in(server, token, number, receive=4096) for number, token in enumerate(known["tokens"])]
    _say(connections=len(deaf_ones))
    sender.settimeout(5)
    text, sent, due = "x" * 16000, 0, time.monotonic()
    with contextlib.suppress(OSError, _Ended):
        for _ in _still():
            if time.monotonic() >= due:
                # They show signs of life: it is for not reading that they are closed.
                due += 1
                for sock in deaf_ones:
                    with contextlib.suppress(OSError):
                        sock.sendall(_frame(Kind.PONG))
            userid = known["ids"][sent % len(known["ids"])]
            sender.sendall(_frame(Kind.DIRECT, toid=userid, msg=text, ref=sent))
            answer = sender.recv(65536)
            if not answer:
                raise _Ended
            if b"rate_limited" in answer:
                time.sleep(0.05)
            else:
                sent += 1
    closed = 0
    for sock in deaf_ones:
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            try:
                while sock.recv(1 << 20):
                    pass
            except ConnectionError:
                pass
            closed += 1
    return {"megabytes sent to them": round(sent * len(text) / 2**20), "closed by the server": closed}


def flood(server: Address, known: Facts) -> Facts:
    """One account sends short messages as fast as the server reads them, on several connections, and heeds no refusal."""
    sockets = [_log_in(server, known["tokens"][0], number) for number in range(4)]
    for sock in sockets:
        sock.setblocking(False)
    _say(connections=len(sockets))
    chunk = _frame(Kind.DIRECT, toid=known["ids"][0], msg="flood", ref=1) * 500
    pending = dict.fromkeys(sockets, b"")
    answered = refused = 0
    for _ in _still():
        readable, writable, _none = select.select(sockets, sockets, [], 0.1)
        for sock in readable:
            data = sock.recv(1 << 18)
            answered += data.count(b'"ref":1,"errno":0')
            refused += data.count(b"rate_limited")
        for sock in writable:
            pending[sock] = pending[sock] or chunk
            pending[sock] = pending[sock][sock.send(pending[sock]) :]
    return {"messages stored": answered, "refused": refused}


def crowd(server: Address, known: Facts) -> Facts:
    """A very large group, some thousands of it here: one sends as fast as he may, another joins, asks who is in it, and leaves."""
    selector = selectors.DefaultSelector()
    here = [_log_in(server, token, number) for number, token in enumerate(known["tokens"])]
    sender, visitor = _log_in(server, known["sender"]), _log_in(server, known["visitor"])
    for sock in (*here, sender, visitor):
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    _say(members=known["members"], **{"of them here": len(here) + 1})
    group = known["group"]
    visit = _Visit(visitor, [Kind.JOIN_GROUP, Kind.GROUP_INFO, Kind.LEAVE_GROUP], groupid=group)
    frame = _frame(Kind.GROUP, groupid=group, msg="hello everybody", ref="sent")
    stored = refused = received = 0
    due = 0.0
    for _ in _still():
        if time.monotonic() >= due:
            due = math.inf
            sender.send(frame)
        visit.go_on()
        for sock, _data in _ready(selector, 0.01):
            data = sock.recv(1 << 16)
            if not data:
                raise ConnectionError("the server has hung up on a member")
            received += data.count(b"hello everybody")
            if b'"msgid":22' in data:
                sock.send(_frame(Kind.PONG))
            if sock is visitor:
                visit.take(data)
            elif sock is sender and b'"ref":"sent"' in data:
                fails = b"rate_limited" in data
                refused, stored = refused + fails, stored + (not fails)
                due = time.monotonic() + 0.1 * fails
    return {"messages": stored, "refused": refused, "deliveries": received, **visit.took()}


class _Visit:
    """Makes these requests, one after the other, with some time between them, again and again, and takes their times."""

    def __init__(self, sock: socket.socket, kinds: list[Kind], **fields: Any) -> None:
        self._sock = sock
        self._kinds = kinds
        self._fields = fields
        self._times: list[list[float]] = [[] for _ in kinds]
        self._next = 0
        self._asked: float | None = None
        self._due = 0.0
        self._rest = b""

    def go_on(self) -> None:
        if self._asked is None and time.monotonic() >= self._due:
            self._asked = time.monotonic()
            self._sock.sendall(_frame(self._kinds[self._next], ref="visit", **self._fields))

    def take(self, data: bytes) -> None:
        *frames, self._rest = (self._rest + data).split(b"\n")
        for frame in frames:
            if b'"ref":"visit"' in frame and self._asked is not None:
                if b'"errno":0' not in frame:
                    raise ConnectionError(frame.decode())
                self._times[self._next].append(time.monotonic() - self._asked)
                self._next = (self._next + 1) % len(self._kinds)
                self._asked, self._due = None, time.monotonic() + 0.1

    def took(self) -> Facts:
        """The middle one of each request's times, in ms."""
        return {
            f"a {kind.name}, ms": round(statistics.median(times) * 1000, 1)
            for kind, times in zip(self._kinds, self._times, strict=True)
            if times
        }


def storm(server: Address, known: Facts) -> Facts:
    """Clients from many addresses that log in with wrong passwords, each again as soon as it is answered."""
    selector = selectors.DefaultSelector()
    sockets = [_connect(server, number * _PER_ADDRESS // 10, net=1) for number in range(known["count"])]
    ids = known["ids"]
    for number, sock in enumerate(sockets):
        sock.sendall(_frame(Kind.HELLO, version=1) + _frame(Kind.LOGIN, id=ids[number % len(ids)], password=_GUESS))
        selector.register(sock, selectors.EVENT_READ, number)
    _say(connections=len(sockets))
    wrong = refused = 0
    for _ in _still():
        for sock, number in _ready(selector, 0.1):
            data = sock.recv(1 << 16)
            if not data:
                selector.unregister(sock)
                continue
            wrong += data.count(b"bad_credentials")
            refused += data.count(b"rate_limited")
            if b'"msgid":2,' in data:
                userid = ids[(number + wrong + refused) % len(ids)]
                sock.sendall(_frame(Kind.LOGIN, id=userid, password=_GUESS))
    return {"wrong passwords": wrong, "refused": refused}


def stubborn(server: Address, known: Facts) -> Facts:
    """The same with accounts whose passwords are checked in no time: soon most tries are refused, and nobody heeds that."""
    return storm(server, known)


ATTACKS: dict[str, Callable[[Address, Facts], Facts]] = {
    each.__name__: each for each in (idle, dribble, silent, deaf, flood, crowd, storm, stubborn)
}

if __name__ == "__main__":
    _say(**ATTACKS[sys.argv[1]](Address.parse(sys.argv[2]), json.loads(sys.stdin.readline())))
