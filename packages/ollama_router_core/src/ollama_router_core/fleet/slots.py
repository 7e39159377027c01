"""The parallel requests of a loaded model: configured, fixed at one for some models, or learned from waits.

Ollama queues requests for a slot silently and without limit, and leaks the socket of a client that disconnects
while queued. Source: Ollama's server/sched.go, load, and llm/llama_server.go, Completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import EMPTY, MLX, InstalledModel, ModelFacts

__all__ = [
    "LearnedSlots",
    "configured_slots",
    "has_one_slot",
    "least_slots",
    "only_embeds",
    "parallel_slots",
    "slots_for",
    "without_reserved",
]

_ONE_AT_A_TIME = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe"}
    | {"nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
"""Families that Ollama runs with one slot, whatever OLLAMA_NUM_PARALLEL says."""

_SURE, _MOST_VOTES = 2, 4
_MOST_SLOTS = 32
_TRIAL_SECONDS = 600.0
"""Seconds until one request more than the learned slots is tried again, as the server's settings may have changed."""
_WAITED_NS, _AT_ONCE_NS = 50_000_000, 10_000_000


def configured_slots(installed: InstalledModel | None, host: Server) -> int | None:
    """Return the configured slots of a model's runner; one for models that allow no more."""
    if installed is not None and (installed.is_mlx or _is_single(installed)):
        return 1
    return host.num_parallel


def slots_for(installed: InstalledModel | None, host: Server, learned: int | None = None) -> int:
    """Return the slots of a model's runner: the lower of configured and learned, else Ollama's default of one."""
    return least_slots(configured_slots(installed, host), learned) or 1


def least_slots(configured: int | None, learned: int | None) -> int | None:
    """Return the lower of configured and learned slots, None if neither is known.

    More than the configured slots are never learned, as no more requests are sent.
    """
    if configured is None or learned is None:
        return configured or learned
    return min(configured, learned)


def parallel_slots(facts: ModelFacts | None, host: Server | None) -> int:
    """Return the slots for a runner's memory estimate."""
    if facts is not None and _is_single_by(facts.architecture, facts.capabilities):
        return 1
    return 1 if host is None else host.num_parallel or 1


def has_one_slot(family: str | None, format_: str | None, *, embeds: bool) -> bool:
    """Return whether Ollama serves models of this family and format one request at a time."""
    return format_ == MLX or embeds or family in _ONE_AT_A_TIME


def only_embeds(installed: InstalledModel) -> bool:
    """Return whether a model is known to support only embeddings."""
    capabilities = installed.reported_capabilities
    return capabilities is not None and "completion" not in capabilities


def _is_single(installed: InstalledModel) -> bool:
    facts = installed.facts
    architecture = installed.family if facts is None else facts.architecture or installed.family
    return _is_single_by(architecture, installed.reported_capabilities)


def _is_single_by(architecture: str | None, capabilities: frozenset[str] | None) -> bool:
    """Whether the model only embeds, or is of a family with one slot."""
    return architecture in _ONE_AT_A_TIME or (capabilities is not None and "completion" not in capabilities)


