"""The `orouter` command as a user runs it: a process with an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.waiting import wait_until

_LISTENING = "listening on "
_COMMAND = (sys.executable, "-m", "ollama_router_cli")
_OURS = ("OROUTER_", "OLLAMA_", "XDG_")


@dataclass(frozen=True, kw_only=True)
class Orouter:
    """Runs commands in `home`: config `orouter.yml` and the database live there, nothing of the user's is touched."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> Path:
        """The config file that every command finds because it is started beside it."""
        return self.home / "orouter.yml"

    def environment(self) -> dict[str, str]:
        """The machine's environment without anything that configures us or Ollama, plus `variables`."""
        # Without PYTHONDONTWRITEBYTECODE each command starts in a fraction of the time.
        dropped = (*_OURS, "PYTHONDONTWRITEBYTECODE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return {
            **kept,
            "HOME": str(self.home),
            "OROUTER_DATABASE_URL": f"sqlite:///{self.home}/router.sqlite3",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.variables,
        }

    def run(self, *arguments: str, stdin: str = "", seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*_COMMAND, *arguments],
            cwd=self.home,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run one command with `--json`; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def serve(self, *arguments: str) -> Iterator[str]:
        """Run `orouter serve` until the block ends; gives the URL it printed, and checks that it stops when asked."""
        with self.start("serve", *arguments) as (process, output):
            yield listening_url(process, output)

    @contextmanager
    def start(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """Start a command that stays; its output of both kinds goes to the file."""
        output = self.home / f"{arguments[0]}.out"
        with (
            output.open("w") as stream,
            subprocess.Popen(
                [*_COMMAND, *arguments],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            try:
                yield process, output
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def listening_url(process: subprocess.Popen[str], output: Path) -> str:
    """The URL in the line that says that connections are accepted."""

    def lines() -> list[str]:
        return [line for line in output.read_text(errors="replace").splitlines() if _LISTENING in line]

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {output.read_text(errors='replace')[-4000:]}")
        return bool(lines())

    wait_until(ready, "the router prints that it listens", seconds=40)
    return lines()[0].partition(_LISTENING)[2].split()[0]
