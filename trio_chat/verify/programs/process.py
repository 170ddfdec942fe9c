"""A real program as a test's private service: started, waited for, paused, killed, and never left behind.

Synchronous on purpose: session fixtures use it, and a fault test pauses or kills a service between two of its awaits.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

__all__ = ["ServiceError", "ServiceProcess", "accepts", "find_program", "free_port"]

#: Where Debian puts servers: often not in an ordinary user's PATH.
EXTRA_PATH = ("/usr/sbin", "/usr/local/sbin", "/sbin")

#: The Debian package that holds a program, for the error's text.
PACKAGES = {
    "mariadb": "mariadb-client",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "nginx": "nginx",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "openssl": "openssl",
    "chromium": "chromium",
    "ip": "iproute2",
}

_PR_SET_PDEATHSIG = 1


class ServiceError(RuntimeError):
    """A service is missing, did not start, or ended on its own; the text has the end of its log."""


def find_program(*names: str) -> str:
    """The full path of the first of `names` that is installed. Raises `ServiceError` that says what to install."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *EXTRA_PATH])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    package = next((PACKAGES[name] for name in names if name in PACKAGES), names[0])
    raise ServiceError(f"{' or '.join(names)} is not installed; on Debian: apt-get install {package}")


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts TCP connections there: the simplest sign of readiness."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


class ServiceProcess:
    """One program in a process group of its own.

    `ready` is polled until it is true; exceptions that it lets out end the wait. `start_timeout` and `stop_timeout` are
    seconds. Standard output and error go to `log`, `directory / (name + ".log")` unless given, appended over restarts.
    As a context manager it starts the program and stops it at the end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        directory: Path,
        ready: Callable[[], bool] = lambda: True,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        start_timeout: float = 20.0,
        stop_timeout: float = 10.0,
    ) -> None:
        self.name = name
        self.command = [os.fspath(part) for part in command]
        self.directory = directory
        self.ready = ready
        self.env = env
        self.log = log or directory / f"{name}.log"
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ServiceError(f"{self.name} is not running")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code of the last run, negative for a signal; None while it runs."""
        return None if self.process is None else self.process.poll()

    def log_text(self) -> str:
        """All that it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start and wait until it is ready. Raises `ServiceError` with the end of the log if it is not in time."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start without waiting: for tests of the start itself."""
        if self.running:
            raise ServiceError(f"{self.name} is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = self._popen(log)

    def wait_ready(self) -> None:
        """Wait until `ready` is true. Raises `ServiceError` when it exits first or `start_timeout` has passed."""
        deadline = time.monotonic() + self.start_timeout
        while self.running:
            if self.ready():
                return
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} was not ready after {self.start_timeout} s; {self._log_tail()}")
            time.sleep(0.01)
        raise ServiceError(f"{self.name} exited with {self.returncode} before it was ready; {self._log_tail()}")

    def kill(self) -> None:
        """SIGKILL to the whole group: a crash. Nothing happens if it does not run."""
        if self.process is not None:
            # The group outlives its leader as long as a child lives: signal it even when the leader is gone.
            self._signal(signal.SIGKILL)
            self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: sockets stay open, connections are accepted by the kernel, nothing answers.

        Returns once the program stands still: it may have threads that run for a moment after the signal.
        """
        self._signal(signal.SIGSTOP)
        if self.running:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT: undo `pause`."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to the program only, without waiting: for tests of a graceful stop."""
        if self.process is not None:
            self.process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code. Raises `ServiceError` after `timeout` seconds (`stop_timeout`)."""
        if self.process is None:
            raise ServiceError(f"{self.name} is not running")
        limit = self.stop_timeout if timeout is None else timeout
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{self.name} did not end within {limit} s; {self._log_tail()}") from None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_timeout`. Nothing happens if it does not run."""
        if self.running:
            self.resume()  # a stopped process does not see SIGTERM
            self.terminate()
            with contextlib.suppress(ServiceError):
                self.wait()
        self.kill()

    def restart(self) -> None:
        """Stop in good order and start again, with the same folder and ports."""
        self.stop()
        self.start()

    def _popen(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=None if self.env is None else {**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - only from the main thread, and it makes one system call
        )

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def _log_tail(self, lines: int = 30) -> str:
        tail = self.log_text().splitlines()[-lines:]
        return "\n  ".join([f"the end of {self.log}:", *tail]) if tail else "its log is empty"


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before exec so that the kernel kills it when the tests are killed; None where it cannot."""
    # The signal follows the death of the thread that forked, not of the process: a worker thread that ends would take
    # the service with it.
    if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
        return None
    libc = ctypes.CDLL(None)  # loaded here: the forked child should do as little as possible
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
