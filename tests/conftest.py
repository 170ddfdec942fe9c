"""What all tests share: the private services as plugins, and quiet logs."""

from __future__ import annotations

import signal

import hypothesis
import pytest
import structlog

# A run in the background may have been told to ignore it, and the programs that the tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be busy: how long an example takes says nothing, and each test has a limit of time anyway.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("busy")

pytest_plugins = ["tests.services.fixtures", "tests.services.redis_fixtures", "tests.services.nginx_fixtures"]


@pytest.fixture(autouse=True)
def logs() -> list[structlog.typing.EventDict]:
    """What was logged during the test, as dictionaries, instead of on the screen."""
    captured = structlog.testing.LogCapture()
    # The command line configures it too, and a test may have run that in this process.
    structlog.reset_defaults()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    return captured.entries
