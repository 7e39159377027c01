"""The short form of the benchmark of several routers: what may not be lost is not lost, on any machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.postgresql import find_binaries
from support.redis_server import find_server

CLUSTER = Path(__file__).parents[2] / "benchmarks" / "cluster.py"


@pytest.mark.timeout(400)
def test_a_cluster_loses_nothing_and_keeps_to_its_limits():
    """A router killed, one succeeded, Redis and PostgreSQL away, a drain, a slow server: no request and no row is lost.

    Nor are there ever more requests at a server than it has slots, while Redis can be asked.
    """
    if not (shutil.which("haproxy") and find_server() and find_binaries()):
        assert "CI" not in os.environ, "needs haproxy, redis-server and postgresql"
        pytest.skip("needs haproxy, redis-server and postgresql")
    done = subprocess.run(
        [sys.executable, str(CLUSTER), "--short"], capture_output=True, text=True, check=False, timeout=380
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, f"{figures}\n{done.stderr[-2000:]}"
    assert figures["answered"] > 100
