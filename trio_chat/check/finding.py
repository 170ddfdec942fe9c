"""What a look at a configuration and its servers has found, for people and as JSON. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs
import msgspec

__all__ = ["Finding", "Level", "as_json", "as_text", "note", "ok", "problem", "warning"]

_WIDTH = 24


class Level(enum.Enum):
    """How much a finding matters."""

    OK = "ok"  #: as it should be
    NOTE = "note"  #: works as promised; worth knowing
    WARNING = "warning"  #: a promise, or what keeps strangers out, is weaker than it could be
    PROBLEM = "problem"  #: the server will not start, or does not keep a promise


@attrs.frozen
class Finding:
    """What was found about a `part` of the whole, in one sentence, and what to do, which is empty where nothing is."""

    level: Level
    part: str
    says: str
    do: str = ""


def ok(part: str, says: str) -> Finding:
    return Finding(Level.OK, part, says)


def note(part: str, says: str, do: str = "") -> Finding:
    return Finding(Level.NOTE, part, says, do)


def warning(part: str, says: str, do: str) -> Finding:
    return Finding(Level.WARNING, part, says, do)


def problem(part: str, says: str, do: str = "") -> Finding:
    return Finding(Level.PROBLEM, part, says, do)


def as_json(findings: Sequence[Finding]) -> str:
    found = {
        "findings": [attrs.asdict(each) | {"level": each.level.value} for each in findings],
        "counts": _counts(findings),
    }
    return msgspec.json.format(msgspec.json.encode(found)).decode()


def as_text(findings: Sequence[Finding]) -> str:
    lines = []
    for each in findings:
        lines.append(f"{each.level.value:<8} {each.part:<{_WIDTH - 10}} {each.says}")
        if each.do:
            lines.append(f"{'':<{_WIDTH}}do: {each.do}")
    counts = [f"{number} {level}{'s' * (number != 1)}" for level, number in _counts(findings).items() if level != "ok"]
    lines.append(", ".join(counts))
    return "\n".join(lines)


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {level.value: sum(each.level is level for each in findings) for level in reversed(Level)}
