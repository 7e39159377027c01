"""Commands of `orouter` as processes that begin with everything imported: forks of one that does nothing else.

What a command imports takes a third of a second, and what it then does a fiftieth. Tests of what it does use these;
those of how it starts, of signals and of terminals run it as a user does (`support.orouter`).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

from ollama_router_cli.main import COMMANDS, main

__all__ = ["Done", "run_warm"]


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int | None
    stdout: str
    stderr: str


def run_warm(*arguments: str, environment: Mapping[str, str], seconds: float = 60.0) -> Done:
    """Run one command to its end; its input is empty.

    Raises:
        TimeoutError: it did not end in time, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("out", "err")]
        process = _server().Process(target=_run, args=(arguments, dict(environment), *map(str, streams)))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"orouter {' '.join(arguments)} runs for more than {seconds:g} s")
        code = process.exitcode
        process.close()
        stdout, stderr = (path.read_text() for path in streams)
    return Done(code=code, stdout=stdout, stderr=stderr)


@cache
def _server() -> ForkServerContext:
    """One for each process of pytest; it ends with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "httpx", *(f"ollama_router_cli.commands.{name}" for name in COMMANDS)])
    return context


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], output: str, errors: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, output, errors]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - they live as long as the process
    sys.argv = ["orouter", *arguments]
    main()
