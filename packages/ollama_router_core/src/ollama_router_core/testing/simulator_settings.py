"""The options of a simulated server, which may be changed while it runs.

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
    """The operator's options.

    models: the models on disk; a text means `model(text)`. Later changes are made through `library`.
    version: the version in `/api/version`; `/api/tags` and `/api/ps` have only the members of this version.
    registry: more models for `/api/pull`.
    vram: 0 for a machine without a GPU.
    max_queue: requests that may wait for a load; one more is 503.
    keep_alive: how long an idle model stays in memory, in real time.
    default_context: num_ctx of requests without one; 0 chooses it by VRAM, as Ollama does.
    answer_tokens: the default response length in tokens.
    cloud_disabled: `:cloud` names are 403 instead of 401.
    allowed_hosts: whether the Host header is checked (a real server does so when it listens on loopback).
    keep_requests: maximum number of recorded requests; the oldest are dropped.
    time_scale: real seconds per virtual second of loading, prefill, decoding and downloading; the durations in
        responses are always virtual.
    sleep, wall: the event loop's sleep and the wall clock, replaceable in tests of time itself.
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
        """Return whether the simulated server is that version or newer; a part that is not a number counts as 0."""
        parts = (re.match(r"\d+", part) for part in self.version.split("."))
        return tuple(int(one[0]) if one else 0 for one in parts) >= version
