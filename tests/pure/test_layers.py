"""Who may import whom: one table, and the program's own source held against it.

What is imported only for type checkers does not count. A new module that no row names fails: give it a row, or a name
under one.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2] / "trio_chat"

# -- the rules ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Layer:
    """Some modules, the modules of ours that they may import, and the libraries. All know the standard library.

    Names are relative to `trio_chat`; a `*` stands for anything. A name in a module (`session.Identity`) allows only that
    name.
    """

    name: str
    modules: tuple[str, ...]
    ours: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


WIRE = ("wire.*", "errors")
STATEMENTS = (
    "store.contract",
    "store.steps",
    "store.log",
    "store.append",
    "store.clock",
    "store.accounts",
    "store.deletion",
    "store.export",
    "store.invitations",
    "store.logins",
    "store.names",
    "store.groups",
    "store.guesses",
    "store.presence",
    "store.relations",
    "store.search",
)
PURE = (
    *WIRE,
    *STATEMENTS,
    "address",
    "backoff",
    "session",
    "outbox",
    "counters",
    "meter",
    "transport.contract",
    "transport.proxy",
)
CHECKER = tuple(
    f"verify.{name}"
    for name in (
        "history",
        "facts",
        "spans",
        "courses",
        "storing",
        "places",
        "writers",
        "presence",
        "checker",
        "stats",
        "plan",
    )
)
CORE = (
    "router",
    "fanout",
    "look",
    "hints",
    "channels",
    "doubts",
    "writer",
    "backlog",
    "node",
    "commands",
    "account_commands",
    "connection",
    "receiving",
    "sending",
    "tasks",
    "departures",
    "doorkeeper",
)

#: A module belongs to the first layer that names it.
LAYERS = (
    Layer("packages", ("wire", "store", "bus", "services", "transport", "check", "verify", "verify.programs")),
    # Its libraries are tables: of what PRECIS allows, and of what looks alike.
    Layer("names", ("names",), ours=("errors",), libraries=("attrs", "precis_i18n")),
    Layer("pure", PURE, ours=(*PURE, "names"), libraries=("attrs", "cattrs", "msgspec")),
    Layer("checker", CHECKER, ours=CHECKER, libraries=("attrs", "msgspec")),
    Layer("settings", ("config",), ours=("address", "errors"), libraries=("attrs", "cattrs", "platformdirs")),
    Layer("signals", ("signals",), libraries=("trio",)),
    Layer("logging", ("logs",), libraries=("structlog",)),
    Layer("background tasks", ("background",), ours=("errors",), libraries=("structlog",)),
    Layer("bus contract", ("bus.contract",), libraries=("trio",)),
    Layer("local bus", ("bus.local",), ours=("bus.contract",), libraries=("attrs", "structlog", "trio")),
    Layer(
        "Redis",
        ("bus.redis", "bus.redis_*"),
        ours=("backoff", "bus.contract", "bus.redis_*", "errors"),
        libraries=("attrs", "hiredis", "redis", "structlog", "trio"),
    ),
    Layer(
        "MySQL",
        ("store.mysql", "store.mysql_*"),
        ours=("store.contract", "store.mysql_*", "errors"),
        libraries=("attrs", "cryptography", "structlog", "trio", "trio_mysql"),
    ),
    Layer(
        "SQLite",
        ("store.sqlite",),
        ours=("store.contract", "errors"),
        libraries=("attrs", "outcome", "structlog", "trio"),
    ),
    Layer("schema", ("store.schema",), ours=("store.contract", "errors"), libraries=("structlog",)),
    Layer(
        "HTTP",
        ("transport.http", "transport.websocket"),
        ours=("transport.*",),
        libraries=("attrs", "structlog", "trio", "websockets"),
    ),
    Layer(
        "health",
        ("health",),
        ours=("background", "errors", "transport.http", "wire.messages"),
        libraries=("trio", "websockets"),
    ),
    Layer(
        "metrics",
        ("metrics",),
        ours=("counters", "transport.http"),
        libraries=("attrs", "prometheus_client", "trio", "websockets"),
    ),
    Layer("pages", ("pages",), ours=("transport.http",), libraries=("trio", "websockets")),
    Layer(
        "transports",
        ("transport.*",),
        ours=("transport.*", "config", "errors"),
        libraries=("attrs", "cryptography", "structlog", "trio"),
    ),
    Layer(
        "services",  # the rules: they know the contracts and the statements, never a transport, a connection or a driver
        ("services.*",),
        ours=(
            *WIRE,
            *STATEMENTS,
            "address",
            "background",
            "bus.contract",
            "names",
            "services.*",
            "doubts",
            "hints",
            "router",
            "session.Identity",
            "session.Dialect",
            "outbox.Receipt",
        ),
        libraries=("argon2", "attrs", "outcome", "structlog", "trio"),
    ),
    Layer(
        "core",
        CORE,
        ours=(*PURE, *CORE, "services.*", "background", "bus.contract"),
        libraries=("attrs", "msgspec", "structlog", "trio"),
    ),
    Layer(
        "terminal client",
        ("client.terminal", "client.terminal_*"),
        ours=(*PURE, "client", "client.*"),
        libraries=("anyio", "attrs", "msgspec", "platformdirs", "prompt_toolkit"),
    ),
    Layer(
        "client library",  # on asyncio and on Trio alike
        ("client", "client.*"),
        ours=(*PURE, "client", "client.*"),
        libraries=("anyio", "attrs", "cattrs", "msgspec"),
    ),
    Layer(
        "programs",
        ("verify.programs.*",),
        ours=("", "wire.messages", "verify.programs.*"),
        libraries=("attrs", "redis", "trio"),
    ),
    Layer(
        "verify",  # a client of the server, which it never imports: it speaks the wire, and starts programs
        ("verify.*",),
        ours=(*WIRE, "config", "verify.*"),
        libraries=("attrs", "msgspec", "trio"),
    ),
    Layer(
        "check",  # looks at what the server stands on, without the server: so it names databases and Redis as that does
        ("check.*",),
        ours=(
            *(
                "address",
                "config",
                "errors",
                "check.*",
                "store.contract",
                "store.schema",
                "store.mysql",
                "store.mysql_*",
            ),
            *(
                "bus.redis_publisher.Stream",
                "bus.redis_settings",
                "bus.redis_wire",
                "writer.BATCH_CHARACTERS",
                "workers.supervisor.check",
            ),
        ),
        libraries=("attrs", "cryptography", "hiredis", "msgspec", "trio"),
    ),
    Layer(
        "operator's commands",
        ("invite",),
        ours=("errors", "services.invitations", "services.tokens", "store.contract", "store.invitations"),
    ),
    Layer("operators", ("operators",), ours=("errors", "store.contract", "store.relations")),
    Layer("composition root", ("server", "serving", "assembly"), ours=("*",), libraries=("attrs", "structlog", "trio")),
    Layer("public names", ("",), ours=("config", "server")),
    Layer(
        "workers",  # processes around the server, which know it from the outside
        ("workers", "workers.*"),
        ours=(
            "backoff",
            "config",
            "errors",
            "metrics",
            "node",
            "server",
            "serving",
            "signals",
            "transport.http",
            "workers.*",
        ),
        libraries=("attrs", "prometheus_client", "structlog", "trio", "websockets"),
    ),
    Layer(
        "command line",
        ("__main__",),
        ours=(
            "",
            "config",
            "errors",
            "logs",
            "server",
            "invite",
            "operators",
            "signals",
            "check.command",
            "check.secrets",
            "client.script",
            "client.terminal",
            "verify.command",
            "workers.supervisor",
            "workers.worker",
        ),
        libraries=("trio",),
    ),
)

#: The modules that name a driver or a backend; outside them only the composition root may, and `check`.
CONCRETE = ("store.mysql", "store.mysql_*", "store.sqlite", "bus.redis", "bus.redis_*", "bus.local")

#: Parts of the standard library that reach outside the process or start threads: nothing for pure modules.
IMPURE = {
    "asyncio",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
}

# -- reading the source -----------------------------------------------------------------------------------------------------


@attrs.frozen
class Import:
    """One imported name: `module` is of ours (relative to `trio_chat`) or a library's top name."""

    line: int
    ours: bool
    module: str
    name: str = ""

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


