"""Everything a change must pass, as one command: `nox`. Single parts: `nox -l` lists them, `nox -s tests -- -k login` runs one.

Sessions keep their virtual environments in `.nox`; `nox -R -s tests` skips the installation too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"  # the one that nox brings along: needs no ensurepip, no uv
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "build", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = nox.project.python_versions(PROJECT)  # from the classifiers
CODE = ["trio_chat", "tests", "bench", "fuzz", "deploy", "noxfile.py"]

PROBE = """
import sys, ssl, sqlite3
assert sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
print("%d.%d" % sys.version_info[:2])
"""


def _candidates() -> Iterator[Path]:
    """Every file that may be an interpreter: on PATH, and in pyenv, whose shims fail for versions that are not selected."""
    yield Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]
    for folder in [*folders, *sorted(pyenv.glob("versions/*/bin"), reverse=True)]:
        yield from (path for path in sorted(folder.glob("python3.*")) if re.fullmatch(r"python3\.\d+", path.name))


def _interpreters() -> dict[str, Path]:
    """The supported Python versions that really run on this machine, each with the program that does."""
    found: dict[str, Path] = {}
    for candidate in _candidates():
        version = candidate.name.removeprefix("python")
        if candidate != Path(sys.executable) and (version in found or version not in SUPPORTED):
            continue
        try:
            done = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        if done.stdout.strip() in SUPPORTED:
            found.setdefault(done.stdout.strip(), candidate)
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


INTERPRETERS = _interpreters()
if not INTERPRETERS:
    sys.exit(f"trio-chat needs a CPython of {SUPPORTED[0]} to {SUPPORTED[-1]}; none of them runs here. Install one.")

# nox looks interpreters up on PATH by their version; a shim that fails must not come first.
os.environ["PATH"] = os.pathsep.join([*dict.fromkeys(str(p.parent) for p in INTERPRETERS.values()), os.environ["PATH"]])

#: The version that runs the whole suite: the one that runs nox if it is supported, else the oldest.
MAIN = f"{sys.version_info.major}.{sys.version_info.minor}"
if MAIN not in INTERPRETERS:
    MAIN = next(iter(INTERPRETERS))


def _install(session: nox.Session, *groups: str, package: bool = True) -> None:
    """Install dependency groups of pyproject.toml, and the package in editable form; any pip can do it this way."""
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    session.install(*(["--editable", "."] if package else []), *requirements)


def _code() -> list[str]:
    return [name for name in CODE if Path(name).is_file() or any(Path(name).rglob("*.py"))]


@nox.session(python=[version for version in INTERPRETERS if version != MAIN] + [MAIN])
def tests(session: nox.Session) -> None:
    """The tests: all of them on one interpreter, on the newest one all but the slow ones, on those between a part."""
    _require_programs(session)
    _install(session, "test")
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    # What differs between two versions shows at one of its ends; other people's programs import the client library on any.
    places = [] if session.python in {MAIN, [*INTERPRETERS][-1]} else ["tests/pure", "tests/client"]
    session.run("python", "-m", "pytest", "-m", "not slow", "--numprocesses", "auto", "--maxprocesses", "4", *places)
    if session.python == MAIN:
        # Three at a time: they wait more than they work. A file's tests stay together, as they share what they started.
        session.run("python", "-m", "pytest", "-m", "slow", "--numprocesses", "3", "--dist", "loadfile")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (rules and format), the async rules of flake8, the schema of the compose file."""
    _install(session, "lint", package=False)
    session.run("ruff", "check", *_code())
    session.run("ruff", "format", "--check", *_code())
    session.run("flake8", *_code())
    session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on everything; pyright, strict, on the client library that other people's programs import."""
    _install(session, "types")
    session.run("mypy", *_code())
    session.run("pyright")


