"""What an exchange needs from its router: settings, destinations, clocks, the fleet, limits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from ollama_router_core.access.limits import Standing
from ollama_router_core.config.settings import Config, parse_size
from ollama_router_core.exchange.events import Caller
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.learned_refusals import LearnedRefusals
from ollama_router_core.translate import KeptThoughts

__all__ = ["Clock", "Environment", "LastUploads", "Limits"]

LastUploads = OrderedDict[int | None, tuple[str, float]]
"""The server of each user's last upload and its expiry, by user id; None stands for an embedding program."""


class Clock(Protocol):
    """A monotonic and a wall clock, which must not be mixed."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never decreases."""

    def wall(self) -> float:
        """Return seconds since 1970 (UTC); may jump."""


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
        fleet: ClockedFleet,
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
