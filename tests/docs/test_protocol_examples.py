"""Every `wire` block of the documentation is played against a server, each against a new one.

Its lines, in order:

    alice: modern, logged in      alice connects; `modern` or `classic`, `with NUL`, `logged in`, in this order
    alice's phone: modern         a second connection of hers
    alice > {"msgid": 22}         she sends this frame, or bytes that are none
    alice < {"msgid": 23}         the next frame that she gets is exactly this one
    alice: hangs up               she closes the connection
    alice < closed                the server does
    # …                           a remark

A line that begins with a blank continues the one before. In an expected frame `"…"` stands for any value, and `"$word"`
for a value that is used again: the first time it takes any, from then on it is that one. The accounts alice, bob and
carol exist, with the ids 1, 2 and 3 and the password "secret". At the end nothing more may have come to anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import trio_chat
from tests.docs.pages import ROOT, Block, blocks
from tests.wire import Wire, WireClosed, connect, register
from trio_chat import Address, Settings
from trio_chat.errors import RequestError
from trio_chat.wire.messages import Kind

PEOPLE = ("alice", "bob", "carol")
PROTOCOL = ROOT / "docs" / "protocol.md"

_LINE = re.compile(r"(?P<who>[\w']+(?: \w+)?)(?P<sign>:| <| >) (?P<what>.+)")
_CONNECTS = re.compile(r"(modern|classic)( with NUL)?(, logged in)?")
_VARIABLE = re.compile(r'"\$(\w+)"')


def steps(block: Block) -> Iterator[tuple[str, str, str]]:
    """The lines of a block as (who, sign, what)."""
    lines: list[str] = []
    for line in block.text.splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    for line in lines:
        found = _LINE.fullmatch(line)
        assert found, f"{block}: {line!r} is not a step"
        yield found["who"], found["sign"].strip(), found["what"]


class Player:
    """Plays one block."""

    def __init__(self, address: Address, stack: AsyncExitStack) -> None:
        self._address = address
        self._stack = stack
        self._wires: dict[str, Wire] = {}
        self._values: dict[str, Any] = {}

    async def step(self, who: str, sign: str, what: str) -> None:
        if sign == ">":
            text = _VARIABLE.sub(lambda found: json.dumps(self._values[found[1]]), what)
            await self._wires[who].send_bytes(text.encode() + self._wires[who].terminator)
        elif sign == ":" and what == "hangs up":
            await self._wires.pop(who).aclose()
        elif sign == ":":
            await self._connect(who, what)
        elif what == "closed":
            with pytest.raises(WireClosed):
                await self._wires.pop(who).receive()
        else:
            frame = await self._wires[who].receive()
            assert self._same(frame, json.loads(what)), f"{who} got {json.dumps(frame, ensure_ascii=False)}"

    async def end(self) -> None:
        for wire in self._wires.values():
            await wire.quiet()

    async def _connect(self, who: str, what: str) -> None:
        how = _CONNECTS.fullmatch(what)
        assert how, f"{who}: {what!r} is not understood"
        dialect, nul, logged_in = how.groups()
        wire = await self._stack.enter_async_context(
            connect(self._address, modern=dialect == "modern", terminator=b"\0" if nul else b"\n")
        )
        if logged_in:
            await wire.send(Kind.LOGIN, id=PEOPLE.index(who.partition("'")[0]) + 1, password="secret")
            assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 0
        self._wires[who] = wire

    def _same(self, value: Any, pattern: Any) -> bool:
        match pattern:
            case "…":
                return True
            case str() if pattern.startswith("$"):
                return bool(self._values.setdefault(pattern[1:], value) == value)
            case dict():
                return (
                    isinstance(value, dict)
                    and value.keys() == pattern.keys()
                    and all(self._same(value[key], pattern[key]) for key in pattern)
                )
            case list():
                return (
                    isinstance(value, list)
                    and len(value) == len(pattern)
                    and all(self._same(*pair) for pair in zip(value, pattern, strict=True))
                )
            case _:
                return type(value) is type(pattern) and bool(value == pattern)


@pytest.mark.parametrize("block", list(blocks("wire")), ids=str)
async def test_example(block: Block, tmp_path: Path) -> None:
    settings = Settings(tcp=(Address("127.0.0.1", 0),), http=None, database=f"sqlite:///{tmp_path}/x.db")
    async with trio_chat.open_server(settings) as server, AsyncExitStack() as stack:
        assert [await register(server.addresses[0], name) for name in PEOPLE] == [1, 2, 3]
        player = Player(server.addresses[0], stack)
        for who, sign, what in steps(block):
            try:
                await player.step(who, sign, what)
            except AssertionError as error:
                raise AssertionError(f"{block}: {who} {sign} {what}\n{error}") from error
        await player.end()


def test_there_are_examples() -> None:
    assert len(list(blocks("wire", pages=[PROTOCOL]))) >= 15


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_every_kind_is_described_and_shown(kind: Kind) -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    assert re.search(rf"^\| {kind} \| {kind.name} \|", text, re.MULTILINE)
    examples = "".join(block.text for block in blocks("wire", pages=[PROTOCOL]))
    assert f'"msgid": {int(kind)},' in examples or f'"msgid": {int(kind)}}}' in examples


def _errors(error: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _errors(kind)


@pytest.mark.parametrize("error", list(_errors(RequestError)), ids=lambda error: error.__name__)
def test_every_error_is_described(error: type[RequestError]) -> None:
    if error.__module__ == "trio_chat.errors":
        assert f"| {error.errno} | {error.error} |" in PROTOCOL.read_text(encoding="utf-8")
