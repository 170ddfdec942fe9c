"""Networks of their own for programs and clients, joined to the machine by cables that can be cut.

A cut is silent, as when a switch dies: what is sent is lost, nothing is reset and nobody is told. It is made by giving
each end a hardware address for the other that nobody has, so nothing but `ip` is needed (Debian: iproute2), and the
right to use it: root. `why_not` says whether this machine permits it; where it does not, `relay` does nearly the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from trio_chat.verify.programs.process import ServiceError, find_program

__all__ = ["ADDRESSES", "Cable", "Network", "why_not"]

_PREFIX = "trio-chat"
_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
#: What all networks' addresses are in: what RFC 2544 sets aside for tests of networks, with the mask that MariaDB wants.
ADDRESSES = "198.18.0.0/255.254.0.0"
#: The same in nets of four addresses.
_FIRST, _NETS = (198 << 24) + (18 << 16), 1 << 15
#: A hardware address that no end has: what is sent to it is lost.
_NOBODY = "02:00:00:00:00:00"

_numbers = itertools.count(1)


class Cable:
    """`outside` is the machine's address on this cable, `inside` that of the network."""

    def __init__(self, namespace: str, number: int) -> None:
        self._namespace = namespace
        # At most 15 characters.
        self._outer, self._inner = f"tc{os.getpid()}x{number}", f"cable{number}"
        self.outside, self.inside = _free_addresses()
        self._outer_hardware, self._inner_hardware = _hardware_address(), _hardware_address()

    def lay(self) -> None:
        inner = f"peer name {self._inner} address {self._inner_hardware} netns {self._namespace}"
        _ip(f"link add name {self._outer} address {self._outer_hardware} type veth {inner}")
        _ip(f"address add {self.outside}/30 dev {self._outer}")
        _ip(f"-n {self._namespace} address add {self.inside}/30 dev {self._inner}")
        _ip(f"link set {self._outer} up")
        _ip(f"-n {self._namespace} link set {self._inner} up")
        self.heal()

    def cut(self) -> None:
        """From now on nothing gets through, either way, until `heal`. Connections stay open at both ends."""
        self._aim(_NOBODY, _NOBODY)

    def heal(self) -> None:
        """What is sent from now on arrives; the kernels send again what was lost meanwhile, within seconds."""
        self._aim(self._inner_hardware, self._outer_hardware)

    def remove(self) -> None:
        with contextlib.suppress(ServiceError):
            _ip(f"link delete {self._outer}")

    def _aim(self, inner_hardware: str, outer_hardware: str) -> None:
        # Permanent entries: the kernel never asks who is there, so it never finds that nobody is.
        _ip(f"neighbour replace {self.inside} lladdr {inner_hardware} dev {self._outer} nud permanent")
        inner = f"{self.outside} lladdr {outer_hardware} dev {self._inner} nud permanent"
        _ip(f"-n {self._namespace} neighbour replace {inner}")


class Network:
    """A network namespace: a context manager, gone at its end. What a run that was killed left behind, the next removes.

    It begins with one cable, `cable`, by which it reaches all of this machine's addresses but the loopback ones, so what
    it is to reach listens on the `outside` of any network's cable. `add_cable` lays another, for one that shall be cut
    on its own. `command` runs a program in it; `socket` makes a socket that is in it, for a client in this program.
    """

    def __init__(self) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._cables: list[Cable] = []

    def __enter__(self) -> Self:
        """Raises `ServiceError` where this machine does not permit it."""
        _remove_stale()
        _ip(f"netns add {self.name}")
        try:
            _ip(f"-n {self.name} link set lo up")
            _ip(f"-n {self.name} route add default via {self.add_cable().outside}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cable(self) -> Cable:
        return self._cables[0]

    def add_cable(self) -> Cable:
        cable = Cable(self.name, next(_numbers))
        self._cables.append(cable)
        cable.lay()
        return cable

    def command(self, command: Sequence[str | os.PathLike[str]]) -> list[str]:
        """What to start so that `command` runs in this network, in the same process."""
        return [find_program("ip"), "netns", "exec", self.name, *(os.fspath(part) for part in command)]

    def socket(self) -> socket.socket:
        """A TCP socket that is in this network; who uses it need not be."""
        return _in_namespace(self.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    def close(self) -> None:
        for cable in self._cables:
            cable.remove()
        with contextlib.suppress(ServiceError):
            _ip(f"netns delete {self.name}")


@functools.cache
def why_not() -> str:
    """Why this machine does not permit networks of one's own, in words; empty where it does."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    try:
        with (
            Network() as network,
            socket.create_server((network.cable.outside, 0)) as server,
            network.socket() as client,
        ):
            client.settimeout(2)
            client.connect(server.getsockname())
    except (ServiceError, OSError) as error:
        return f"network namespaces cannot be used here: {error}"
    return ""


def _remove_stale() -> None:
    """What is left of runs that have ended, each known by its process id."""
    names = [entry.name for entry in _NAMESPACES.iterdir()] if _NAMESPACES.is_dir() else []
    for name in names:
        if (found := re.fullmatch(rf"{_PREFIX}-(\d+)-\d+", name)) and not _lives(int(found[1])):
            with contextlib.suppress(ServiceError):
                _ip(f"netns delete {name}")  # the cables' ends in it go too, and an end takes the other with it


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _free_addresses() -> tuple[str, str]:
    """Two addresses of a net that this machine does not use yet."""
    used = _ip("-oneline address show")
    for number in random.sample(range(_NETS), 100):
        base = _FIRST + 4 * number
        outside, inside = (socket.inet_ntoa((base + host).to_bytes(4)) for host in (1, 2))
        if f" {outside}/" not in used:
            return outside, inside
    raise ServiceError("the addresses for tests of networks, 198.18.0.0/15, are all in use")


def _hardware_address() -> str:
    return ":".join(["02", *(f"{random.randrange(256):02x}" for _ in range(4)), "01"])


def _in_namespace(name: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Call `make` in a thread that has gone into the namespace, and ends with it."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            descriptor = os.open(_NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(descriptor)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise ServiceError(f"the network {name} cannot be entered: {failed[0]}")
    return made[0]


def _ip(arguments: str) -> str:
    """Run `ip`; what it wrote. Raises `ServiceError` with what it said against it."""
    command = [find_program("ip"), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise ServiceError(f"ip {arguments}: {done.stderr.strip()}")
    return done.stdout
