"""The core's `FleetState` for a transport: safe to use from several threads, asked for news by requests themselves."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.client.system import Clock
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState

__all__ = ["FleetBook"]

_AGAIN_SECONDS = 1.0
"""Seconds between two questions to a server that requests cause, however many there are."""
_LEASE_SECONDS = 60.0
"""Questions that have not ended by then have been lost, with their thread or event loop."""


class FleetBook:
    """Locks around a `FleetState`, and who asks which server next.

    A transport has no task that polls: the request that finds a server due has it asked in the background.

    Attributes:
        state: what is believed and in flight; every rule about it is there.
        next_turn: counts; what decides between equals.
        next_due: when some server is to be asked again, seconds; always over while one has never been asked.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.state = FleetState(config)
        self._unknown = set(self.state.servers)
        self._asking: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._due: dict[str, float] = dict.fromkeys(self.state.servers, float("-inf"))
        self.next_due = float("-inf")
        self.next_turn = itertools.count(1).__next__

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts by server; the mapping is replaced, never changed."""
        return self.state.servers

    @property
    def troubled(self) -> bool:
        """Whether any server failed lately."""
        return self.state.health.troubled

    def snapshot(self, now: float) -> FleetSnapshot:
        """The fleet as believed now, this transport's own requests in flight included."""
        with self._lock:
            return self.state.snapshot(now)

    # --- who asks -------------------------------------------------------------------------------------------------

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
                    self._due[name] = now + self.state.probe_pause(name)
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
            if self._due[name] > began + _AGAIN_SECONDS:  # else it became due again meanwhile
                self._due[name] = self._clock.monotonic() + self.state.probe_pause(name)
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
                soon = self._asked.get(name, float("-inf")) + _AGAIN_SECONDS
                self._due[name] = min(self._due[name], soon)
                self.next_due = self._first_due()

    def may_look_again(self, now: float) -> bool:
        """Whether a request that could not be placed may have every server asked for its models."""
        with self._lock:
            if not self.state.may_refresh(now):
                return False
            for name in self.state.servers:
                self.state.lists_are_due(name, now)
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

    # --- facts ----------------------------------------------------------------------------------------------------

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> ServerFacts | None:
        """Replace the facts about a server and return them; names of external hosts are ignored."""
        with self._lock:
            self.state.update(name, change, self._clock.monotonic())
            return self.state.servers.get(name)

    def probe_answered(self, name: str, status: int, body: bytes, *, probe_ms: float) -> bool:
        """A probe was answered; says whether the server is up."""
        with self._lock:
            return self.state.probe_answered(name, status, body, probe_ms=probe_ms, now=self._clock.monotonic())

    def probe_failed(self, name: str, error: str, *, refused: bool) -> None:
        """A probe was not answered."""
        with self._lock:
            self.state.probe_failed(name, error, now=self._clock.monotonic(), refused=refused)

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server only knows this model as one of Ollama's hosted service."""
        with self._lock:
            return self.state.is_stub(model)

    def learn(self, name: str, model: CanonicalName, sample: Sample) -> None:
        """A finished request says how fast a server is."""
        with self._lock:
            self.state.learn(name, model, sample)

    # --- traffic --------------------------------------------------------------------------------------------------

    def permit(self, name: str, now: float, *, forced: bool = False) -> BreakerPermit | None:
        """The right to send one request now; report its end by the methods below."""
        with self._lock:
            return self.state.permit(name, now, forced=forced)

    def answered(self, permit: BreakerPermit, status: int) -> None:
        """The head of the answer came."""
        with self._lock:
            permit.head(status, self._clock.monotonic())

    def done(self, permit: BreakerPermit) -> None:
        """The answer came to its end."""
        with self._lock:
            permit.done(self._clock.monotonic())

    def failed(self, permit: BreakerPermit, *, refused: bool = False) -> None:
        """The server is at fault."""
        with self._lock:
            permit.failed(self._clock.monotonic(), refused=refused)

    def left(self, permit: BreakerPermit) -> None:
        """The program did not wait for the answer, or went on to another server."""
        with self._lock:
            permit.left()

    def begin(self, name: str, model: CanonicalName | None) -> None:
        """A request is sent."""
        with self._lock:
            self.state.begin(name, model)

    def sent(self, name: str, model: CanonicalName, num_ctx: int | None) -> bool:
        """It needs a model in memory; says whether it begins the only load there."""
        with self._lock:
            return self.state.sent(name, model, num_ctx, self._clock.monotonic())

    def end(self, name: str, model: CanonicalName | None) -> None:
        """It ended."""
        with self._lock:
            self.state.end(name, model, self._clock.monotonic())

    def take_retry(self) -> bool:
        """Whether the retry budget has one more retry, for a request that is on no server now."""
        with self._lock:
            return self.state.take_retry(waiting=1)

    def give_retries_back(self, count: int) -> None:
        """So many retries are over."""
        with self._lock:
            for _ in range(count):
                self.state.health.retries.give_back()
