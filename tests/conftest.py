"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# The machine is shared: a slow example says something about the neighbours, so there is no deadline.
# Where a merge depends on it, the same examples are tried each time; elsewhere they are new ones.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    database=None if "CI" in os.environ else settings.default.database,
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell that starts the tests in the background lets them, and every process they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a corner of the matrix run each test of the relay once, in one of the ways that an exchange can be run."""
    parser.addoption("--exchange-modes", choices=["all", "one"], default="all")
    parser.addoption("--pictures", metavar="FOLDER", help="where tests/browser writes the pictures of the docs")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio; the client room's tests parametrise trio themselves."""
    return "asyncio"
