"""A simulated Ollama server and a router over it, both as clients see them; also as a program.

`python tests/support/stage.py COMMAND ...` runs a command with `{direct}`, `{through}`, `{token}` and `{admin}`
replaced in its arguments, and exits as the command does.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest's `pythonpath` does

from ollama_router_core.testing import SimulatedModel, SimulatorThread, model
from support.orouter import Orouter

__all__ = ["EARS", "MODELS", "Stage", "run_stage"]

EARS = model("listener:8b", capabilities=("completion", "audio"))
MODELS: tuple[str | SimulatedModel, ...] = (
    "llama3.2:1b",
    "qwen3:8b",
    "gemma3:12b",
    "nomic-embed-text",
    EARS,
    "mistral:7b",
)
"""They talk, call tools, think, see, embed and hear; together they are a list so long that Go sends it in chunks."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A running router (`url`) with simulators behind it, and the tokens of a user and an admin."""

    url: str
    simulators: Mapping[str, SimulatorThread]
    orouter: Orouter
    token: str = field(repr=False)
    admin_token: str = field(repr=False)


@contextmanager
def run_stage(
    home: Path, servers: Mapping[str, Sequence[str | SimulatedModel]], *, settings: str = "", **options: object
) -> Iterator[Stage]:
    """A router process over one simulator for each of `servers`; `settings` are more lines of its config."""
    with ExitStack() as stack:
        threads = {
            name: stack.enter_context(SimulatorThread(models=models, **options)) for name, models in servers.items()
        }
        orouter = Orouter(home=home)
        orouter.config.write_text(_config(threads) + settings)
        admin = orouter.json("users", "create", "root", "--role", "admin")
        user = orouter.json("users", "create", "alice")
        url = stack.enter_context(orouter.serve("--port", str(_free_port())))
        yield Stage(url=url, simulators=threads, orouter=orouter, token=user["token"], admin_token=admin["token"])


def _config(threads: Mapping[str, SimulatorThread]) -> str:
    lines = ["servers:"]
    for name, thread in threads.items():
        lines += [f"  {name}:", "    host: 127.0.0.1", f"    port: {thread.port}"]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main(command: Sequence[str]) -> int:
    """Run a command on a stage of one server."""
    pace: dict[str, float] = {"time_scale": 1.0, "load_speed": 1e13, "answer_tokens": 8}  # tokens come one by one
    with tempfile.TemporaryDirectory() as folder, run_stage(Path(folder), {"one": MODELS}, **pace) as stage:
        words = {
            "{direct}": stage.simulators["one"].url,
            "{through}": stage.url,
            "{token}": stage.token,
            "{admin}": stage.admin_token,
        }
        return subprocess.run([words.get(word, word) for word in command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
