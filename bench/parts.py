"""The benchmark's parts: each makes a system ready once, and takes all figures that can be taken there.

A figure has a name, `SYSTEM/WORKLOAD`, and for each run its numbers: `rate` per second, latencies in ms, CPU in microseconds for
each thing that is counted, memory in KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from bench.dialects import Client, Link
from bench.generator import Generator, Measured
from bench.systems import Need, Place, System
from bench.workloads import Sizes

__all__ = ["Context", "Figure", "Part", "Run", "loads", "measured_run", "message_parts", "pairs"]

Run = dict[str, float]
#: A load: its title, messages in flight on each link, or messages per second in all.
Load = tuple[str, int, float]
PERCENTILES = ("p50", "p99", "p999", "max")


@attrs.frozen
class Figure:
    system: str
    workload: str
    title: str
    unit: str
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        return f"{self.system}/{self.workload}"


@attrs.frozen
class Context:
    """What a part is given: an empty folder, how much to do, how often, which figures, and somebody to tell."""

    directory: Path
    sizes: Sizes
    runs: int
    wanted: Callable[[str], bool]
    tell: Callable[[str], None]

    def generator(self, system: System, clients: Sequence[Client], links: Sequence[Link] = ()) -> Generator:
        return Generator(system.generator, self.directory, clients, links)

    def repeat(self, system: System, workload: str, title: str, unit: str, run: Callable[[], Run]) -> Figure:
        """Take a figure so many times."""
        runs = []
        for number in range(1, self.runs + 1):
            runs.append(run())
            self.tell(f"{system.name}/{workload} {number}/{self.runs}: {_told(runs[-1])}")
        return Figure(system.name, workload, title, unit, runs)


def _told(run: Run) -> str:
    """A run in a line: its first numbers, and how much of a core the load generator took."""
    shown = ", ".join(f"{name} {value:,.5g}" for name, value in list(run.items())[:5])
    return shown + (f"; the generator used {run['generator_share']:.0%} of a core" if "generator_share" in run else "")


@attrs.frozen
class Part:
    """`workloads` are those whose figures `measure` takes, as far as they are wanted."""

    workloads: Sequence[str]
    measure: Callable[[System, Context], Iterator[Figure]]
    only: Callable[[System], bool] = lambda _system: True


def measured_run(measured: Measured, *, deliveries: bool = False) -> Run:
    """The numbers of a run under load, for each message or for each delivery."""
    count = measured.deliveries if deliveries else measured.done
    run: Run = {"rate": count / measured.seconds}
    for what, times in (("ack", measured.ack_ns), ("delivery", measured.delivery_ns)):
        run |= {f"{what}_{name}": time / 1e6 for name, time in zip(PERCENTILES, times, strict=True)}
    for process, seconds in measured.cpu.items():
        if process != "other":
            run[f"cpu_{process}"] = seconds * 1e6 / max(1, count)
    run["generator_share"] = measured.cpu["generator"] / measured.seconds
    run["others_share"] = measured.cpu["other"] / measured.cores_seconds
    return run


def pairs(place: Place, count: int) -> list[Link]:
    return [place.direct(pair, 2 * pair, 2 * pair + 1) for pair in range(count)]


def loads(
    system: System,
    context: Context,
    place: Place,
    links: Sequence[Link],
    wanted: Mapping[str, Load],
    *,
    deliveries: bool = False,
) -> Iterator[Figure]:
    """Log in once, then each load, by its workload's name."""
    sizes = context.sizes
    with context.generator(system, place.clients, links) as generator:
        generator.login()
        for workload, (title, in_flight, rate) in wanted.items():
            if not context.wanted(f"{system.name}/{workload}"):
                continue

            def run(in_flight: int = in_flight, rate: float = rate) -> Run:
                measured = generator.load(
                    place.pids,
                    in_flight=in_flight,
                    rate=rate,
                    warmup=sizes.warmup,
                    measured=sizes.measured * (2 if rate else 1),
                )
                return measured_run(measured, deliveries=deliveries)

            yield context.repeat(system, workload, title, "deliveries" if deliveries else "messages", run)


def _direct(count: int, wanted: Mapping[str, Load]) -> Part:
    def measure(system: System, context: Context) -> Iterator[Figure]:
        with system.open(context.directory, Need(2 * count)) as place:
            yield from loads(system, context, place, pairs(place, count), wanted)

    return Part(list(wanted), measure)


def _group(members: int, wanted: Mapping[str, Load]) -> Part:
    def measure(system: System, context: Context) -> Iterator[Figure]:
        with system.open(context.directory, Need(members, groups=[range(members)])) as place:
            yield from loads(system, context, place, [place.group(0, 0, 0)], wanted, deliveries=True)

    return Part(list(wanted), measure)


def message_parts(sizes: Sizes) -> list[Part]:
    """Direct chat, with so many in flight and at so many per second; groups."""
    parts = []
    for count in sizes.pairs:
        wanted: dict[str, Load] = {
            f"direct-{count}-{in_flight}": (f"direct, {count:,} pairs, {in_flight} in flight", in_flight, 0.0)
            for in_flight in sizes.in_flight
        }
        if count == sizes.rate_pairs:
            wanted |= {
                f"latency-{rate}": (f"direct, {count:,} pairs, {rate:,} messages/s", 0, float(rate))
                for rate in sizes.rates
            }
        parts.append(_direct(count, wanted))
    for members in sizes.members:
        wanted = {
            f"group-{members}-{in_flight}": (f"group of {members:,}, {in_flight} in flight", in_flight, 0.0)
            for in_flight in sizes.in_flight
        }
        parts.append(_group(members, wanted))
    return parts
