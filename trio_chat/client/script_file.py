"""Scenarios: what several people send and must receive, read from TOML.

    about = "Bob hears Alice"
    steps = [
        { connect = "alice", dialect = "classic" },
        { send = "alice", frame = { msgid = 4, name = "alice-$unique", password = "secret" } },
        { expect = "alice", frame = { msgid = 5, errno = 0 }, save = { "alice.id" = "id" } },
    ]

Each step has exactly one of the keys that name a class below (`connect`, `send`, `expect` …), which says what it does
and who does it, and that class's other fields. What can stand in a frame is told in `trio_chat.client.script_matching`.
A key that nobody knows is an error, and so is a value of the wrong type.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import attrs
import cattrs
from cattrs import Converter
from cattrs.cols import list_structure_factory

from trio_chat.errors import ChatError

__all__ = [
    "Abort",
    "Close",
    "Closed",
    "Connect",
    "Expect",
    "Nothing",
    "Scenario",
    "ScenarioError",
    "Send",
    "Step",
    "Wait",
    "load",
]

Frame = dict[str, Any]


class ScenarioError(ChatError):
    """A scenario file cannot be used; the text names the file and, where there is one, the key."""


@attrs.frozen
class Connect:
    """Somebody connects to the server number `via` (counted from 0, modulo how many there are).

    `modern` sends HELLO and takes its answer, `classic` sends nothing. Frames of the kinds in `ignore` are not shown to any
    step; a PING of the server is answered by itself, unless `pong` is false. `whole_reads`: as in the existing clients, what one
    read of at most 1,024 bytes gives must be exactly one frame.
    """

    connect: str
    dialect: Literal["modern", "classic"] = "modern"
    terminator: Literal["newline", "nul"] = "newline"
    via: int = 0
    ignore: list[int] = attrs.field(factory=list[int])
    pong: bool = True
    whole_reads: bool = False


@attrs.frozen
class Send:
    """Somebody sends a `frame`, or several `frames` at once, or bytes as they are (`raw` text, or `hex`).

    The bytes go out in as many `pieces`, each in a segment of its own.
    """

    send: str
    frame: Frame | None = None
    frames: list[Frame] | None = None
    raw: str | None = None
    hex: str | None = None
    pieces: int = 1


@attrs.frozen
class Expect:
    """Somebody receives a `frame`, or these `frames` one after the other, within so many seconds.

    `unordered`: the frames may come in any order. `save` keeps values for later steps: variable = path in the frame
    (`"friends.0.id"`; with `frames` the path begins with the number of the frame).
    """

    expect: str
    frame: Frame | None = None
    frames: list[Frame] | None = None
    within: float = 5.0
    unordered: bool = False
    save: dict[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen
class Nothing:
    """These people receive nothing for so many seconds."""

    nothing: list[str]
    lasting: float = 0.2


@attrs.frozen
class Closed:
    """The server closes somebody's connection within so many seconds; what it sends before that is not looked at."""

    closed: str
    within: float = 5.0


@attrs.frozen
class Close:
    """Somebody hangs up."""

    close: str


@attrs.frozen
class Abort:
    """Somebody's connection is reset: what was not read yet is lost."""

    abort: str


@attrs.frozen
class Wait:
    """Nothing is done for so many seconds."""

    wait: float


Step = Connect | Send | Expect | Nothing | Closed | Close | Abort | Wait

_STEPS: dict[str, type[Step]] = {
    "connect": Connect,
    "send": Send,
    "expect": Expect,
    "nothing": Nothing,
    "closed": Closed,
    "close": Close,
    "abort": Abort,
    "wait": Wait,
}

#: Which fields say what is sent or expected: exactly one of them.
_CONTENTS: dict[type[Step], tuple[str, ...]] = {Send: ("frame", "frames", "raw", "hex"), Expect: ("frame", "frames")}


@attrs.frozen
class Scenario:
    """What a file holds. `file` is what it is called in reports, `lines` where each step stands (empty: not known)."""

    about: str
    steps: list[Step]
    file: str = ""
    lines: list[int] = attrs.field(factory=list[int])