class LearnedSlots(Struct, frozen=True):
    """Slots of a server's runners, learned from its responses.

    `votes[k - 1]` counts how often a request with k others ahead had to wait, minus how often it did not. `alone_ns` is
    the unexplained part of the durations without others ahead, None until observed; `since` is in seconds of the
    caller's clock.
    """

    votes: tuple[int, ...] = (0,) * _MOST_SLOTS
    alone_ns: float | None = None
    since: float = 0.0

    @property
    def slots(self) -> int | None:
        """The lowest number of requests that makes the next one wait; None if unknown."""
        return self._least(_SURE)

    @property
    def surest(self) -> int | None:
        """The same by the maximum votes, so that a few outliers do not override the configured slots."""
        return self._least(_MOST_VOTES)

    @property
    def proven(self) -> int | None:
        """The slots proven by requests that started immediately; None without a baseline."""
        return None if self.alone_ns is None else 1 + self.surely_free

    @property
    def surely_free(self) -> int:
        """The number of requests ahead of one that still starts immediately."""
        return next((index for index, vote in enumerate(self.votes) if vote > -_SURE), _MOST_SLOTS - 1)

    def _least(self, votes: int) -> int | None:
        return next((index for index, vote in enumerate(self.votes, 1) if vote >= votes), None)

    def observe(self, queued_ns: int, whole_ns: int, ahead: int, now: float) -> LearnedSlots:
        """Learn from one response: `queued_ns` of its total are neither load nor work, `ahead` requests came first."""
        tried = self._tried_again(now)
        if not ahead:
            known = self.alone_ns
            return replace(tried, alone_ns=queued_ns if known is None else known + (queued_ns - known) / 8)
        if self.alone_ns is None:
            return self
        if queued_ns >= max(_WAITED_NS, 4 * self.alone_ns, whole_ns / 8):
            return tried.vote(ahead, tried.surely_free if tried.never_waits(ahead) else _MOST_SLOTS, 1)
        began_at_once = queued_ns <= max(_AT_ONCE_NS, 2 * self.alone_ns, whole_ns / 64)
        return tried.vote(1, ahead, -1) if began_at_once else tried

    def never_waits(self, ahead: int) -> bool:
        """Whether `ahead` requests are known not to cause waits, so that other clients' requests caused this one.

        It proves nothing about more requests ahead; frequent waits mean that the server now has fewer slots.
        """
        return ahead <= _MOST_SLOTS and self.votes[ahead - 1] <= -_SURE

    def vote(self, first: int, last: int, vote: int) -> LearnedSlots:
        """Count a vote for each number of requests from `first` to `last`."""
        votes = [
            max(-_MOST_VOTES, min(_MOST_VOTES, old + vote)) if first <= index <= last else old
            for index, old in enumerate(self.votes, 1)
        ]
        return replace(self, votes=tuple(votes))

    def _tried_again(self, now: float) -> LearnedSlots:
        slots = self.slots
        if slots is None:
            return replace(self, since=now)
        if now - self.since < _TRIAL_SECONDS:
            return self
        votes = (*self.votes[: slots - 1], _SURE - 1, *self.votes[slots:])
        return replace(self, votes=votes, since=now)


class SlotBook:
    """Learned slots of each server.

    Attributes:
        parallel: slots by server, learned from waits; replaced, never mutated.
        proven: slots by server, proven by immediate starts; replaced, never mutated.
    """

    def __init__(self) -> None:
        self._learned: dict[str, LearnedSlots] = {}
        self.parallel: Mapping[str, int] = EMPTY
        self.proven: Mapping[str, int] = EMPTY

    def observe(self, server: str, queued_ns: int, whole_ns: int, ahead: int, now: float, *, configured: bool) -> None:
        """Learn from one response, as `LearnedSlots`; `configured`: the server's slots are configured."""
        known = self._learned.get(server) or LearnedSlots()
        self._set(server, known.observe(queued_ns, whole_ns, ahead, now), configured=configured)

    def forget(self, server: str) -> None:
        """Delete what was learned about a server."""
        self._set(server, LearnedSlots(), configured=False)

    def of(self, server: str, configured: int | None) -> int:
        """Return the known slots of a server's runner, 1 if unknown.

        `configured` slots apply until waits show fewer.
        """
        return least_slots(configured, self.parallel.get(server)) or self.proven.get(server, 1)

    def _set(self, server: str, learned: LearnedSlots, *, configured: bool) -> None:
        self._learned[server] = learned
        self.parallel = _with(self.parallel, server, learned.surest if configured else learned.slots)
        self.proven = _with(self.proven, server, learned.proven)


def without_reserved(
    slots: Mapping[str, int], reserved: Mapping[str, int], servers: Mapping[str, Server]
) -> Mapping[str, int]:
    """Return the slots without reserved ones, for servers with a limit."""
    found = dict(slots)
    for name, count in reserved.items():
        limits = [limit for limit in (slots.get(name), servers[name].max_concurrent) if limit]
        if limits:
            found[name] = max(0, min(limits) - count)
    return found


def _with(slots: Mapping[str, int], server: str, number: int | None) -> Mapping[str, int]:
    """Return the slots with one server's replaced; the same mapping if unchanged."""
    if number == slots.get(server):
        return slots
    others = {one: other for one, other in slots.items() if one != server}
    return MappingProxyType(others if number is None else {**others, server: number})