@nox.session(reuse_venv=False)
def build(session: nox.Session) -> None:
    """The wheel: from the sdist, pure Python, complete, and it works in an environment that has nothing else."""
    _install(session, "build", package=False)
    place = Path(session.create_tmp()).resolve()
    shutil.rmtree(place)
    place.mkdir()
    session.run("python", "-m", "build", "--outdir", str(place), silent=True)  # speaks when it fails
    (wheel,) = place.glob("*.whl")
    if not wheel.name.endswith("-py3-none-any.whl"):
        session.error(f"{wheel.name} is not a pure Python wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path) for path in Path("trio_chat").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    included = {f"trio_chat/{path}" for path in Path("db").rglob("*.sql")}
    included |= {"trio_chat/deploy/nginx.conf", "trio_chat/deploy/nodes.conf"}
    if missing := sorted((sources | included) - names):
        session.error(f"the wheel lacks {', '.join(missing)}")
    if foreign := sorted(name for name in names if not name.startswith(("trio_chat/", "trio_chat-"))):
        session.error(f"the wheel has what does not belong into it: {', '.join(foreign)}")

    session.run("virtualenv", "--quiet", str(place / "venv"))
    bin_ = place / "venv" / "bin"
    session.run(str(bin_ / "pip"), "install", "--quiet", str(wheel), external=True)
    with session.chdir(place):  # away from the checkout, which must not be what is imported
        version = session.run(str(bin_ / "trio-chat"), "--version", external=True, silent=True)
        if PROJECT["project"]["version"] not in str(version):
            session.error(f"trio-chat --version says {version!r}")
        (place / "smoke.py").write_text(SMOKE, encoding="utf-8")
        session.run(str(bin_ / "python"), "smoke.py", external=True)


#: Starts the installed server on a new SQLite file, waits until it accepts, and expects a graceful end.
SMOKE = """
import signal, socket, subprocess, sys, time
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", f"127.0.0.1:{port}", "--database", "sqlite:///smoke.db"]
server = subprocess.Popen(command)
deadline = time.monotonic() + 30
while server.poll() is None and time.monotonic() < deadline:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        break
    except OSError:
        time.sleep(0.05)
else:
    server.kill()
    sys.exit("the installed server did not start")
server.send_signal(signal.SIGTERM)
sys.exit(server.wait(30))
"""


@nox.session(python=MAIN)
def bench(session: nox.Session) -> None:
    """Measure; not part of the default run. Arguments after -- go to `python -m bench`."""
    _require_programs(session)
    _install(session, "test")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(python=MAIN)
def simulate(session: nox.Session) -> None:
    """Play 5,000 seeds of simulated clusters; not part of the default run. After --: `17` plays a seed, `--count N` many."""
    _install(session, "test")
    session.run("python", "-m", "tests.simulation", *(session.posargs or ["1000", "--count", "5000"]))


@nox.session(python=MAIN)
def autobahn(session: nox.Session) -> None:
    """Autobahn's 298 cases of RFC 6455 and 7692 against our WebSockets; not part of the default run. Needs a Python 2.7."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which("python2.7"), *map(str, pyenv.glob("versions/2.7.*/bin/python2.7"))]
    old = next((path for path in reversed(found) if path), None)
    if old is None:
        session.error(
            "the Autobahn test suite is a program for Python 2.7; none is here (`pyenv install 2.7.18` builds one)"
        )
    _install(session, "test")
    session.install("virtualenv<20.22")  # the last that knows 2.7
    place = Path(session.create_tmp()).resolve() / "suite"
    if not (place / "bin" / "wstest").exists():
        session.run("virtualenv", "--quiet", "--python", str(old), str(place))
        session.run(str(place / "bin" / "pip"), "install", "--quiet", "autobahntestsuite", external=True)
    session.run("python", "-m", "tests.http.autobahn", str(place / "bin" / "wstest"))


@nox.session(python=MAIN)
def webkit(session: nox.Session) -> None:
    """The page in WebKit, Safari's engine; not part of the default run. Needs Debian's webkit2gtk-driver and xvfb."""
    _install(session, "test")
    session.run("python", "-m", "tests.web.webkit", *session.posargs)


@nox.session(python=MAIN)
def fuzz(session: nox.Session) -> None:
    """Fuzz the decoder and a living server, for long; not part of the default run. After --: arguments of `python -m fuzz`."""
    _install(session, "test")
    if session.posargs:
        session.run("python", "-m", "fuzz", *session.posargs)
        return
    session.run("python", "-m", "fuzz", "pure", "--seconds", "60")
    session.run("python", "-m", "fuzz", "live", "--frames", "1000000")


@nox.session(python=MAIN)
def soak(session: nox.Session) -> None:
    """Four hours of mixed load with reconnects on a cluster; not part of the default run. After --: `--minutes N`."""
    _require_programs(session)
    _install(session, "test")
    session.run("python", "-m", "bench.soak", *session.posargs)


@nox.session
def changelog(session: nox.Session) -> None:
    """Fold the fragments of changelog.d into CHANGELOG.md, for a release."""
    _install(session, "changelog", package=False)
    version = PROJECT["project"]["version"]
    session.run("towncrier", "build", "--yes", "--name", "trio-chat", "--version", version, *session.posargs)


# The programs that the tests start as private instances.

#: What is needed: any of the programs, their Debian packages, and the word for everybody else.
PROGRAMS = [
    (("mariadbd", "mysqld"), ["mariadb-server"], "MariaDB's server"),
    (("mariadb-install-db", "mysql_install_db"), ["mariadb-server"], "MariaDB's mariadb-install-db"),
    (("mariadb", "mysql"), ["mariadb-client"], "MariaDB's command line client"),
    (("redis-server",), ["redis-server"], "Redis"),
    (("openssl",), ["openssl"], "the openssl command"),
    (("nginx",), ["nginx", "libnginx-mod-stream"], "nginx with its stream module"),
    (("chromium", "chromium-browser", "google-chrome"), ["chromium"], "Chromium, for the page's tests"),
    (("cc", "gcc", "clang"), ["gcc", "libc6-dev"], "a C compiler, for the benchmark's load generator"),
]
if sys.platform.startswith("linux"):
    PROGRAMS.append((("ip",), ["iproute2"], "ip, for networks that can be cut"))


def _find(*names: str) -> str | None:
    # Debian keeps servers in sbin, often not on an ordinary user's PATH.
    path = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def _nginx_has_stream() -> bool:
    """Whether nginx has the stream module: linked in, or as a module file."""
    if (nginx := _find("nginx")) is None:
        return True  # its absence is reported as that of nginx
    build = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    if re.search(r"--with-stream(\s|$)", build):
        return True
    modules = re.search(r"--modules-path=(\S+)", build)
    return modules is not None and (Path(modules[1]) / "ngx_stream_module.so").exists()


def _missing_programs() -> tuple[list[str], list[str]]:
    """The Debian packages that are missing, and the same in words."""
    missing = [(packages, words) for names, packages, words in PROGRAMS if _find(*names) is None]
    if not _nginx_has_stream():
        missing.append((["libnginx-mod-stream"], "nginx's stream module"))
    packages = dict.fromkeys(package for group, _ in missing for package in group)
    return list(packages), [words for _, words in missing]


def _require_programs(session: nox.Session) -> None:
    """Make sure that the tests' programs are there; on Debian and its relatives, as root, install what is missing."""
    packages, words = _missing_programs()
    if not packages:
        return
    if _find("apt-get") and os.geteuid() == 0:
        session.log(f"missing for the tests: {', '.join(words)}; installing {' '.join(packages)}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        # 100: one of the machine's package sources does not answer; whether that matters shows in the next step.
        session.run("apt-get", "-q", "update", env=environment, external=True, success_codes=[0, 100])
        install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages]
        session.run(*install, env=environment, external=True)
        packages, words = _missing_programs()
        if not packages:
            return
    session.error(
        f"the tests need {', '.join(words)}: "
        f"on Debian or Ubuntu `sudo apt-get install {' '.join(packages)}`, on macOS `brew install mariadb redis nginx openssl chromium`, "
        "elsewhere the packages of the same names"
    )
