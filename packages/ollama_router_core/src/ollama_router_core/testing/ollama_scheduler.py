"""A small version of Ollama's scheduler of loaded models.

Contains one load at a time, slots per loaded model, eviction, reload on changed options, keep-alive and the full queue.
Memory is formula A of Ollama 0.30 and later: weights plus an f16 KV cache plus a batch surcharge; a second model must
fit into 80 % of the free memory.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ollama_router_core.testing.clock import SimulatedClock
from ollama_router_core.testing.load_options import LoadOptions
from ollama_router_core.testing.simulated_models import SimulatedModel
from ollama_router_core.testing.simulator_settings import GIB, Settings

__all__ = ["Lease", "LoadFailedError", "Runner", "Scheduler", "ServerBusyError"]

_MIB = 1 << 20
_USABLE_SHARE = 0.8


class ServerBusyError(Exception):
    """The queue for loads is full (HTTP 503)."""

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class LoadFailedError(Exception):
    """The model cannot be loaded (HTTP 500)."""


@dataclass(slots=True, kw_only=True, eq=False)
class Runner:
    """Loaded weights: memory in bytes, `keep_alive` in seconds (infinite: never expires).

    `model` is the model that loaded them; names with the same weights share the runner. `prompt` is the latest one.
    """

    model: SimulatedModel
    options: LoadOptions
    parallel: int
    size: int
    size_vram: int
    keep_alive: float
    expires_at: float
    prompt: tuple[str, ...] = ()
    references: int = 0
    slots: asyncio.Semaphore = field(init=False)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.parallel)
        self.idle.set()

    @property
    def num_ctx(self) -> int:
        """The context of each slot in tokens."""
        return self.options.num_ctx

    def serves(self, options: LoadOptions) -> bool:
        """Return whether a request with these options is served without a reload."""
        return self.model.is_mlx or self.options.serves(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One slot of a loaded model.

    Both times are virtual seconds: `load_seconds` is the model's load and earlier queued loads, 0 if it was loaded;
    `waited` is the wait for a free slot.
    """

    runner: Runner
    load_seconds: float
    waited: float


