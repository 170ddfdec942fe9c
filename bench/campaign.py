"""A run of the benchmark: part by part, in each part one system after the other, each figure kept as soon as it is there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from bench.debian import install
from bench.generator import BenchmarkError, build_generator
from bench.machine import versions
from bench.parts import Context, Part
from bench.results import Results
from bench.systems import MariaDBSystem, System
from bench.workloads import Sizes
from trio_chat.errors import ChatError
from trio_chat.verify.programs.process import ServiceError

__all__ = ["Campaign"]

#: What may go wrong with one system in one part, and leaves the other figures worth what they are.
_FAILURES = (BenchmarkError, ServiceError, ChatError, ExceptionGroup, OSError, subprocess.SubprocessError)


@attrs.define
class Campaign:
    """Takes the `wanted` figures, each `runs` times, into `results` and `file`. `failed` says what could not be measured."""

    place: Path
    sizes: Sizes
    runs: int
    wanted: set[str]
    results: Results
    file: Path | None
    installs: bool
    failed: list[str] = attrs.field(factory=list)
    _used: list[System] = attrs.field(factory=list)
    _started: float = attrs.field(factory=time.monotonic)

    def run(self, systems: Sequence[type[System]], parts: Sequence[Part], stack: ExitStack) -> None:
        """Systems are started when they are first needed, and stopped when `stack` is closed."""
        program = build_generator(self.place)
        made = [system(program) for system in systems]
        there = {
            system.name: self._is_there(system) for system in made if any(self._wants(system, part) for part in parts)
        }
        for part in parts:
            for system in made:
                if self._wants(system, part) and there[system.name]:
                    if system not in self._used:
                        directory = self.place / system.name
                        directory.mkdir()
                        stack.enter_context(system.started(directory))
                        self._used.append(system)
                    self._measure(system, part)

    def versions(self) -> dict[str, str]:
        """Of everything that was measured."""
        found = versions(with_services=any(isinstance(system, MariaDBSystem) for system in self._used))
        for system in self._used:
            found |= system.versions()
        return found

    def _wants(self, system: System, part: Part) -> bool:
        return part.only(system) and any(f"{system.name}/{workload}" in self.wanted for workload in part.workloads)

    def _is_there(self, system: System) -> bool:
        missing = system.missing()
        if not missing:
            return True
        self._tell(f"{system.name} needs {' '.join(missing)}")
        why = install(missing) if self.installs else "not installed"
        if why:
            self._tell(f"{system.name} is left out: {why}")
            if self.installs:
                self.failed.append(f"{system.name}: {why}")
        return not why

    def _measure(self, system: System, part: Part) -> None:
        directory = self.place / system.name
        try:
            with tempfile.TemporaryDirectory(prefix="part", dir=directory, ignore_cleanup_errors=True) as folder:
                context = Context(Path(folder), self.sizes, self.runs, self.wanted.__contains__, self._tell)
                for figure in part.measure(system, context):
                    if figure.name in self.wanted:
                        self.results.add([figure])
                        if self.file:
                            self.results.write(self.file)
        except _FAILURES as error:
            words = f"{system.name}/{part.workloads[0]} failed: {error}"
            self._tell(words)
            self.failed.append(words)

    def _tell(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:5.0f} s  {line}", file=sys.stderr, flush=True)
