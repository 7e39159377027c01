"""What one transport believes about its fleet: facts, load, breakers. Safe to use from several threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.client.system import Clock
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.breaker import Breaker, RetryBudget
from ollama_router_core.fleet.observations import observe_down, observe_loads_ended
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot, ServerFacts, is_stub
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight

__all__ = ["FleetBook"]

_FAILURES_UNTIL_DOWN = 3
_RECHECK_SECONDS = 1.0
_RECHECK_DOWN_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 5.0
_USUAL_SLOTS = 4
"""Requests at once to which a server without `max_concurrent` rises in its slow start."""
_LEASE_SECONDS = 60.0
"""Questions that have not ended by then have been lost, with their thread or event loop."""


class FleetBook:
    """Facts about every enabled server, as of when, and what is under way there.

    Attributes:
        servers: facts by server; the mapping is swapped, never changed.
        troubled: whether some server failed, so that the breaker has to be asked.
        next_turn: counts; what decides between equals.
        next_due: when some server is to be asked again, seconds; always over while one has never been asked.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self.servers: Mapping[str, ServerFacts] = MappingProxyType(
            {name: ServerFacts(name=name) for name, server in config.servers.items() if server.enabled}
        )
        self._unknown = set(self.servers)
        self._asking: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._due: dict[str, float] = dict.fromkeys(self.servers, float("-inf"))
        self.next_due = float("-inf")
        self._failures: dict[str, int] = {}
        self._in_flight: dict[str, int] = {}
        self._active: dict[tuple[str, CanonicalName | None], int] = {}
        self._breaker = Breaker()
        self.troubled = False
        self._budget = RetryBudget()
        self._speeds = SpeedBook()
        self.next_turn = itertools.count(1).__next__
        self._draining = frozenset(name for name, server in config.servers.items() if server.drain)
        self._most = {name: server.max_concurrent or _USUAL_SLOTS for name, server in config.servers.items()}
        self._looked_again = float("-inf")

    def snapshot(self, now: float) -> FleetSnapshot:
        """The fleet as believed now, this transport's own requests in flight included."""
        with self._lock:
            troubled = self.troubled
            return FleetSnapshot(
                servers=self.servers,
                in_flight=self._in_flight.copy(),
                active=self._by_model() if self._active else EMPTY,
                suspended=self._breaker.suspended(tuple(self.servers), now) if troubled else EMPTY,
                slots=self._breaker.slots(self._most, now) if troubled else EMPTY,
                draining=self._draining,
                speeds=self._speeds,
            )

    def _by_model(self) -> Mapping[str, Mapping[CanonicalName, int]]:
        found: dict[str, dict[CanonicalName, int]] = {}
        for (name, model), count in self._active.items():
            if model is not None:
                found.setdefault(name, {})[model] = count
        return found

    # --- facts ---

    def has_unknown(self) -> bool:
        """Whether some server has never answered or failed a probe."""
        return bool(self._unknown)

    def wants_asking(self, now: float) -> bool:
        """Whether some server has never been asked, or is due."""
        return now >= self.next_due

    def claim(self, now: float, *, unknown_only: bool = False, everything: bool = False) -> list[str]:
        """Servers whose facts are due and that nobody is asking; whoever gets a name asks and calls `unclaim`."""
        if now < self.next_due and not everything:
            return []
        with self._lock:
            names = []
            for name, due in self._due.items():
                wanted = name in self._unknown if unknown_only else everything or now >= due
                if wanted and now - self._asking.get(name, float("-inf")) >= _LEASE_SECONDS:
                    self._asking[name] = self._asked[name] = now
                    self._due[name] = now + self._pause(name)
                    names.append(name)
            self.next_due = self._first_due()
            return names

    def _first_due(self) -> float:
        """When somebody has to be asked again; who is being asked has to be only once that has been lost."""
        if self._unknown:
            return float("-inf")
        lost = {name: began + _LEASE_SECONDS for name, began in self._asking.items()}
        return min([max(due, lost.get(name, due)) for name, due in self._due.items()], default=float("inf"))

    def unclaim(self, name: str) -> None:
        """Asking a server ended, well or not."""
        with self._lock:
            self._asking.pop(name, None)
            self._unknown.discard(name)
            began = self._asked.get(name, float("-inf"))
            if self._due[name] > began + _RECHECK_SECONDS:  # else it became due again meanwhile
                self._due[name] = self._clock.monotonic() + self._pause(name)
            self.next_due = self._first_due()

    def known(self, name: str) -> None:
        """What a first decision needs is there, although questions go on."""
        with self._lock:
            self._unknown.discard(name)
            self.next_due = self._first_due()

    def due_now(self, name: str) -> None:
        """Have a server asked again with the next request, but no more than once a second."""
        with self._lock:
            if name in self._due:
                soon = self._asked.get(name, float("-inf")) + _RECHECK_SECONDS
                self._due[name] = min(self._due[name], soon)
                self.next_due = self._first_due()

    def may_look_again(self, now: float) -> bool:
        """Whether a request that could not be placed may have every server asked: once in five seconds."""
        with self._lock:
            if now - self._looked_again < _LOOK_AGAIN_SECONDS:
                return False
            self._looked_again = now
            self.servers = MappingProxyType(
                {name: replace(facts, installed_at=None) for name, facts in self.servers.items()}
            )
            return True

    def lists_changed(self, names: Iterable[str]) -> None:
        """Models were made or deleted there: the next request waits for the new lists, as the first of all did."""
        for name in names:
            if self.update(name, lambda facts: replace(facts, installed_at=None)) is not None:
                with self._lock:
                    self._unknown.add(name)
                    self.next_due = self._first_due()

    def is_asking(self) -> bool:
        """Whether any server is being asked."""
        return bool(self._asking)

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> ServerFacts | None:
        """Swap in new facts about a server and return them; names of external hosts are ignored."""
        with self._lock:
            facts = self.servers.get(name)
            if facts is None:
                return None
            changed = change(facts)
            if changed is not facts:
                self.servers = MappingProxyType({**self.servers, name: changed})
            return changed

    def probe_failed(self, name: str, error: str, *, refused: bool) -> None:
        """A probe failed; a server that was up is believed down at once if it refuses, else after three failures."""
        with self._lock:
            count = self._failures[name] = self._failures.get(name, 0) + 1
        facts = self.servers[name]
        if facts.up is False or (facts.up and count < _FAILURES_UNTIL_DOWN and not refused):
            return
        self.update(name, lambda known: observe_down(known, error, now=self._clock.monotonic()))

    def probe_succeeded(self, name: str) -> None:
        """A probe went well."""
        with self._lock:
            self._failures.pop(name, None)

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server only knows this model as one of Ollama's hosted service."""
        return is_stub(model, self.servers)

    def _pause(self, name: str) -> float:
        interval = self._config.health_check_interval
        if 0 < self._failures.get(name, 0) < _FAILURES_UNTIL_DOWN:
            return min(interval, _RECHECK_SECONDS)
        return interval if self.servers[name].up else min(interval, _RECHECK_DOWN_SECONDS)

    # --- traffic ---

    def admit(self, name: str, now: float) -> bool:
        """Ask right before sending: False means that the breaker keeps the server out."""
        if not self.troubled:
            return True
        with self._lock:
            return self._breaker.admit(name, now)

    def begin(self, name: str, model: CanonicalName | None) -> None:
        """A request is sent."""
        pair = name, model
        with self._lock:
            self._in_flight[name] = self._in_flight.get(name, 0) + 1
            self._active[pair] = self._active.get(pair, 0) + 1

    def end(self, name: str, model: CanonicalName | None) -> None:
        """It ended. With none left, nothing is being loaded there for us any more."""
        pair = name, model
        with self._lock:
            left = self._in_flight[name] = self._in_flight[name] - 1
            others = self._active.pop(pair) - 1
            if others:
                self._active[pair] = others
        if not left:
            facts = self.servers.get(name)
            if facts is not None and facts.loading:
                self.update(name, observe_loads_ended)

    def failed(self, name: str, *, refused: bool = False) -> None:
        """An exchange failed by the server's fault."""
        with self._lock:
            self.troubled = True
            self._breaker.failed(name, self._clock.monotonic(), jitter=self._clock.jitter(), refused=refused)

    def succeeded(self, name: str) -> None:
        """An exchange went well."""
        if self.troubled:
            with self._lock:
                self._breaker.succeeded(name, self._clock.monotonic())

    def abandoned(self, name: str) -> None:
        """The program did not wait for the answer."""
        if self.troubled:
            with self._lock:
                self._breaker.abandoned(name)

    def take_retry(self) -> bool:
        """Whether the retry budget bears one more try."""
        with self._lock:
            return self._budget.take(sum(self._in_flight.values()) + 1)

    def give_retries_back(self, count: int) -> None:
        """So many retries are over."""
        with self._lock:
            for _ in range(count):
                self._budget.give_back()

    def learn(self, name: str, model: CanonicalName, sample: Sample) -> None:
        """A finished request says how fast a server is."""
        facts = self.servers.get(name)
        if facts is None:
            return
        weight = model_weight(model, (facts.installed or EMPTY).get(model))
        with self._lock:
            self._speeds = self._speeds.observe(name, model, weight, sample)