@attrs.frozen
class _File:
    about: str
    steps: list[Step]


def load(path: Path) -> Scenario:
    """Read a scenario file. Raises `ScenarioError`, with a line for each thing that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    lines = _step_lines(text, table.get("steps"))
    try:
        read = _CONVERTER.structure(table, _File)
    except cattrs.BaseValidationError as error:
        wrong = cattrs.transform_error(error, path="", format_exception=_say)
        raise ScenarioError("\n".join(f"{path}: {_place(line, lines)}" for line in wrong)) from None
    return Scenario(read.about, read.steps, str(path), lines)


def _place(message: str, lines: list[int]) -> str:
    """Turn the path that cattrs puts behind a message into a place in the file before it."""
    text, _, path = message.rpartition(" @ ")
    found = re.match(r"\.?steps\[(\d+)\]\.?(.*)", path)
    if found is None:
        return f"{path.lstrip('.')}: {text}" if path else text
    number, key = int(found[1]), found[2]
    line = f" (line {lines[number]})" if number < len(lines) and lines[number] else ""
    return f"step {number + 1}{line}{f', key {key}' if key else ''}: {text}"


def _step_lines(text: str, steps: object) -> list[int]:
    """The line of each step, where each begins on one of its own: `[[steps]]`, or an indented brace. Else nothing."""
    begin = re.compile(r"\[\[\s*steps\s*\]\]|[ \t]+\{")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if begin.match(line)]
    return lines if _is_list(steps) and len(lines) == len(steps) else []


def _say(error: BaseException, kind: type | None) -> str:
    match error:
        case cattrs.ForbiddenExtraKeysError():
            return "nobody knows the key " + ", ".join(sorted(error.extra_fields))
        case KeyError():
            return f"the key {error.args[0]} is missing"
        case _:
            return str(error) or f"this is no {kind}"


def _structure_step(value: Any, _: object) -> Step:
    table = _structure_table(value, dict[str, Any])
    actions = [key for key in table if key in _STEPS]
    if len(actions) != 1:
        raise ValueError(
            f"a step has exactly one of the keys {', '.join(_STEPS)}; this one has {', '.join(actions) or 'none'}"
        )
    kind = _STEPS[actions[0]]
    step = _CONVERTER.structure(table, kind)
    contents = _CONTENTS.get(kind)
    if contents and sum(getattr(step, name) is not None for name in contents) != 1:
        raise ValueError(f"{actions[0]} needs exactly one of the keys {', '.join(contents)}")
    return step


def _strictly(kind: type) -> Any:
    def structure(value: Any, _: object) -> Any:
        # A bool is an int to Python, and an int in TOML may stand for a float.
        if type(value) is kind or (kind is float and type(value) is int):
            return value
        raise TypeError(f"{value!r} is not of the type {kind.__name__}")

    return structure


def _strict_list(kind: Any, converter: Converter) -> Any:
    inner = list_structure_factory(kind, converter)

    def structure(value: Any, asked: Any) -> Any:
        # Otherwise a string would be taken for a list of its characters.
        if not _is_list(value):
            raise TypeError(f"{value!r} is not a list")
        return inner(value, asked)

    return structure


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _structure_table(value: Any, kind: Any) -> dict[str, Any]:
    if not _is_table(value):
        raise TypeError(f"{value!r} is not a table")
    if get_args(kind)[1] is str and not all(isinstance(item, str) for item in value.values()):
        raise TypeError(f"{value!r} has values that are not strings")
    return value


def _is_list_type(kind: Any) -> bool:
    return get_origin(kind) is list


def _is_table_type(kind: Any) -> bool:
    return get_origin(kind) is dict


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (str, int, float, bool):
        converter.register_structure_hook(kind, _strictly(kind))
    converter.register_structure_hook_factory(_is_list_type, _strict_list)
    converter.register_structure_hook_func(_is_table_type, _structure_table)
    converter.register_structure_hook(Step, _structure_step)
    return converter


_CONVERTER = _make_converter()