@attrs.frozen
class Source:
    module: str
    tree: ast.Module


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = [Source(module_of(path), ast.parse(path.read_text(), str(path))) for path in sorted(ROOT.rglob("*.py"))]
MODULES = {source.module for source in SOURCES}


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes, without what stands under `if TYPE_CHECKING`."""
    yield node
    skipped = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from nodes_at_run_time(child)


def imports_of(source: Source) -> Iterator[Import]:
    for node in nodes_at_run_time(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield imported(node, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.module}:{node.lineno}: imports are absolute"
            for alias in node.names:
                yield imported(node, node.module or "", alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0]
            first = name.values[0] if isinstance(name, ast.JoinedStr) else name
            assert isinstance(first, ast.Constant), f"{source.module}:{node.lineno}: nobody can tell what this imports"
            yield imported(node, str(first.value))


def imported(node: ast.Import | ast.ImportFrom | ast.Call, module: str, name: str = "") -> Import:
    top, _, rest = module.partition(".")
    if top != "trio_chat":
        return Import(node.lineno, False, top, name)
    inner = f"{rest}.{name}".strip(".")
    return Import(node.lineno, True, inner) if inner in MODULES and name else Import(node.lineno, True, rest, name)


def layer_of(module: str) -> Layer | None:
    return next((layer for layer in LAYERS if matches(module, layer.modules)), None)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def dotted_names(source: Source) -> Iterator[tuple[int, str]]:
    """Every dotted name that is used, written out: `t.run` after `import trio as t` is `trio.run`."""
    known: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            full = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            known |= full
            yield from ((node.lineno, name) for name in full.values())
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            parts = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name):
                parts.append(known.get(value.id, value.id))
                yield node.lineno, ".".join(reversed(parts))


# -- the breaches -------------------------------------------------------------------------------------------------------------


def forbidden_imports(source: Source) -> Iterator[str]:
    layer = layer_of(source.module)
    assert layer is not None, f"{source.module} is in no layer"
    for found in imports_of(source):
        if found.ours:
            allowed = matches(found.module, layer.ours) or matches(found.full, layer.ours)
        elif found.module in sys.stdlib_module_names:
            allowed = layer.name not in {"pure", "checker"} or found.module not in IMPURE
        else:
            allowed = found.module in layer.libraries
        if not allowed:
            yield f"{source.module}:{found.line}: {layer.name} may not import {found.full}"


def named_backends(source: Source) -> Iterator[str]:
    if source.module == "server" or matches(source.module, (*CONCRETE, "check.*")):
        return
    for found in imports_of(source):
        if found.ours and matches(found.module, CONCRETE):
            yield f"{source.module}:{found.line}: only server.py may name {found.module}"


def other_runs(source: Source) -> Iterator[str]:
    for line, name in dotted_names(source):
        if name in {"trio.run", "trio.lowlevel.start_guest_run"} and source.module != "__main__":
            yield f"{source.module}:{line}: only __main__.py calls trio.run"


def private_names_of_trio(source: Source) -> Iterator[str]:
    for line, name in dotted_names(source):
        if re.match(r"trio\..*\b_", name):
            yield f"{source.module}:{line}: {name} is private to Trio"


def system_tasks(source: Source) -> Iterator[str]:
    for line, name in dotted_names(source):
        if name.endswith(".spawn_system_task"):
            yield f"{source.module}:{line}: a system task belongs to no nursery"


Check = Callable[[Source], Iterator[str]]
CHECKS: dict[str, Check] = {
    "everybody imports what his layer may": forbidden_imports,
    "only server.py names a store or a bus": named_backends,
    "only __main__.py runs Trio": other_runs,
    "nobody uses private names of Trio": private_names_of_trio,
    "nobody spawns system tasks": system_tasks,
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_program_keeps_the_rules(check: Check) -> None:
    breaches = [breach for source in SOURCES for breach in check(source)]
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_module_has_its_layer() -> None:
    assert [module for module in sorted(MODULES) if layer_of(module) is None] == []


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_no_row_is_about_modules_that_are_gone(layer: Layer) -> None:
    known = [*MODULES, "session.Identity", "session.Dialect", "outbox.Receipt", "bus.redis_publisher.Stream"]
    known += ["writer.BATCH_CHARACTERS", "workers.supervisor.check"]
    for pattern in {*layer.modules, *layer.ours}:
        assert any(fnmatchcase(name, pattern) for name in known), f"{pattern} names nothing"


# -- the checks find what they are for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "code", "breaches"),
    [
        ("wire.frames", "import re, msgspec\nfrom trio_chat.errors import BadFrame", []),
        ("wire.frames", "import trio", ["wire.frames:1: pure may not import trio"]),
        ("wire.frames", "from socket import socket", ["wire.frames:1: pure may not import socket.socket"]),
        (
            "session",
            "def f():\n    from trio_chat.router import Router",
            ["session:2: pure may not import router.Router"],
        ),
        ("session", "from trio_chat import router", ["session:1: pure may not import router"]),
        ("session", "import trio_chat.router", ["session:1: pure may not import router"]),
        ("session", "import importlib\nimportlib.import_module('redis')", ["session:2: pure may not import redis"]),
        ("outbox", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import trio", []),
        ("outbox", "if TYPE_CHECKING:\n    pass\nelse:\n    import trio", ["outbox:4: pure may not import trio"]),
        ("services.chat", "from trio_chat.session import Identity, Dialect", []),
        (
            "services.chat",
            "from trio_chat.session import Identity, Session",
            ["services.chat:1: services may not import session.Session"],
        ),
        (
            "services.chat",
            "from trio_chat.transport.contract import Transport",
            ["services.chat:1: services may not import transport.contract.Transport"],
        ),
        (
            "router",
            "import trio\nfrom trio_chat.store.sqlite import SQLite",
            [
                "router:2: core may not import store.sqlite.SQLite",
                "router:2: only server.py may name store.sqlite",
            ],
        ),
        ("server", "from trio_chat.store.sqlite import SQLite\nfrom trio_chat.bus import redis", []),
        ("client.chat", "import anyio, trio", ["client.chat:1: client library may not import trio"]),
        (
            "client.chat",
            "from trio_chat.config import load",
            ["client.chat:1: client library may not import config.load"],
        ),
        ("__main__", "import trio\ntrio.run(main)", []),
        ("router", "import trio\ntrio.run(main)", ["router:2: only __main__.py calls trio.run"]),
        ("router", "import trio as t\nt.run(main)", ["router:2: only __main__.py calls trio.run"]),
        ("router", "from trio import run as go", ["router:1: only __main__.py calls trio.run"]),
        ("router", "import trio\ntrio.lowlevel.checkpoint", []),
        ("router", "import trio\ntrio._core", ["router:2: trio._core is private to Trio"]),
        ("router", "from trio._core import Nursery", ["router:1: trio._core.Nursery is private to Trio"]),
        (
            "router",
            "from trio.lowlevel import spawn_system_task as spawn",
            ["router:1: a system task belongs to no nursery"],
        ),
        (
            "router",
            "import trio\ntrio.lowlevel.spawn_system_task(f)",
            ["router:2: a system task belongs to no nursery"],
        ),
    ],
)
def test_a_breach_is_found(module: str, code: str, breaches: list[str]) -> None:
    source = Source(module, ast.parse(code))
    assert [breach for check in CHECKS.values() for breach in check(source)] == breaches
