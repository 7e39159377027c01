"""How many requests a loaded model serves at once. Source: Ollama's server/sched.go, load."""

from __future__ import annotations

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import InstalledModel, ModelFacts

__all__ = ["parallel_slots", "slots_for"]

_ONE_AT_A_TIME = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe"}
    | {"nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
"""Families that Ollama runs with one slot, whatever OLLAMA_NUM_PARALLEL says."""


def parallel_slots(facts: ModelFacts | None, host: Server | None) -> int:
    """Return the slots of a runner: the server's number, one for what embeds or is of a family that allows one."""
    if facts is not None and (
        facts.architecture in _ONE_AT_A_TIME
        or (facts.capabilities is not None and "completion" not in facts.capabilities)
    ):
        return 1
    return 1 if host is None else host.num_parallel


def slots_for(installed: InstalledModel | None, host: Server) -> int:
    """Return the slots of a model's runner on a server; the MLX runner has one."""
    if installed is not None and (installed.format == "safetensors" or installed.family in _ONE_AT_A_TIME):
        return 1
    return parallel_slots(None if installed is None else installed.facts, host)
