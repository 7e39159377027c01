"""Polling results that one process shares with the others of its group, so that only one polls a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct, structs

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.inventory import FactStore, PollReply, copy_known_facts, update_facts
from ollama_router_core.fleet.observations import observe_ps, observe_tags, with_facts
from ollama_router_core.fleet.snapshot import ModelFacts, ServerFacts

__all__ = ["Reply", "Round", "learned_since", "moved_round", "take_over"]


class Reply(Struct, frozen=True, array_like=True):
    """A server's reply on a path. `asked` and `at` are in seconds of a monotonic clock."""

    path: str
    body: bytes
    asked: float
    at: float

    def as_poll_reply(self, wall: Callable[[float], float]) -> PollReply:
        """Return the reply as one to an own request; `wall` converts a time to seconds since 1970."""
        return PollReply(200, self.body, self.at, wall(self.at), self.asked)


class Round(Struct, frozen=True, array_like=True):
    """One polling round of a server that is up.

    `at` is when its probe succeeded, in seconds of a monotonic clock; an older round than the last is ignored.
    `version` is the body of the probe's reply; `learned` has the architectures found.
    """

    at: float
    probe_ms: float
    version: bytes
    replies: tuple[Reply, ...]
    learned: dict[CanonicalName, ModelFacts]


def moved_round(found: Round, seconds: float) -> Round:
    """Shift the times of a round by `seconds`, to another clock."""
    replies = tuple(structs.replace(one, asked=one.asked + seconds, at=one.at + seconds) for one in found.replies)
    return structs.replace(found, at=found.at + seconds, replies=replies)


def learned_since(before: ServerFacts, after: ServerFacts) -> dict[CanonicalName, ModelFacts]:
    """Return the architectures that a round found."""
    known = before.installed or {}
    models = (after.installed or {}).values()
    return {
        model.name: model.facts
        for model in models
        if model.facts is not None and (model.name not in known or known[model.name].facts != model.facts)
    }


def take_over(name: str, store: FactStore, found: Round, *, wall: Callable[[float], float]) -> frozenset[CanonicalName]:
    """Apply the valid replies of a round; return the models whose architecture is still unknown."""
    for reply in found.replies:
        change = _CHANGES.get(reply.path)
        if change is not None:
            update_facts(name, store, lambda _: None, partial(change, reply.as_poll_reply(wall)))
    store.update(name, partial(with_facts, learned=found.learned))
    return frozenset(model.name for models in copy_known_facts(name, store).values() for model in models)


def _tags(reply: PollReply, facts: ServerFacts) -> ServerFacts:
    return observe_tags(facts, reply.body, now=reply.now)


def _ps(reply: PollReply, facts: ServerFacts) -> ServerFacts:
    return observe_ps(facts, reply.body, now=reply.now, wall=reply.wall, asked=reply.asked)


_CHANGES: Mapping[str, Callable[[PollReply, ServerFacts], ServerFacts]] = {"/api/tags": _tags, "/api/ps": _ps}
