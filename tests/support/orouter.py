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
from itertools import count
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
        """Run `orouter serve` until the block ends; gives the URL it printed."""
        with self.start("serve", *arguments) as running:
            yield running.listening_url()

    @contextmanager
    def start(self, *arguments: str) -> Iterator[Running]:
        """Start a command that stays; it gets SIGTERM when the block ends, and must obey.

        Each writes to files of its own: what two of a home write to one would lie over each other.
        """
        names = (f"{arguments[0]}{number or ''}" for number in count())
        name = next(name for name in names if not (self.home / f"{name}.out").exists())
        output, errors = (self.home / f"{name}.{suffix}" for suffix in ("out", "err"))
        with (
            output.open("w") as stdout,
            errors.open("w") as stderr,
            subprocess.Popen(
                [*_COMMAND, *arguments],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            ) as process,
        ):
            try:
                yield Running(process=process, output=output, errors=errors)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command under way, with the files that its two streams go to."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def wait_for(self, text: str, *, seconds: float = 60.0) -> str:
        """Wait for a whole line of standard output with this text in it, and return the line."""

        def lines() -> list[str]:
            return [line for line in self.output.read_text().splitlines(keepends=True) if text in line]

        def printed() -> bool:
            if self.process.poll() is not None and not lines():
                raise RuntimeError(f"it ended with {self.process.returncode}: {self.errors.read_text()[-4000:]}")
            return any(line.endswith("\n") for line in lines())

        wait_until(printed, f"the command prints {text!r}", seconds=seconds)
        return lines()[0].strip()

    def listening_url(self) -> str:
        """The URL in the line that says that connections are accepted."""
        return self.wait_for(_LISTENING).partition(_LISTENING)[2].split()[0]
