"""`python -m tests.simulation 17` plays a seed again; `--count 1000` plays many, from the seed given on."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.run import Outcome, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed (default 0)")
    parser.add_argument("--count", type=int, default=1, help="how many seeds (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--history", type=Path, help="write the histories to this file; one process")
    arguments = parser.parse_args()
    begun = time.monotonic()
    failed: list[int] = []
    totals: dict[str, int] = {}
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    if arguments.history is not None:
        arguments.jobs = 1
        arguments.history.write_bytes(b"")
    for done, outcome in enumerate(_outcomes(seeds, arguments.jobs), 1):
        for name, count in outcome.counts.items():
            totals[name] = totals.get(name, 0) + count
        if outcome.wrong:
            failed.append(outcome.plan.seed)
            print(outcome.report(), flush=True)
        if done % 100 == 0:
            print(f"{done} seeds, {len(failed)} failed, {time.monotonic() - begun:.0f} s", flush=True)
        if arguments.history is not None:
            with arguments.history.open("ab") as file:
                file.write(outcome.lines())
    took = time.monotonic() - begun
    print(f"{len(seeds)} seeds in {took:.0f} s, failed: {failed or 'none'}")
    print(", ".join(f"{name}: {totals[name]}" for name in sorted(totals)))
    return 1 if failed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs == 1 or len(seeds) == 1:
        return map(simulate, seeds)
    return ProcessPoolExecutor(jobs).map(_slim, seeds, chunksize=5)


def _slim(seed: int) -> Outcome:
    """Without the history, which is long."""
    outcome = simulate(seed)
    outcome.history = []
    return outcome


if __name__ == "__main__":
    sys.exit(main())
