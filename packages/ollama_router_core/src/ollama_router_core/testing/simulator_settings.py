"""The options of a simulated server; every one may be changed while it runs.

Sizes are bytes, times seconds, speeds bytes per virtual second.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ollama_router_core.testing.simulated_models import SimulatedModel

__all__ = ["GIB", "Settings"]

GIB = 1 << 30


@dataclass(kw_only=True, eq=False, repr=False)
class Settings:
    """What an operator chooses.

    models: what is on the disk; a text stands for `model(text)`. Later changes go through `library`.
    version: what `/api/version` says; older ones leave out of `/api/tags` and `/api/ps` what came later.
    registry: what `/api/pull` can find besides.
    vram: 0 for a machine without a GPU.
    max_queue: requests that may wait for a load; one more is 503.
    keep_alive: how long an idle model stays, in real time.
    default_context: num_ctx of requests that name none; 0 lets the VRAM decide, as Ollama does.
    answer_tokens: how much a model says by itself.
    cloud_disabled: `:cloud` names are 403 instead of 401.
    allowed_hosts: whether the Host header is checked (a real server does so when it listens on loopback).
    keep_requests: how many recorded requests are kept; the oldest are forgotten.
    time_scale: real seconds per virtual second of loading, prefill, decoding and downloading; the durations in
        answers are always virtual.
    sleep, wall: the event loop's sleep and the wall clock, to be replaced in tests of time itself.
    """

    models: Sequence[SimulatedModel | str] = ("llama3.1:8b",)
    registry: Sequence[SimulatedModel | str] = ()
    host: str = "127.0.0.1"
    port: int = 0
    version: str = "0.32.15"
    vram: int = 24 * GIB
    num_parallel: int = 1
    max_loaded_models: int = 3
    max_queue: int = 512
    keep_alive: float = 300.0
    default_context: int = 0
    load_speed: float = 2e9
    download_speed: float = 1e8
    answer_tokens: int = 16
    cloud_disabled: bool = False
    allowed_hosts: bool = True
    keep_requests: int = 100_000
    time_scale: float = 0.001
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep)
    wall: Callable[[], float] = field(default=time.time)

    def at_least(self, *version: int) -> bool:
        """Whether the simulated server is that version or newer; what is no number counts as 0."""
        parts = (re.match(r"\d+", part) for part in self.version.split("."))
        return tuple(int(one[0]) if one else 0 for one in parts) >= version
