"""The core's `FleetState` for a transport, whose servers are asked for news when a request finds them due."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.client.system import Clock
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState

__all__ = ["FleetBook"]

_AGAIN_SECONDS = 1.0
"""Seconds between two questions to a server that requests cause, however many there are."""
_LOOK_AGAIN_SECONDS = 5.0
"""Seconds between two looks for models that nobody has."""
_LEASE_SECONDS = 60.0
"""Questions that have not ended by then have been lost, with their thread or event loop."""


class FleetBook:
    """What a transport believes about its servers, and who asks which of them next. Not for two threads at once.

    A transport has no task that polls: the request that finds a server due has it asked in the background.

    Attributes:
        state: what is believed and in flight; every rule about it is there.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self.state = FleetState(config)
        self._now = clock.monotonic
        self._unknown = set(self.state.servers)
        self._asking: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._due = dict.fromkeys(self.state.servers, float("-inf"))
        self._looked_at = float("-inf")
        self._replies: dict[tuple[str, str], bytes] = {}

    # --- who asks -----------------------------------------------------------------------------------------------------

    def has_unknown(self) -> bool:
        """Whether some server has never answered or failed a probe, or has to be asked before the next request."""
        return bool(self._unknown)

    def is_asking(self) -> bool:
        """Whether any server is being asked."""
        return bool(self._asking)

    def claim(self, *, unknown_only: bool = False, everything: bool = False) -> list[str]:
        """List servers whose facts are due and that nobody is asking; the caller asks each and calls `unclaim`."""
        now, names = self._now(), []
        for name, due in self._due.items():
            wanted = name in self._unknown if unknown_only else everything or now >= due
            if wanted and now - self._asking.get(name, float("-inf")) >= _LEASE_SECONDS:
                self._asking[name] = self._asked[name] = now
                self._due[name] = now + self.state.probe_pause(name)
                names.append(name)
        return names

    def unclaim(self, name: str) -> None:
        """Note that asking a server ended, well or not."""
        self._asking.pop(name, None)
        self._unknown.discard(name)
        if self._due[name] > self._asked[name] + _AGAIN_SECONDS:  # else it became due again meanwhile
            self._due[name] = self._now() + self.state.probe_pause(name)

    def known(self, name: str) -> None:
        """Note that what a first decision needs is there, although questions go on."""
        self._unknown.discard(name)

    def may_look_again(self) -> bool:
        """Whether a request that could not be placed may have every server asked for its models."""
        now = self._now()
        if now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return False
        self._looked_at = now
        for name in self.servers:
            self.state.lists_are_due(name, now)
        return True

    def models_changed(self) -> None:
        """Have the next request wait for the lists of servers whose models were made or deleted."""
        self._looked_at = float("-inf")
        self._unknown |= {name for name, facts in self.servers.items() if facts.installed_at is None}

    def _due_soon(self, name: str) -> None:
        """Have a server asked with the next request, but no more than once a second."""
        if name in self._due:
            self._due[name] = min(self._due[name], self._asked.get(name, float("-inf")) + _AGAIN_SECONDS)

    # --- what is believed ---------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now, this transport's own requests in flight included."""
        return self.state.snapshot(self._now())

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts by server; the mapping is replaced, never changed."""
        return self.state.servers

    @property
    def health(self) -> Health:
        """Breakers, the retry budget, drains."""
        return self.state.health

    @property
    def prefixes(self) -> Prefixes:
        """Which conversations' prompts servers still hold."""
        return self.state.prefixes

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server only knows this model as one of Ollama's hosted service."""
        return self.state.is_stub(model)

    def probe_answered(self, name: str, status: int, body: bytes, *, seconds: float) -> bool:
        """Note the answer to a probe; says whether the server is up."""
        return self.state.probe_answered(name, status, body, probe_ms=seconds * 1000, now=self._now())

    def probe_failed(self, name: str, error: str, *, refused: bool) -> None:
        """Note that a probe was not answered."""
        self.state.probe_failed(name, error, now=self._now(), refused=refused)

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Replace the facts about a server; says whether other models are now in its memory."""
        return self.state.update(name, change, self._now())

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep what a server answered on a path, for when it is slow; None forgets it."""
        if body is None:
            self._replies.pop((name, path), None)
        else:
            self._replies[name, path] = body

    def last_reply(self, name: str, path: str) -> bytes | None:
        """What a server answered last on a path."""
        return self._replies.get((name, path))

    def measure_soon(self, name: str) -> None:
        """Have a server asked what it has in memory, with the next request."""
        self._due_soon(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Have the models of one server, or of all, asked for again, with the next request."""
        for server in self.servers if name is None else (name,):
            self.state.lists_are_due(server, self._now())
            self._due_soon(server)

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """Have the lists asked for again after a request for a model found no server, at most once in five seconds."""
        if model is not None and self.state.may_refresh(self._now()):
            self.refresh_soon()

    # --- traffic ------------------------------------------------------------------------------------------------------

    @property
    def shares(self) -> bool:
        """Whether somebody else may free or take a server without this transport being told."""
        return False

    def begin(self, name: str) -> None:
        """Count a request that is sent to a server."""
        self.state.begin(name)

    def end(self, name: str) -> None:
        """Count a request to a server out."""
        self.state.end(name, self._now())

    def running(self, name: str) -> int:
        """Count the requests in flight on a server."""
        return self.state.running(name)

    def permit(self, server: str, *, forced: bool = False) -> BreakerPermit | None:
        """The right to send one request now; see `Health.permit`."""
        return self.state.permit(server, self._now(), forced=forced)

    def take_retry(self, waiting: int) -> bool:
        """Whether the retry budget has one more retry; `waiting` requests count as in flight too."""
        return self.state.take_retry(waiting)

    def retry_after(self) -> float | None:
        """Seconds until the first suspended server is tried again, None when none is suspended."""
        return self.state.health.retry_after(self._now())

    def sent(self, name: str, model: CanonicalName, num_ctx: int | None) -> bool:
        """Note that a request is on its way; says whether it begins the only load there."""
        return self.state.sent(name, model, num_ctx, self._now())

    def evicted(self, name: str, model: CanonicalName) -> None:
        """Note that a model was unloaded to make room."""
        self.state.evicted(name, model, self._now())

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn from an answer's metrics how fast a server is."""
        self.state.learn(server, model, sample)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Note that a server holds the prompt of a conversation."""
        self.state.holds(server, model, conversation, tokens)
