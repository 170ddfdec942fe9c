"""The Autobahn test suite against our WebSocket transport: `python -m tests.http.autobahn WSTEST` (`nox -s autobahn` installs it).

The suite is a program of its own, for Python 2.7, so it is no part of the tests; it is run after a change of
`transport/websocket.py`. It talks to the echo server of `tests/http/echo.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from trio_chat.verify.programs.process import accepts, free_port

#: All but 9.2 and 9.4 (binary) and 9.5 to 9.8 (a million bytes in tiny pieces: our frames are 64 KiB); of compression both of the
#: parameters' extremes.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.*", "9.3.*", "10.*", "12.1.*", "13.1.*"]

GOOD = {"OK", "INFORMATIONAL"}
#: What may be otherwise, and why. NON-STRICT: allowed by the RFC, but later than could be.
EXPECTED = {
    "1.2.": "binary messages are refused (1003): a frame is text",
    "6.4.": "UTF-8 is checked when a message is whole, not while its fragments come",
    "7.1.5": "a close frame within a fragmented message is a protocol error to the library (1002): it cannot become whole",
}


def main(wstest: str) -> int:
    with tempfile.TemporaryDirectory(prefix="autobahn-") as place:
        port = free_port()
        server = subprocess.Popen([sys.executable, "-m", "tests.http.echo", str(port)])
        try:
            deadline = time.monotonic() + 20
            while not accepts(port) and time.monotonic() < deadline:
                time.sleep(0.05)
            specification = {
                "outdir": place,
                "servers": [{"agent": "trio-chat", "url": f"ws://127.0.0.1:{port}/ws"}],
                "cases": CASES,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            (Path(place) / "spec.json").write_text(json.dumps(specification), encoding="utf-8")
            command = [wstest, "-m", "fuzzingclient", "-s", "spec.json"]
            done = subprocess.run(
                command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
        finally:
            server.kill()
            server.wait()
        index = Path(place) / "index.json"
        if done.returncode or not index.exists():
            print(done.stdout[-3000:])
            return 1
        (results,) = json.loads(index.read_text(encoding="utf-8")).values()
    return report({case: (result["behavior"], result["behaviorClose"]) for case, result in results.items()})


def report(results: dict[str, tuple[str, str]]) -> int:
    """Print what came out; 1 where something did that is not expected."""
    counts = Counter(behavior for behavior, _ in results.values())
    print(f"{len(results)} cases: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    wrong = 0
    for case, (behavior, close) in sorted(results.items(), key=lambda item: [int(n) for n in item[0].split(".")]):
        if behavior in GOOD and close in GOOD:
            continue
        why = next((why for prefix, why in EXPECTED.items() if case.startswith(prefix)), None)
        wrong += why is None
        print(f"  {case}: {behavior}, its close {close}: {why or 'UNEXPECTED'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
