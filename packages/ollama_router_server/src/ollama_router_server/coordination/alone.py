"""Coordination for a process that shares no state."""

from __future__ import annotations

from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.interface import Coordination
from ollama_router_server.system import random_bytes

__all__ = ["alone"]


def alone() -> Coordination:
    """Return the only member of a new group with a unique name."""
    return InProcess(random_bytes(12).hex(), random_bytes(32)).member()
