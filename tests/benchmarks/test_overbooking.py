"""The short form of the benchmark of limits over routers that are killed: none is passed, on any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.redis_server import find_server

OVERBOOKING = Path(__file__).parents[2] / "benchmarks" / "overbooking.py"


@pytest.mark.timeout(300)
def test_routers_that_are_killed_pass_no_limit():
    """60 clients at three routers, one of which is killed: of servers' slots and of users' requests at once."""
    if find_server() is None:
        assert "CI" not in os.environ, "needs redis-server"
        pytest.skip("needs redis-server")
    command = [sys.executable, str(OVERBOOKING), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    told = f"{done.stdout}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, told
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["most at a server of 4 slots"] == 4, told
    assert figures["most of a user of 3 at once"] <= 3, told
    assert figures["answered"] > 50, told
    assert figures["failed"] == 0, told
