"""What a run has found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec

from trio_chat.verify.facts import Violation
from trio_chat.verify.history import to_line
from trio_chat.verify.stats import Stats

__all__ = ["Report"]

#: Violations of one rule that are shown with their excerpt.
_SHOWN = 3


@attrs.frozen
class Report:
    """`kept` is where the history and the programs' logs are, where they were kept."""

    about: str
    seed: int | None
    clients: int
    stats: Stats
    violations: list[Violation]
    kept: Path | None = None

    def as_json(self) -> str:
        found: dict[str, Any] = {
            "about": self.about,
            "seed": self.seed,
            "clients": self.clients,
            **attrs.asdict(self.stats),
            "violations": [
                {
                    "rule": violation.rule,
                    "says": violation.says,
                    "excerpt": [msgspec.json.decode(to_line(record)) for record in violation.excerpt],
                }
                for violation in self.violations
            ],
            "kept": None if self.kept is None else str(self.kept),
        }
        return msgspec.json.format(msgspec.json.encode(found)).decode()

    def as_text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        stats = self.stats
        total = sum(worst.faults for worst in stats.faults.values())
        yield f"tried     {self.about}, {self.clients} clients, {stats.seconds:.0f} s" + (
            "" if self.seed is None else f", seed {self.seed}"
        )
        yield (
            f"messages  {stats.messages:,} sent, {stats.acknowledged:,} acknowledged "
            f"({stats.acknowledged_per_second:,.0f}/s); {stats.sent_again:,} sent again"
        )
        yield f"          {stats.delivered:,} deliveries, {stats.receipts:,} receipts, {stats.logins:,} logins"
        if stats.refused:
            yield "          answered with " + ", ".join(f"{name} {n:,}" for name, n in sorted(stats.refused.items()))
        yield f"faults    {total}" + ("; the longest that a client had to wait, in seconds:" if total else "")
        if total:
            yield "                               acknowledged  delivered  connected again  after its end"
            for kind, worst in sorted(stats.faults.items()):
                yield (
                    f"          {worst.faults:4} {kind:<18} {worst.acknowledged:10.2f} {worst.delivered:10.2f} "
                    f"{worst.reconnected:16.2f} {worst.recovered:14.2f}"
                )
        if not self.violations:
            yield "result    every promise was kept"
            return
        yield f"result    {len(self.violations)} VIOLATION{'S' * (len(self.violations) > 1)}"
        shown: dict[str, int] = {}
        for violation in self.violations:
            shown[violation.rule] = shown.get(violation.rule, 0) + 1
            if shown[violation.rule] <= _SHOWN:
                yield f"{violation.rule}: {violation.says}"
                yield from (f"    {to_line(record).decode()}" for record in violation.excerpt)
        for rule, count in shown.items():
            if count > _SHOWN:
                yield f"{rule}: {count - _SHOWN} more"
        if self.kept is not None:
            yield f"the history and the logs of the programs are in {self.kept}"
