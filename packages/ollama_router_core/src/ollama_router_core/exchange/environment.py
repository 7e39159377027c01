"""What an exchange needs from its router: settings, destinations, clocks, the fleet, limits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from ollama_router_core.access.limits import Standing
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.config.settings import Config, parse_size
from ollama_router_core.exchange.events import Caller
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.prompt_prices import PromptPrices
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.learned_refusals import LearnedRefusals
from ollama_router_core.translate import KeptThoughts

__all__ = ["Clock", "Environment", "Fleet", "LastUploads", "Limits"]

LastUploads = OrderedDict[int | None, tuple[str, float]]
"""The server of each user's last upload and its expiry, by user id; None stands for an embedding program."""


class Clock(Protocol):
    """A monotonic and a wall clock, which must not be mixed."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never decreases."""

    def wall(self) -> float:
        """Return seconds since 1970 (UTC); may jump."""


class Fleet(Protocol):
    """The fleet state, and what traffic adds to it."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current fleet state."""

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts about each enabled server."""

    @property
    def prefixes(self) -> Prefixes:
        """The conversations that servers hold in their caches."""

    @property
    def prompts(self) -> PromptPrices:
        """Learned prompt token counts of each model."""

    def retry_after(self) -> float | None:
        """Return seconds until the first suspended server is tried again, None when none is suspended."""

    def running(self, name: str) -> int:
        """Count the requests in flight on a server."""

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Count the requests in flight on a server, by model."""

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Count the requests that a model's runner serves on a server."""

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server has this model only as a stub of Ollama's hosted service."""

    def writes_text(self, model: CanonicalName | None) -> bool:
        """Whether some server reports that this model can generate text."""

    def sent(self, name: str, model: CanonicalName, load: Load) -> bool:
        """Record a sent request; return whether it starts the only load on the server."""

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Change the facts of a server; return whether the models in its memory changed."""

    def evicted(self, name: str, model: CanonicalName) -> None:
        """Record that a model was unloaded to make room."""

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn a server's speed from the metrics of a response."""

    def learn_prompt(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Learn the token count of a prompt."""

    def was_cached(self, conversation: int, server: str, tokens: int) -> None:
        """Learn from a conversation's turn that the server had `tokens` of its prompt cached."""

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Record that a server answered a turn of a conversation and holds its prompt."""

    def measure_soon(self, name: str) -> None:
        """Poll a server's memory in the background."""

    def refresh_soon(self, name: str | None = None) -> None:
        """Refresh the models of one server, or of all, in the background."""

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """Refresh the model lists, rate limited, after a request found no server for a model."""

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep a server's last reply on a path, for when the server is slow; None deletes it."""

    def last_reply(self, name: str, path: str) -> bytes | None:
        """Return a server's last reply on a path."""


class Limits(Protocol):
    """Usage limits of the users."""

    def standing(self, user: Caller) -> Standing:
        """Return a user's current standing, for header fields."""


class Environment:
    """What all exchanges of one router share.

    Args:
        config: the settings.
        destinations: servers and external hosts by name, removed ones included, as requests may be in flight there.
        fleet: the fleet state.
        clock: the clock of the times in the fleet state.
        limits: usage limits; None without authentication, when nothing is counted.
        in_flight: returns the number of exchanges in progress.
        alone: returns whether the router has at most one user.
        models_changed: called after models are created or deleted, so that missing ones are looked for immediately.

    Attributes:
        key: hash key of conversation ids; the same in all routers that share prefix facts.
    """

    def __init__(
        self,
        *,
        config: Config,
        destinations: Mapping[str, Destination],
        fleet: Fleet,
        clock: Clock,
        limits: Limits | None = None,
        in_flight: Callable[[], int] = lambda: 0,
        alone: Callable[[], bool] = lambda: True,
        models_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.destinations = destinations
        self.fleet = fleet
        self.clock = clock
        self.now = clock.monotonic
        self.limits = limits
        self.in_flight = in_flight
        self.alone = alone
        self.models_changed = models_changed
        self.key = b""
        self.last_uploads: LastUploads = OrderedDict()
        self.thoughts = KeptThoughts()
        self.refusals = LearnedRefusals()
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Apply a new config, also to the remaining steps of exchanges in progress."""
        self.config = config
        self.max_body = parse_size(config.limits.max_body)
