"""A private nginx that runs the shipped `deploy/nginx.conf`: only ports, addresses and paths are substituted."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from trio_chat.verify.programs.process import ServiceError, ServiceProcess, accepts, find_program, free_port

__all__ = ["MODULES", "Nginx", "load_stream"]

#: What Debian does to load the stream module; other systems may need it said in another way.
MODULES = "include /etc/nginx/modules-enabled/*.conf;"

RELOAD_TIMEOUT = 10.0


class Nginx(ServiceProcess):
    """nginx in `directory`, listening on 127.0.0.1:`port`, in front of `nodes` (pairs of host and port).

    The nodes may be down or come later. To change them: `set_nodes`, then `reload`, which established connections
    survive. For faults, as of any `ServiceProcess`: `kill`, `pause`, `restart`.
    """

    def __init__(self, directory: Path, nodes: Sequence[tuple[str, int]], *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.config = directory / "nginx.conf"
        self._pid_file = directory / "nginx.pid"
        self._nodes = list(nodes)
        program = find_program("nginx")
        self._modules = load_stream(program)
        command = [program, "-c", str(self.config), "-g", "daemon off;"]
        super().__init__("nginx", command, directory=directory, ready=self._listens)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def launch(self) -> None:
        self.write_config()
        super().launch()

    def kill(self) -> None:
        listened = self.process is not None and self._listens()
        super().kill()
        # The workers are not our children: that the signal was sent does not yet mean that their sockets are closed.
        deadline = time.monotonic() + self.stop_timeout
        while listened and accepts(self.port):
            if time.monotonic() > deadline:
                raise ServiceError(f"nginx still listens on port {self.port} after it was killed")
            time.sleep(0.01)

    def set_nodes(self, nodes: Sequence[tuple[str, int]]) -> None:
        """Write another list of nodes; it counts from the next `reload` or start on."""
        self._nodes = list(nodes)
        self.write_config()

    def write_config(self) -> None:
        """Write the two shipped files with this instance's ports, addresses and paths."""
        self.directory.mkdir(parents=True, exist_ok=True)
        text = _shipped("nginx.conf")
        for shipped, ours in {
            MODULES: self._modules,
            "listen 6000 ": f"listen 127.0.0.1:{self.port} ",
            "pid /run/nginx.pid;": f"pid {self._pid_file};",
            "access_log /var/log/nginx/access.log ": f"access_log {self.directory / 'access.log'} ",
        }.items():
            # A directive stands at the beginning of its line; comments may mention it too.
            lines = re.findall(rf"(?m)^ *{re.escape(shipped)}", text)
            if len(lines) != 1:
                raise ServiceError(f"deploy/nginx.conf has {shipped!r} {len(lines)} times, not once")
            text = text.replace(lines[0], lines[0].replace(shipped, ours))
        self.config.write_text(text, encoding="utf-8")
        (self.directory / "nodes.conf").write_text(self._node_lines(), encoding="utf-8")

    def test_config(self) -> str:
        """Run `nginx -t` on what `write_config` wrote. Raises `ServiceError` with what nginx says against it."""
        done = self._control("-t")
        if done.returncode:
            raise ServiceError(f"nginx -t: {done.stderr.strip()}")
        return done.stderr

    def reload(self) -> None:
        """Take over the configuration and wait until no old worker accepts connections any more.

        Raises `ServiceError` when nginx refuses the configuration; it then goes on with the old one.
        """
        start = len(self.log_text())
        old = self._workers(self.log_text())
        if (done := self._control("-s", "reload")).returncode:
            raise ServiceError(f"nginx -s reload: {done.stderr.strip()}")
        deadline = time.monotonic() + RELOAD_TIMEOUT
        while time.monotonic() < deadline:
            news = self.log_text()[start:]
            if "[emerg]" in news:
                raise ServiceError(f"nginx refused to reload: {news}")
            if old <= {int(pid) for pid in re.findall(r"\[notice\] (\d+)#\d+: gracefully shutting down", news)}:
                return
            time.sleep(0.01)
        raise ServiceError(f"nginx did not reload within {RELOAD_TIMEOUT} s; {self.log_text()[start:]}")

    def access_log(self) -> str:
        """One line for every connection that has ended."""
        return (self.directory / "access.log").read_text(encoding="utf-8")

    def _control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call nginx as an operator would, for this instance's configuration."""
        command = [self.command[0], "-c", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def _node_lines(self) -> str:
        shipped = _shipped("nodes.conf")
        options = set(re.findall(r"(?m)^server \S+?( [^;]*)?;", shipped))
        if len(options) != 1:
            raise ServiceError("deploy/nodes.conf gives its nodes different options; which are a test's node to have?")
        (common,) = options
        hosts = ((f"[{host}]" if ":" in host else host, port) for host, port in self._nodes)
        return "".join(f"server {host}:{port}{common};\n" for host, port in hosts)

    def _listens(self) -> bool:
        # Not by connecting: that would reach a node. The file is written after the sockets are bound and listening.
        return self._pid_file.exists() and self._pid_file.read_text(encoding="ascii").strip() == str(self.pid)

    def _workers(self, log: str) -> set[int]:
        """The workers that accept connections now: those started since the last start or reload."""
        generation = re.split(r"reconfiguring|using the \"\w+\" event method", log)[-1]
        return {int(pid) for pid in re.findall(r"start worker process (\d+)", generation)}


def _shipped(name: str) -> str:
    """A file of `deploy/`: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for directory in (package / "deploy", package.parent / "deploy"):
        if (directory / name).is_file():
            return (directory / name).read_text(encoding="utf-8")
    raise ServiceError(f"deploy/{name} is missing from this installation; install trio-chat again")


def load_stream(program: str) -> str:
    """The line that loads nginx's stream module here; the shipped one where it works."""
    build = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=20, check=True).stderr
    shipped = any("stream_module" in path.read_text() for path in Path("/etc/nginx/modules-enabled").glob("*.conf"))
    if shipped or re.search(r"--with-stream(\s|$)", build):
        return MODULES
    if (modules := re.search(r"--modules-path=(\S+)", build)) is not None:
        module = Path(modules[1]) / "ngx_stream_module.so"
        if module.exists():
            return f"load_module {module};"
    raise ServiceError("nginx has no stream module; on Debian: apt-get install libnginx-mod-stream")
