"""One Ollama server in virtual time.

Ollama's rules: a request for a loaded model with the same context waits for a slot, in order; any other needs a load,
and loads wait in one FIFO queue with head-of-line blocking. Memory is freed by unloading idle models; if all are busy,
the load waits for the first idle one with `lru`, for the chosen victim with `ollama`, which serves further requests
until then. A busy model with a requested unload is unloaded when idle.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ollama_router_core.simulation.residency import Event, Residency, Timing
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["ServerState"]


@dataclass(slots=True, eq=False)
class ServerState:
    """The state of a machine. Times are seconds of virtual time and never decrease."""

    machine: Machine
    model_of: Callable[[str], SimulatedModel]
    now: float = 0.0
    loaded: dict[str, Residency] = field(default_factory=dict)
    pending: deque[Timing] = field(default_factory=deque)
    loading: Timing | None = None
    load_ends: float = math.inf
    victim: Residency | None = None
    loads: int = 0
    evictions: int = 0
    busy_seconds: float = 0.0
    loads_of: Counter[str] = field(default_factory=Counter)
    busy_seconds_of: dict[str, float] = field(default_factory=dict)
    in_flight: int = 0
    slowness: float = 1.0
    _events: list[Event] = field(default_factory=list)

    def submit(self, job: Job, now: float) -> list[Event]:
        """Accept a request; return its immediate events."""
        model = self.model_of(job.model)
        machine = self.machine
        context = machine.context(model, job.num_ctx).tokens
        timing = Timing(
            job,
            machine.prefill_seconds(model, job.prompt_tokens, context),
            machine.decode_seconds(model, job.output_tokens, context),
            now,
        )
        self.in_flight += 1
        self._pass(now)
        held = self.runner_for(job)
        if held is not None:
            self._queue(held, timing)
            self._start(held)
        else:
            self.pending.append(timing)
            self._place()
        return self._take_events()

    def runner_for(self, job: Job) -> Residency | None:
        """Return the loaded model that serves a job; None if it must be loaded or reloaded.

        Two contexts chosen by Ollama always match; others must be equal.
        """
        held = self.loaded.get(job.model)
        if held is None:
            return None
        wanted = self.machine.context(held.model, job.num_ctx)
        both = wanted.automatic and held.context.automatic
        return held if both or wanted.tokens == held.context.tokens else None

    def unload(self, model: str, now: float) -> list[Event]:
        """Unload a model at the router's request; a busy model is unloaded when idle."""
        self._pass(now)
        held = self.loaded.get(model)
        if held is not None:
            held.leaving = True
            self._let_go(held)
        return self._take_events()

    def next_event(self) -> float:
        """Return the time of the next event; infinite without one."""
        pace = self._pace()
        soonest = min((_left(timing) for held in self.loaded.values() for timing in held.running), default=math.inf)
        expiry = min((held.used_at + held.keep_alive for held in self.loaded.values() if held.idle), default=math.inf)
        return min(self.now + soonest * pace, self.load_ends, expiry)

    def advance(self, now: float) -> list[Event]:
        """Advance virtual time to `now`, at most `next_event()`."""
        self._pass(now)
        for held in list(self.loaded.values()):
            self._finish_phases(held)
        if now >= self.load_ends:
            self._finish_load()
        for held in list(self.loaded.values()):
            self._let_go(held)
            if held.idle and now >= held.used_at + held.keep_alive:
                self._unload(held)
        self._place()
        return self._take_events()

    def cancel(self, job: Job, now: float) -> list[Event]:
        """Cancel a request and its work."""
        self._pass(now)
        for held in self.loaded.values():
            held.running = [one for one in held.running if one.job is not job]
            held.waiting = deque(one for one in held.waiting if one.job is not job)
        self.pending = deque(one for one in self.pending if one.job is not job)
        if self.loading is not None and self.loading.job is job:
            self.loading, self.load_ends = None, math.inf
        self.in_flight -= 1
        return [*self._take_events(), *self.advance(now)]

    def fail(self) -> list[Job]:
        """Take the machine down: unload all models, and return its jobs."""
        timings = [timing for held in self.loaded.values() for timing in (*held.running, *held.waiting)]
        timings += [*self.pending, *([self.loading] if self.loading is not None else [])]
        self.loaded.clear()
        self.pending.clear()
        self.loading, self.load_ends, self.in_flight, self.victim = None, math.inf, 0, None
        return [timing.job for timing in timings]

    def _running(self) -> int:
        return sum(len(held.running) for held in self.loaded.values())

    def _at_work(self) -> set[str]:
        """Return the models that are running or loading."""
        names: set[str] = {held.model.name for held in self.loaded.values() if held.running}
        return names if self.loading is None else names | {self.loading.job.model}

    def _pace(self) -> float:
        return float(max(1, self._running()) ** self.machine.sharing) * self.slowness

    def _pass(self, now: float) -> None:
        elapsed = now - self.now
        self.now = now
        running = self._running()
        if elapsed <= 0 or (not running and self.loading is None):
            return
        self.busy_seconds += elapsed
        for name in self._at_work():
            self.busy_seconds_of[name] = self.busy_seconds_of.get(name, 0.0) + elapsed
        done = elapsed / self._pace()
        for held in self.loaded.values():
            for timing in held.running:
                if timing.prefill > 0:
                    timing.prefill -= done
                else:
                    timing.decode -= done

    def _finish_phases(self, held: Residency) -> None:
        for timing in list(held.running):
            if timing.first_token == math.inf and timing.prefill <= _TINY:
                timing.prefill, timing.first_token = 0.0, self.now
                self._events.append(Event("first_token", self.now, timing))
            if timing.first_token < math.inf and timing.decode <= _TINY:
                timing.finished = self.now
                held.running.remove(timing)
                held.used_at = self.now
                self.in_flight -= 1
                self._events.append(Event("finished", self.now, timing))
        self._start(held)

    @staticmethod
    def _queue(held: Residency, timing: Timing) -> None:
        """Queue a request for a slot, without a limit, and apply its `keep_alive`, if any."""
        wanted = timing.job.keep_alive
        if wanted is not None:
            held.keep_alive = wanted if wanted >= 0 else math.inf
            held.leaving = False
        held.waiting.append(timing)

    def _start(self, held: Residency) -> None:
        slots = self.machine.slots(held.model)
        while held.waiting and len(held.running) < slots:
            timing = held.waiting.popleft()
            timing.started = self.now
            self._reuse(held, timing)
            held.running.append(timing)
            held.used_at = self.now

    def _reuse(self, held: Residency, timing: Timing) -> None:
        """Reduce the prefill by the prompt's cached part."""
        job = timing.job
        if not job.conversation:
            return
        timing.cached = min(held.held.pop(job.conversation, 0), job.prompt_tokens - 1)
        timing.prefill *= 1.0 - timing.cached / job.prompt_tokens
        held.held[job.conversation] = job.prompt_tokens + job.output_tokens
        while len(held.held) > self.machine.slots(held.model):
            del held.held[next(iter(held.held))]

    def _place(self) -> None:
        """Process the queue of loads from its head, while memory allows, one load at a time."""
        while self.pending and self.loading is None:
            job = self.pending[0].job
            held = self.runner_for(job)
            if held is not None:
                self.pending[0].load_wait = self.now - self.pending[0].sent
                self._queue(held, self.pending.popleft())
                self._start(held)
                continue
            if not self._make_room(job, self.loaded.get(job.model)):
                return
            self.loading = self.pending.popleft()
            seconds = self.machine.load_seconds(self.model_of(job.model)) * self.slowness
            self.loading.load = seconds
            self.load_ends = self.now + seconds

    def _make_room(self, job: Job, outdated: Residency | None) -> bool:
        if outdated is not None:
            if not outdated.idle:
                return False
            self._unload(outdated)
        model = self.model_of(job.model)
        need = self.machine.need(model, self.machine.context(model, job.num_ctx).tokens)
        while not self._has_room(need):
            victim = self._choose_victim()
            if victim is None:
                return False
            self._unload(victim)
            self.evictions += 1
        return True

    def _has_room(self, need: float) -> bool:
        if not self.loaded or self.machine.resident:
            return True
        if self.machine.max_loaded is not None and len(self.loaded) >= self.machine.max_loaded:
            return False
        free = self.machine.vram_gib - sum(held.size for held in self.loaded.values())
        return need <= free * self.machine.fit_share + _TINY

    def _choose_victim(self) -> Residency | None:
        """Return the model to unload now; None while the victim is busy."""
        if self.victim is not None and self.victim.model.name in self.loaded:
            return self.victim if self.victim.idle else None
        idle = [held for held in self.loaded.values() if held.idle]
        if idle:
            return min(idle, key=self._victim_order)
        if self.machine.eviction == "ollama":
            self.victim = min(self.loaded.values(), key=self._victim_order)
        return None

    def _let_go(self, held: Residency) -> None:
        if held.leaving and held.idle and held.model.name in self.loaded:
            self._unload(held)
            self.evictions += 1

    def _victim_order(self, held: Residency) -> tuple[float, str]:
        return (held.used_at if self.machine.eviction == "lru" else held.keep_alive, held.model.name)

    def _finish_load(self) -> None:
        timing = self.loading
        if timing is None:
            return
        self.loading, self.load_ends = None, math.inf
        self.loads += 1
        model = self.model_of(timing.job.model)
        self.loads_of[model.name] += 1
        if model.name in self.machine.broken:
            self.in_flight -= 1
            self._events.append(Event("failed", self.now, timing))
            return
        context = self.machine.context(model, timing.job.num_ctx)
        size = min(self.machine.need(model, context.tokens), self.machine.vram_gib)
        held = Residency(model, context, size, self.now, self.machine.keep_alive)
        self.loaded[model.name] = held
        self._events.append(Event("loaded", self.now, timing))
        timing.load_wait = self.now - timing.sent
        self._queue(held, timing)
        if self.machine.joins:
            self._join(held)
        self._start(held)

    def _join(self, held: Residency) -> None:
        for timing in [one for one in self.pending if self.runner_for(one.job) is held]:
            self.pending.remove(timing)
            timing.load_wait = self.now - timing.sent
            self._queue(held, timing)

    def _unload(self, held: Residency) -> None:
        del self.loaded[held.model.name]
        if self.victim is held:
            self.victim = None
        self._events.append(Event("unloaded", self.now))

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events


_TINY = 1e-9


def _left(timing: Timing) -> float:
    """Return the seconds of work, without contention, until the next phase of a job ends."""
    return timing.prefill if timing.first_token == math.inf else timing.decode
