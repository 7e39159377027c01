"""A job on a server in virtual time, a model loaded there, and what happens to both."""

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
    """A job on a server: what is left of it, and when what happened.

    `load_wait` are the seconds until its model was loaded, with those until the load began: what Ollama calls the load.
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
    """What happened at the last `advance`: a first token, a finish, a load that finished or failed, an unload."""

    kind: Literal["first_token", "finished", "loaded", "failed", "unloaded"]
    at: float
    timing: Timing | None = None
    model: str = ""


@dataclass(slots=True, eq=False)
class Residency:
    """A loaded model: its size in GiB, context, who runs and who waits for a slot; `leaving` goes when it is idle.

    `keep_alive` are the seconds that the last request which named any asked for, else the server's. `held` are the
    conversations whose prompts its slots hold, each with its tokens, the latest last.
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
        """Nobody runs or waits."""
        return not self.running and not self.waiting
