"""What an exchange asks about the world: settings, destinations, clocks, the fleet, limits."""

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
"""Which server a user's last upload went to, and until when that counts, by the user's id; None is a program."""


class Clock(Protocol):
    """Two clocks that must not be mixed."""

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""

    def wall(self) -> float:
        """Seconds since 1970 (UTC); may jump."""


class Fleet(Protocol):
    """What is believed about the servers, and what traffic adds to that."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now."""

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts about each enabled server."""

    @property
    def prefixes(self) -> Prefixes:
        """Which conversations servers still hold."""

    @property
    def prompts(self) -> PromptPrices:
        """How many tokens prompts are for each model."""

    def retry_after(self) -> float | None:
        """Seconds until the first suspended server is tried again, None when none is suspended."""

    def running(self, name: str) -> int:
        """Count the requests in flight on a server."""

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Count the requests in flight on a server, by model."""

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Those that the runner of a model serves there."""

    def is_stub(self, model: CanonicalName) -> bool:
        """Whether some server knows this model only as one of Ollama's hosted service."""

    def writes_text(self, model: CanonicalName | None) -> bool:
        """Whether some server told that this model can write text."""

    def sent(self, name: str, model: CanonicalName, load: Load) -> bool:
        """Note that a request is on its way; return whether it begins the only load there."""

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Change what is believed about a server; says whether other models are now in its memory."""

    def evicted(self, name: str, model: CanonicalName) -> None:
        """Note that a model was unloaded to make room."""

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn from an answer's metrics how fast a server is."""

    def learn_prompt(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """So many tokens were counted of a prompt."""

    def was_cached(self, conversation: int, server: str, tokens: int) -> None:
        """Learn from the next turn of a conversation, of whose prompt the server found `tokens` in its cache."""

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Note that a turn of a conversation was answered: the server holds its prompt."""

    def measure_soon(self, name: str) -> None:
        """Have a server asked what it has in memory, in the background."""

    def refresh_soon(self, name: str | None = None) -> None:
        """Have the models of one server, or of all, asked for again, in the background."""

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """Have the lists asked for again, within bounds, as a request for a model found no server."""

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep what a server answered on a path, for when it is slow; None forgets it."""

    def last_reply(self, name: str, path: str) -> bytes | None:
        """Return what a server answered last on a path."""


class Limits(Protocol):
    """What users have used of their limits."""

    def standing(self, user: Caller) -> Standing:
        """Where a user stands now, for header fields."""


class Environment:
    """What all exchanges of one router have in common.

    Args:
        config: the settings.
        destinations: servers and external hosts by name; those that ever were, as requests may be on their way there.
        fleet: what is believed about the servers.
        clock: of the times in what the fleet believes.
        limits: None where nobody is asked who they are, and nothing is counted.
        in_flight: exchanges that have not ended.
        alone: whether the router has one user at most.
        models_changed: tells that models were made or deleted, so that missing ones are looked for at once.

    Attributes:
        key: what conversations are told apart with; the same in all routers that share where they are held.
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
        """Go by another config from now on; exchanges under way take what is left of their steps from it."""
        self.config = config
        self.max_body = parse_size(config.limits.max_body)
