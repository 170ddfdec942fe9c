"""What is measured: who talks to whom, how many messages each sender has in flight."""

from __future__ import annotations

import attrs

__all__ = ["FULL", "QUICK", "TEXT", "Sizes", "Workload", "workloads"]

#: The text of every message: 64 bytes, without blanks (the generator's plan is made of words).
TEXT = "The_quick_brown_fox_jumps_over_the_lazy_dog,_again_and_again_..."


@attrs.frozen
class Sizes:
    """How much a run does: `pairs` of users, `members` of the group, and seconds before and while it is measured."""

    pairs: int
    members: int
    warmup: float
    measured: float


FULL = Sizes(pairs=50, members=100, warmup=1.0, measured=5.0)
QUICK = Sizes(pairs=5, members=10, warmup=0.1, measured=0.4)


@attrs.frozen
class Workload:
    """`direct`: each of some pairs has a sender and a receiver. `group`: one member sends, all the others receive."""

    kind: str
    in_flight: int
    sizes: Sizes

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.in_flight}"

    @property
    def title(self) -> str:
        flight = f"{self.in_flight} in flight"
        if self.kind == "direct":
            return f"direct, {self.sizes.pairs} pairs, {flight}"
        return f"group of {self.sizes.members}, {flight}"

    @property
    def users(self) -> int:
        return 2 * self.sizes.pairs if self.kind == "direct" else self.sizes.members

    @property
    def unit(self) -> str:
        """What is counted: messages, or in a group each message's delivery to each member."""
        return "messages" if self.kind == "direct" else "deliveries"


def workloads(sizes: Sizes) -> list[Workload]:
    return [Workload(kind, in_flight, sizes) for kind in ("direct", "group") for in_flight in (1, 64)]
