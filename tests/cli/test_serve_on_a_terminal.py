"""`orouter serve` on a terminal logs for people."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

from ollama_router_core.testing import SimulatorThread


def read_until(terminal: int, words: str, *, seconds: float = 30.0) -> str:
    """What a process writes to its terminal, up to some words."""
    text, deadline = "", time.monotonic() + seconds
    while words not in text and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65_536).decode()
    return text


def test_each_server_is_one_line_of_text(tmp_path: Path) -> None:
    """A server that is up is reported with its models and version, without JSON and without colours under NO_COLOR."""
    master, slave = pty.openpty()
    variables = {**os.environ, "NO_COLOR": "1", "OROUTER_DATABASE_URL": f"sqlite:///{tmp_path / 'router.sqlite3'}"}
    with SimulatorThread(models=["llama3.1:8b", "qwen3:8b"]) as simulator:
        config = tmp_path / "orouter.yml"
        config.write_text(f"servers: {{gpu: {{host: 127.0.0.1, port: {simulator.port}}}}}\n", encoding="utf-8")
        command = [sys.executable, "-m", "ollama_router_cli", "serve", "--port", "0", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=variables) as router:
            try:
                text = read_until(master, "version=")
            finally:
                router.terminate()
    os.close(slave)
    os.close(master)
    assert re.search(r"\d\d:\d\d:\d\d \[info *\] server_up +\[fleet\] models=2 server=gpu version=", text), text
    assert "{" not in text
    assert "\x1b" not in text
