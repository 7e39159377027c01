"""Start-up and memory of an idle router, with its console and without: the medians of five runs of each, in turn.

    python benchmarks/startup.py [--runs 5]

Time is from exec to the first 200 on `/livez`, with a database that is there already; the processor time until then
hardly depends on what else the machine does. Memory is resident (VmRSS), and what of it is the process's own (RssAnon),
two seconds later; its one server is down.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
proxy_port: {port}
servers:
  one: {{host: 127.0.0.1, port: {server}, priority: 1, max_memory_gb: 24}}
logging: {{level: error}}
console: {{enabled: {console}}}
"""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def measure(command: list[str], environment: dict[str, str], port: int) -> tuple[float, float, float, float]:
    """Seconds to the first answer, processor seconds until then, MB resident, MB anonymous."""
    begun = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            while not _lives(port):
                if running.poll() is not None:
                    raise SystemExit("the router did not start")
                time.sleep(0.002)
            seconds, busy = time.monotonic() - begun, _processor_seconds(running.pid)
            time.sleep(2)
            resident, anonymous = _megabytes(running.pid, "VmRSS"), _megabytes(running.pid, "RssAnon")
        finally:
            running.terminate()
    return seconds, busy, resident, anonymous


def _lives(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024 / 1e6


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=5)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"}
        commands = {console: _command(Path(folder), console, port) for console in ("true", "false")}
        measure(commands["true"], environment, port)  # makes the database, and fills the kernel's cache of files
        runs = {console: [] for console in commands}
        for _ in range(options.runs):
            for console, command in commands.items():
                runs[console].append(measure(command, environment, port))
    for console, measured in runs.items():
        seconds, busy, resident, anonymous = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{'with' if console == 'true' else 'without'} the console:")
        print(f"  start-up {seconds:.2f} s ({busy:.2f} s of processor time)")
        print(f"  resident {resident:.1f} MB ({anonymous:.1f} MB anonymous)")


def _command(folder: Path, console: str, port: int) -> list[str]:
    path = folder / f"{console}.yml"
    path.write_text(CONFIG.format(port=port, server=free_port(), console=console), encoding="utf-8")
    return [sys.executable, "-m", "ollama_router_cli", "--config", str(path), "serve"]


if __name__ == "__main__":
    main()
