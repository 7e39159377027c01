"""How many requests a loaded model serves at once: told, one for some models, and learned from who had to wait.

Ollama lets a request wait for a slot in silence and without limit, and leaks the socket of a client that leaves it
there. Source: Ollama's server/sched.go, load, and llm/llama_server.go, Completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import EMPTY, InstalledModel, ModelFacts

__all__ = [
    "MLX",
    "LearnedSlots",
    "has_one_slot",
    "least_slots",
    "only_embeds",
    "parallel_slots",
    "slots_for",
    "told_slots",
    "without_reserved",
]

_ONE_AT_A_TIME = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe"}
    | {"nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
"""Families that Ollama runs with one slot, whatever OLLAMA_NUM_PARALLEL says."""

MLX = "safetensors"
"""The format of models that the MLX runner runs, one request at a time."""

_SURE, _MOST_VOTES = 2, 4
_MOST_SLOTS = 32
_TRIAL_SECONDS = 600.0
"""After so long one request more than was learned is sent again: the server may have got other settings."""
_WAITED_NS, _AT_ONCE_NS = 50_000_000, 10_000_000


def told_slots(installed: InstalledModel | None, host: Server) -> int | None:
    """Return the slots that a model's runner should have: one for some models, else what its operator said."""
    if installed is not None and (installed.format == MLX or _is_single(installed)):
        return 1
    return host.num_parallel


def slots_for(installed: InstalledModel | None, host: Server, learned: int | None = None) -> int:
    """Return the slots of a model's runner: told and learned, else Ollama's default of one."""
    return least_slots(told_slots(installed, host), learned) or 1


def least_slots(told: int | None, learned: int | None) -> int | None:
    """Return what holds of two numbers, None where neither is known: fewer than told make requests wait all the same.

    More than told are never learned, as no more are sent.
    """
    if told is None or learned is None:
        return told or learned
    return min(told, learned)


def parallel_slots(facts: ModelFacts | None, host: Server | None) -> int:
    """Return the slots that a runner's memory is estimated with."""
    if facts is not None and _is_single_by(facts.architecture, facts.capabilities):
        return 1
    return 1 if host is None else host.num_parallel or 1


def has_one_slot(family: str | None, format_: str | None, *, embeds: bool) -> bool:
    """Return whether Ollama serves one request at a time of a model of this family and format."""
    return format_ == MLX or embeds or family in _ONE_AT_A_TIME


def only_embeds(installed: InstalledModel) -> bool:
    """Return whether a model is known to answer nothing but embeddings."""
    told = _capabilities(installed)
    return told is not None and "completion" not in told


def _capabilities(installed: InstalledModel) -> frozenset[str] | None:
    told = None if installed.facts is None else installed.facts.capabilities
    return installed.capabilities if told is None else told


def _is_single(installed: InstalledModel) -> bool:
    facts = installed.facts
    architecture = installed.family if facts is None else facts.architecture or installed.family
    return _is_single_by(architecture, _capabilities(installed))


def _is_single_by(architecture: str | None, capabilities: frozenset[str] | None) -> bool:
    """Whether it embeds, or is of a family that allows one slot."""
    return architecture in _ONE_AT_A_TIME or (capabilities is not None and "completion" not in capabilities)


class LearnedSlots(Struct, frozen=True):
    """What a server's answers say about the slots of its runners.

    `votes[k - 1]` counts how often a request had to wait that found k others before it, less how often it did not.
    `alone_ns` is what its durations leave unexplained when nobody is before it, None until that was seen; `since` are
    seconds of the caller's clock.
    """

    votes: tuple[int, ...] = (0,) * _MOST_SLOTS
    alone_ns: float | None = None
    since: float = 0.0

    @property
    def slots(self) -> int | None:
        """The least number of requests that make the next one wait; None while that is not known."""
        return self._least(_SURE)

    @property
    def surest(self) -> int | None:
        """The same with all the votes that count: what its operator told is believed against a few odd answers."""
        return self._least(_MOST_VOTES)

    @property
    def proven(self) -> int | None:
        """The slots that requests which began at once have shown; None while there is nothing to compare waits with."""
        return None if self.alone_ns is None else 1 + self.surely_free

    @property
    def surely_free(self) -> int:
        """The requests that may be before one that still begins at once."""
        return next((index for index, vote in enumerate(self.votes) if vote > -_SURE), _MOST_SLOTS - 1)

    def _least(self, votes: int) -> int | None:
        return next((index for index, vote in enumerate(self.votes, 1) if vote >= votes), None)

    def observe(self, queued_ns: int, whole_ns: int, ahead: int, now: float) -> LearnedSlots:
        """Learn from one answer: `queued_ns` of its whole time are neither load nor work, `ahead` came before it."""
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
        """Whether so many before it are known not to matter: then it waited for requests that are not ours.

        It says nothing about more before it; where it happens often the server has fewer slots than it had.
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
    """What answers have said about the slots of each server.

    Attributes:
        parallel: slots by server, as far as waits have shown where they end; replaced, never changed.
        proven: slots that requests which began at once have shown; replaced, never changed.
    """

    def __init__(self) -> None:
        self._learned: dict[str, LearnedSlots] = {}
        self.parallel: Mapping[str, int] = EMPTY
        self.proven: Mapping[str, int] = EMPTY

    def observe(self, server: str, queued_ns: int, whole_ns: int, ahead: int, now: float, *, told: bool) -> None:
        """Learn from one answer, as `LearnedSlots` does; `told` are servers of which the operator said a number."""
        known = self._learned.get(server) or LearnedSlots()
        self._take(server, known.observe(queued_ns, whole_ns, ahead, now), told=told)

    def forget(self, server: str) -> None:
        """Know nothing of a server, as at the start."""
        self._take(server, LearnedSlots(), told=False)

    def of(self, server: str, told: int | None) -> int:
        """Return the slots of a server's runner as far as is known, one where nothing is.

        What is `told` holds until waits have shown fewer: that only one was needed so far says nothing against it.
        """
        return least_slots(told, self.parallel.get(server)) or self.proven.get(server, 1)

    def _take(self, server: str, learned: LearnedSlots, *, told: bool) -> None:
        self._learned[server] = learned
        self.parallel = _with(self.parallel, server, learned.surest if told else learned.slots)
        self.proven = _with(self.proven, server, learned.proven)


def without_reserved(
    slots: Mapping[str, int], reserved: Mapping[str, int], servers: Mapping[str, Server]
) -> Mapping[str, int]:
    """Return the slots that are left beside reserved ones, where a server has a limit at all."""
    found = dict(slots)
    for name, count in reserved.items():
        limits = [limit for limit in (slots.get(name), servers[name].max_concurrent) if limit]
        if limits:
            found[name] = max(0, min(limits) - count)
    return found


def _with(slots: Mapping[str, int], server: str, number: int | None) -> Mapping[str, int]:
    """Return the slots with those of one server; the same mapping where they are the same."""
    if number == slots.get(server):
        return slots
    others = {one: other for one, other in slots.items() if one != server}
    return MappingProxyType(others if number is None else {**others, server: number})
