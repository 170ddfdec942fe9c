"""What all tests share: the private services as plugins, and quiet logs."""

from __future__ import annotations

import pytest
import structlog

pytest_plugins = ["tests.services.fixtures", "tests.services.redis_fixtures", "tests.services.nginx_fixtures"]


@pytest.fixture(autouse=True)
def logs() -> list[structlog.typing.EventDict]:
    """What was logged during the test, as dictionaries, instead of on the screen."""
    captured = structlog.testing.LogCapture()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    return captured.entries
