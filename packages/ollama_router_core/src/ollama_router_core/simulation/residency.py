"""Jobs and loaded models on a simulated server, and their events."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from ollama_router_core.simulation.server_hardware import Context
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["Event", "Residency", "Timing"]


@dataclass(slots=True, eq=False)
class Timing:
    """A job on a server: its remaining work, and its times.

    `load_wait` are the seconds until its model was loaded, including the wait for the load: Ollama's load duration.
    """

    job: Job
    prefill: float
    decode: float
    sent: float
    started: float = math.inf
    first_token: float = math.inf
    finished: float = math.inf
    load: float = 0.0
    load_wait: float = 0.0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a server: a first token, a finish, a load that finished or failed, an unload."""

    kind: Literal["first_token", "finished", "loaded", "failed", "unloaded"]
    at: float
    timing: Timing | None = None


@dataclass(slots=True, eq=False)
class Residency:
    """A loaded model: its size in GiB, context, running and waiting jobs; a `leaving` one is unloaded when idle.

    `keep_alive` are the seconds of the last request that set it, else the server's. `held` are the tokens of the
    conversations cached in its slots, most recent last.
    """

    model: SimulatedModel
    context: Context
    size: float
    used_at: float
    keep_alive: float
    running: list[Timing] = field(default_factory=list)
    waiting: deque[Timing] = field(default_factory=deque)
    leaving: bool = False
    held: dict[str, int] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether no job runs or waits."""
        return not self.running and not self.waiting
