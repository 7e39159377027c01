"""The model of a server that simulations rest on, against the simulated Ollama over real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

VALIDATE = Path(__file__).parents[2] / "benchmarks" / "routing" / "validate.py"


def test_the_model_and_http_agree():
    """A few requests through router and servers: p50 and p95 within ten per cent of the simulation."""
    command = [sys.executable, str(VALIDATE), "--json", "--requests", "12", "--strategies", "priority_with_memory"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert abs(row["p50_off"]) <= 0.1
    assert abs(row["p95_off"]) <= 0.1
