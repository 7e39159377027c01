"""A standalone simulated Ollama server: `python -m ollama_router_core.testing --port 11434 --models llama3.1:8b`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

from ollama_router_core.testing.simulated_models import known_models
from ollama_router_core.testing.simulator import OllamaSimulator
from ollama_router_core.testing.simulator_settings import GIB


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; print one line when listening."""
    options = _parser().parse_args(arguments)
    simulator = OllamaSimulator(
        models=options.models,
        registry=known_models(),
        host=options.host,
        port=options.port,
        version=options.ollama_version,
        vram=int(options.vram_gib * GIB),
        num_parallel=options.num_parallel,
        max_loaded_models=options.max_loaded_models,
        max_queue=options.max_queue,
        answer_tokens=options.answer_tokens,
        time_scale=options.time_scale,
    )
    asyncio.run(_serve(simulator))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ollama_router_core.testing", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11434, help="0 takes a free one")
    parser.add_argument("--models", nargs="*", default=["llama3.1:8b"], metavar="NAME")
    parser.add_argument("--ollama-version", default="0.32.15")
    parser.add_argument("--vram-gib", type=float, default=24.0)
    parser.add_argument("--num-parallel", type=int, default=1)
    parser.add_argument("--max-loaded-models", type=int, default=3)
    parser.add_argument("--max-queue", type=int, default=512)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--time-scale", type=float, default=1.0, help="real seconds per simulated second")
    return parser


async def _serve(simulator: OllamaSimulator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with simulator:
        sys.stdout.write(f"listening on {simulator.url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
