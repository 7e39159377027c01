"""One way to ask through a library of others, whatever it is called and written in.

A message is `{"role": "user", "text", "image"}` with a PNG in base64, `{"role": "assistant", "text", "call"}` or
`{"role": "tool", "text", "call"}`; a call is `{"id", "name", "arguments"}` with the arguments as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["LIBRARIES", "Libraries", "run_libraries"]

_JAVASCRIPT = (
    "openai-node chat",
    "openai-node responses",
    "anthropic-sdk",
    "ollama-js",
    "ai-sdk openai",
    "ai-sdk openai-compatible",
    "ai-sdk anthropic",
    "langchain-js openai",
    "langchain-js anthropic",
    "langchain-js ollama",
)
_PYTHON = ("langchain-py openai", "langchain-py anthropic", "langchain-py ollama")
LIBRARIES = (*_JAVASCRIPT, *_PYTHON)
_HERE = Path(__file__).parent


class Libraries:
    """Two processes, one with the libraries of each language."""

    def __init__(self, processes: Mapping[str, subprocess.Popen[str]]) -> None:
        self._processes = processes

    def ask(self, client: str, **asked: Any) -> Mapping[str, Any]:
        """Ask once: `{"text", "call", "pieces"}`, or `{"error": {"name", "status", "message"}, "pieces"}`.

        `url`, `token`, `model`, `messages` and `stream` are needed; `leaveAfter` says after how many pieces the stream
        is left, `tools` offers the weather.
        """
        process = self._processes[client]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"client": client, **asked}) + "\n")
        process.stdin.flush()
        for line in process.stdout:  # some libraries print notes of their own
            if line.startswith("answer: "):
                return dict(json.loads(line.removeprefix("answer: ")))
        raise RuntimeError(f"the process with {client} ended with {process.wait()}")


@contextmanager
def run_libraries(installed: Path, outside: Mapping[str, str]) -> Iterator[Libraries]:
    """Start both processes; the JavaScript is copied to where its packages are."""
    for script in (_HERE / "js").glob("*.mjs"):
        shutil.copy(script, installed / "js")
    with (
        _started(["node", "calls.mjs"], installed / "js", outside) as node,
        _started([sys.executable, "langchain_py.py"], _HERE, outside) as python,
    ):
        yield Libraries({**dict.fromkeys(_JAVASCRIPT, node), **dict.fromkeys(_PYTHON, python)})


@contextmanager
def _started(command: Sequence[str], folder: Path, outside: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(folder), "LANGSMITH_TRACING": "false", **outside}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
