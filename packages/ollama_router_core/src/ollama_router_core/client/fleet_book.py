"""The `FleetState` of a transport; servers are queried when a request finds them due."""

from __future__ import annotations

from collections.abc import Callable

from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.environment import Clock
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.notices import Notice, ServerLost
from ollama_router_core.fleet.state import FleetState

__all__ = ["FleetBook"]

_AGAIN_SECONDS = 1.0
"""Minimum seconds between two queries of a server triggered by requests."""
_LOOK_AGAIN_SECONDS = 5.0
"""Minimum seconds between two searches for models that no server is known to have."""
_LEASE_SECONDS = 60.0
"""Seconds after which an unfinished query counts as lost with its thread or event loop."""


class FleetBook(ClockedFleet):
    """A transport's state of its servers, and the schedule of queries. Not thread-safe.

    A transport has no polling task: a request that finds a server due triggers a query in the background.

    Attributes:
        looking: whether a search for a missing model is running.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(FleetState(config, notify=self._notice), clock.monotonic)
        self._lost: Callable[[str], None] = lambda _: None
        self._unknown = set(self.state.servers)
        self._querying: dict[str, float] = {}
        self._queried_at: dict[str, float] = {}
        self._due = dict.fromkeys(self.state.servers, float("-inf"))
        self.looking = False
        self._looked_at = float("-inf")

    def on_lost(self, give_up: Callable[[str], None]) -> None:
        """Call `give_up` with each server lost after three failed probes, so that its requests are cancelled."""
        self._lost = give_up

    def _notice(self, notice: Notice) -> None:
        if isinstance(notice, ServerLost):
            self._lost(notice.server)

    # --- who asks -----------------------------------------------------------------------------------------------------

    def has_unknown(self) -> bool:
        """Return whether any server was never probed, or must be queried before the next request."""
        return bool(self._unknown)

    def is_querying(self) -> bool:
        """Return whether any server is being queried."""
        return bool(self._querying)

    def claim(self, *, unknown_only: bool = False) -> list[str]:
        """List servers that are due and not being queried; the caller queries each and calls `unclaim`."""
        now, names = self.now(), []
        for name, due in self._due.items():
            wanted = name in self._unknown if unknown_only else now >= due
            if wanted and now - self._querying.get(name, float("-inf")) >= _LEASE_SECONDS:
                self._querying[name] = self._queried_at[name] = now
                self._due[name] = now + self.state.probe_pause(name)
                names.append(name)
        return names

    def unclaim(self, name: str) -> None:
        """Record that a query of a server finished, successfully or not."""
        self._querying.pop(name, None)
        self._unknown.discard(name)
        if self._due[name] > self._queried_at[name] + _AGAIN_SECONDS:  # else it became due again during the query
            self._due[name] = self.now() + self.state.probe_pause(name)

    def known(self, name: str) -> None:
        """Record that the facts for a first decision are available, while the query continues."""
        self._unknown.discard(name)

    def may_look_again(self) -> bool:
        """Return whether a request for a missing model may trigger a search on every server; limited in rate."""
        now = self.now()
        if now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return False
        self._looked_at = now
        return True

    def models_changed(self) -> None:
        """Make the next request wait for the model lists of servers whose models were created or deleted."""
        self._looked_at = float("-inf")
        self._unknown |= {name for name, facts in self.servers.items() if facts.installed_at is None}

    def _due_soon(self, name: str) -> None:
        """Make a server due at the next request, at most once a second."""
        if name in self._due:
            self._due[name] = min(self._due[name], self._queried_at.get(name, float("-inf")) + _AGAIN_SECONDS)

    # --- what requests cause ------------------------------------------------------------------------------------------

    def probe_answered(self, name: str, status: int, body: bytes, *, seconds: float) -> bool:
        """Record the response to a probe; return whether the server is up."""
        return self.state.probe_answered(name, status, body, probe_ms=seconds * 1000, now=self.now())

    def probe_failed(self, name: str, error: str, *, refused: bool) -> None:
        """Record that a probe failed."""
        self.state.probe_failed(name, error, now=self.now(), refused=refused)

    def is_no_ollama(self, name: str, error: str) -> None:
        """Record that a server's model list is not Ollama's."""
        self.state.is_no_ollama(name, error, now=self.now())

    def measure_soon(self, name: str) -> None:
        """Query a server's loaded models at the next request."""
        self._due_soon(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Query the models of one server, or of all, at the next request."""
        for server in self.servers if name is None else (name,):
            self.state.lists_are_due(server, self.now())
            self._due_soon(server)