@dataclass(slots=True, kw_only=True, eq=False)
class Scheduler:
    """The loaded models of one server; `queued` requests wait for a load or are loading."""

    settings: Settings
    clock: SimulatedClock
    loads: int = 0
    aborted_loads: int = 0
    evictions: int = 0
    queued: int = 0
    loaded: dict[str, Runner] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _loading_seconds: float = 0.0

    @asynccontextmanager
    async def lease(
        self, model: SimulatedModel, options: LoadOptions, keep_alive: float | None
    ) -> AsyncIterator[Lease]:
        """Lease a slot of `model`, loading it with `options` if needed.

        Raises:
            ServerBusyError: a load is needed and the queue is full.
            LoadFailedError: the model cannot be loaded.
        """
        runner, load_seconds = await self._loaded_runner(model, options, keep_alive)
        try:
            requested_at, busy = self.clock.now(), runner.slots.locked()
            async with runner.slots:
                waited = self.clock.virtual(self.clock.now() - requested_at) if busy else 0.0
                yield Lease(runner=runner, load_seconds=load_seconds, waited=waited)
        finally:
            self._release(runner)

    def running(self) -> list[Runner]:
        """Return the loaded models, latest expiry first."""
        self.expire()
        return sorted(self.loaded.values(), key=lambda one: (-one.expires_at, one.model.name))

    def expire(self) -> None:
        """Unload models that have been idle for longer than their keep-alive."""
        now = self.clock.now()
        for runner in list(self.loaded.values()):
            if not runner.references and runner.expires_at <= now:
                self._unload(runner)

    def unload(self, model: SimulatedModel) -> None:
        """Unload a model now, or when its running requests have finished."""
        runner = self.loaded.get(_key(model))
        if runner is not None:
            runner.keep_alive = 0.0
            runner.expires_at = self.clock.now()
            self.expire()

    def close(self) -> None:
        """Unload every model and stop its timer."""
        for runner in list(self.loaded.values()):
            self._unload(runner)

    async def _loaded_runner(
        self, model: SimulatedModel, options: LoadOptions, keep_alive: float | None
    ) -> tuple[Runner, float]:
        self.expire()
        runner = self.loaded.get(_key(model))
        if runner is not None and runner.serves(options):
            return self._use(runner, keep_alive), 0.0
        if self.queued > self.settings.max_queue:
            raise ServerBusyError
        self.queued += 1
        before = self._loading_seconds
        try:
            async with self._turn:
                runner = await self._place(model, options, keep_alive)
                return runner, self._loading_seconds - before
        finally:
            self.queued -= 1

    async def _place(self, model: SimulatedModel, options: LoadOptions, keep_alive: float | None) -> Runner:
        runner = self.loaded.get(_key(model))
        if runner is not None and runner.serves(options):
            return self._use(runner, keep_alive)
        await self._make_room(model, options)
        return self._use(await self._load(model, options), keep_alive)

    async def _make_room(self, model: SimulatedModel, options: LoadOptions) -> None:
        while True:
            outdated = self.loaded.get(_key(model))
            if outdated is not None:
                await self._unload_when_idle(outdated)
            elif len(self.loaded) < self.settings.max_loaded_models and self._fits(model, options):
                return
            else:
                await self._unload_when_idle(self._victim())
                self.evictions += 1

    def _victim(self) -> Runner:
        """Return the model to evict: idle before busy, then by shortest keep-alive, then by name."""
        return min(self.loaded.values(), key=lambda one: (one.references > 0, one.keep_alive, one.model.name))

    async def _unload_when_idle(self, runner: Runner) -> None:
        while runner.references:
            await runner.idle.wait()
        self._unload(runner)

    async def _load(self, model: SimulatedModel, options: LoadOptions) -> Runner:
        self.loads += 1
        seconds = model.size / self.settings.load_speed
        try:
            await self.clock.pacer().spend(seconds)
        except asyncio.CancelledError:
            self.aborted_loads += 1
            raise
        self._loading_seconds += seconds
        if model.load_error is not None:
            raise LoadFailedError(model.load_error)
        parallel = self._parallel(model)
        size = self._size(model, options.num_ctx * parallel)
        runner = Runner(
            model=model,
            options=options,
            parallel=parallel,
            size=size,
            size_vram=0 if options.num_gpu == 0 else min(size, self._free()),
            keep_alive=self.settings.keep_alive,
            expires_at=self.clock.now() + self.settings.keep_alive,
        )
        self.loaded[_key(model)] = runner
        return runner

    def _use(self, runner: Runner, keep_alive: float | None) -> Runner:
        runner.references += 1
        runner.idle.clear()
        if runner.timer is not None:
            runner.timer.cancel()
        if keep_alive is not None:
            runner.keep_alive = keep_alive
        runner.expires_at = self.clock.now() + runner.keep_alive
        return runner

    def _release(self, runner: Runner) -> None:
        runner.references -= 1
        if runner.references:
            return
        runner.idle.set()
        runner.expires_at = self.clock.now() + runner.keep_alive
        if runner.keep_alive <= 0:
            self._unload(runner)
        else:
            self._arm(runner)

    def _arm(self, runner: Runner) -> None:
        left = runner.expires_at - self.clock.now()
        if not math.isinf(left):
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(min(max(left, 0.0), 86_400.0), self.expire)

    def _unload(self, runner: Runner) -> None:
        if runner.timer is not None:
            runner.timer.cancel()
        if self.loaded.get(_key(runner.model)) is runner:
            del self.loaded[_key(runner.model)]

    def _parallel(self, model: SimulatedModel) -> int:
        return 1 if model.single_slot else max(1, self.settings.num_parallel)

    def _free(self) -> int:
        return max(0, self.settings.vram - sum(one.size_vram for one in self.loaded.values()))

    def _fits(self, model: SimulatedModel, options: LoadOptions) -> bool:
        """Return whether `model` can be loaded beside the others; the first one always can."""
        if not self.loaded or not self.settings.vram:
            return True
        context = options.num_ctx * self._parallel(model)
        return _predicted(model, context) <= _USABLE_SHARE * self._free()

    def _size(self, model: SimulatedModel, context: int) -> int:
        """Return the predicted bytes plus the largest batch surcharge that fits."""
        predicted = _predicted(model, context)
        usable = _USABLE_SHARE * self._free()
        surcharge = next((one for one in _surcharges(context) if predicted + one <= usable), 0)
        return predicted + surcharge


def _key(model: SimulatedModel) -> str:
    return f"{model.name.lower()} {model.digest}" if model.is_mlx else model.weights


def _predicted(model: SimulatedModel, context: int) -> int:
    head = model.embedding_length // model.head_count
    return model.size + 2 * model.block_count * max(1, model.head_count_kv) * head * context * 2


def _surcharges(context: int) -> tuple[int, ...]:
    if context <= 4096:
        return (0,)
    return (768 * _MIB, 0) if context <= 32_768 else (2 * GIB, 768 * _MIB, 0)
